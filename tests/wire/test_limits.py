"""What `Limits` makes of its arguments."""

from __future__ import annotations

import math
from typing import Any

import pytest

from trio_ipc.wire import Limits


@pytest.mark.parametrize(
    "limits",
    [
        Limits(),
        Limits(0, 0, 0),
        Limits(1, 1, 1),
        Limits(math.inf),
        Limits((1 << 32) - 1, (1 << 32) - 1024, 253),
    ],
)
def test_limits_that_make_sense(limits: Limits) -> None:
    limits.check()


def test_the_usual_limits() -> None:
    limits = Limits()
    assert limits.max_buffer_size == 1000
    assert limits.max_message_size == 16 * 1024 * 1024
    assert limits.max_handles == 16


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"max_buffer_size": -1}, ValueError, "max_buffer_size must be >= 0"),
        ({"max_buffer_size": 1.5}, TypeError, "max_buffer_size must be an integer or math.inf"),
        ({"max_buffer_size": math.nan}, TypeError, "must be an integer or math.inf"),
        ({"max_buffer_size": -math.inf}, TypeError, "must be an integer or math.inf"),
        ({"max_buffer_size": "1"}, TypeError, "must be an integer or math.inf"),
        ({"max_buffer_size": None}, TypeError, "must be an integer or math.inf"),
        ({"max_buffer_size": 1 << 32}, ValueError, r"must be less than 2\*\*32, or math.inf"),
        ({"max_message_size": -1}, ValueError, "max_message_size must be between 0 and 4294966272"),
        ({"max_message_size": (1 << 32) - 1023}, ValueError, "between 0 and 4294966272"),
        ({"max_message_size": 1.0}, TypeError, "max_message_size must be an integer"),
        ({"max_message_size": math.inf}, TypeError, "max_message_size must be an integer"),
        ({"max_handles": -1}, ValueError, "max_handles must be between 0 and 253"),
        ({"max_handles": 254}, ValueError, "max_handles must be between 0 and 253"),
        ({"max_handles": "1"}, TypeError, "max_handles must be an integer"),
    ],
)
def test_limits_that_make_none(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Limits(**arguments).check()
