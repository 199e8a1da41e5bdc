"""Node's ``child_process.fork()`` and ``send(message, handle)``, rethought for Trio.

A scope owns the child; what travels between the two processes are values, and a value may contain
live sockets.
"""

from ._channel import Channel as Channel
from ._channel import ChannelStatistics as ChannelStatistics
from ._channel import ChildChannel as ChildChannel
from ._channel import ReceiveChannel as ReceiveChannel
from ._channel import SendChannel as SendChannel
from ._errors import ChildFailed as ChildFailed
from ._errors import HandleNotDelivered as HandleNotDelivered
from ._errors import InvalidMessage as InvalidMessage
from ._errors import MessageTooLarge as MessageTooLarge
from ._errors import NoParent as NoParent
from ._errors import ProtocolError as ProtocolError
from ._errors import RemoteTraceback as RemoteTraceback
from ._errors import UnsupportedHandle as UnsupportedHandle
from ._errors import UnsupportedMessage as UnsupportedMessage
from ._open import open_channel_pair as open_channel_pair
from ._open import open_child as open_child
from ._open import open_parent as open_parent
from ._version import __version__ as __version__
from .wire import HandleMessage as HandleMessage

for _name, _value in list(globals().items()):  # they are public, wherever they are defined
    if getattr(_value, "__module__", "").startswith(__name__ + "."):
        _value.__module__ = __name__
del _name, _value
