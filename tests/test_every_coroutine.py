"""Each public coroutine x what may end it x where its channel is: struck at each of its steps.

A send that raised was not sent, and its handle is still the caller's; a receive that raised has
lost nothing; what closes has closed; and nothing is left behind.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest
import trio

import trio_ipc

from .interrupted_calls import METHODS, SCOPES, Scene
from .sweep import CAUSES, Cause

# Seconds after which a case is given up; it needs a hundredth of it.
LIMIT = 100

ON_ANY_CHANNEL = ("pair", "msgpack", "json", "advanced")
IN_SCOPES = ("msgpack", "json", "advanced")

# All there are, and where; what is done in each case is in `interrupted_calls`.
TABLE = {
    "open_child.__aenter__": IN_SCOPES,
    "open_child.__aexit__": IN_SCOPES,
    "open_parent.__aenter__": IN_SCOPES,
    "open_parent.__aexit__": IN_SCOPES,
    "ChildChannel.__aenter__": IN_SCOPES,
    "ChildChannel.__aexit__": IN_SCOPES,
    "ChildChannel.__anext__": IN_SCOPES,
    "ChildChannel.aclose": IN_SCOPES,
    "ChildChannel.drain": IN_SCOPES,
    "ChildChannel.receive": IN_SCOPES,
    "ChildChannel.send": IN_SCOPES,
    "Channel.__aenter__": ON_ANY_CHANNEL,
    "Channel.__aexit__": ON_ANY_CHANNEL,
    "Channel.__anext__": ON_ANY_CHANNEL,
    "Channel.aclose": ON_ANY_CHANNEL,
    "Channel.drain": ON_ANY_CHANNEL,
    "Channel.receive": ON_ANY_CHANNEL,
    "Channel.send": ON_ANY_CHANNEL,
    "SendChannel.__aenter__": ON_ANY_CHANNEL,
    "SendChannel.__aexit__": ON_ANY_CHANNEL,
    "SendChannel.aclose": ON_ANY_CHANNEL,
    "SendChannel.drain": ON_ANY_CHANNEL,
    "SendChannel.send": ON_ANY_CHANNEL,
    "ReceiveChannel.__aenter__": ON_ANY_CHANNEL,
    "ReceiveChannel.__aexit__": ON_ANY_CHANNEL,
    "ReceiveChannel.__anext__": ON_ANY_CHANNEL,
    "ReceiveChannel.aclose": ON_ANY_CHANNEL,
    "ReceiveChannel.receive": ON_ANY_CHANNEL,
}


def public_coroutines() -> Iterator[str]:
    """Those of the package that a user can wait for, wherever they are inherited from."""
    for name, value in vars(trio_ipc).items():
        if name.startswith("_"):
            continue
        if inspect.isclass(value):
            for member, method in inspect.getmembers(value, inspect.isroutine):
                if inspect.iscoroutinefunction(inspect.unwrap(method)):
                    assert not member.startswith("_") or member.startswith("__a"), member
                    yield f"{name}.{member}"
        elif inspect.isfunction(value):
            assert not inspect.iscoroutinefunction(value), name
            if "AsyncContextManager" in str(inspect.signature(value).return_annotation):
                yield f"{name}.__aenter__"
                yield f"{name}.__aexit__"


def test_the_table_has_every_public_coroutine() -> None:
    assert sorted(TABLE) == sorted(public_coroutines())


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.__name__)
@pytest.mark.parametrize(
    ("name", "setting"),
    [(name, setting) for name, settings in TABLE.items() for setting in settings],
)
def test_it_happened_or_it_did_not(name: str, setting: str, cause: Cause) -> None:
    if setting == "advanced":
        pytest.importorskip("v8serialize")
    case = SCOPES.get(name) or METHODS[name.partition(".")[2]]

    async def main() -> None:
        with trio.fail_after(LIMIT):
            await case(Scene(setting, name, cause))

    trio.run(main)  # of its own, because Ctrl-C is for the main task
