"""Node's ``child_process.fork()`` and ``send(message, handle)``, rethought for Trio.

A scope owns the child; what travels between the two processes are values, and a value may contain
live sockets.
"""

from ._channel import (
    Channel as Channel,
    ChannelStatistics as ChannelStatistics,
    ChildChannel as ChildChannel,
    ReceiveChannel as ReceiveChannel,
    SendChannel as SendChannel,
)
from ._errors import (
    ChildFailed as ChildFailed,
    HandleNotDelivered as HandleNotDelivered,
    InvalidMessage as InvalidMessage,
    MessageTooLarge as MessageTooLarge,
    NoParent as NoParent,
    ProtocolError as ProtocolError,
    RemoteTraceback as RemoteTraceback,
    UnsupportedHandle as UnsupportedHandle,
    UnsupportedMessage as UnsupportedMessage,
)
from ._open import (
    open_channel_pair as open_channel_pair,
    open_child as open_child,
    open_parent as open_parent,
)
from ._version import __version__ as __version__
from .wire import HandleMessage as HandleMessage

for _name, _value in list(globals().items()):  # they are public, wherever they are defined
    if getattr(_value, "__module__", "").startswith(__name__ + "."):
        _value.__module__ = __name__
del _name, _value  # pyright: ignore[reportPossiblyUnboundVariable]
