"""Much of everything, in short forms; `tests.soak.load` has the long ones."""

from __future__ import annotations

import contextlib
import random
import shutil

import pytest

import trio_ipc

from .load import workers
from .load.carousel import Carousel
from .load.crowd import Crowd
from .load.full import send_large_both_ways
from .load.hostile import GUESTS, open_party
from .load.mixed import Life, growth, live, open_household
from .load.stopped import WAYS, pause_all
from .load.talking import KINDS, Conversation, open_kind

NO_NODE = shutil.which("node") is None
needs_node = pytest.mark.skipif(NO_NODE, reason="there is no node on the path")
BY_KIND = [
    pytest.param(kind, marks=needs_node if kind in ("json", "advanced") else ()) for kind in KINDS
]


@pytest.mark.parametrize("kind", BY_KIND)
async def test_messages_in_order_and_whole(kind: str) -> None:
    async with open_kind(kind, "send_back") as child:
        talk = Conversation(child, kind, handles=50)
        await talk.exchange(2000)
        await talk.compare_sums()


async def test_handles_go_there_and_come_back() -> None:
    async with trio_ipc.open_child(workers.return_handles) as child:
        await Carousel(child, random.Random(7)).run(3000)


async def test_children_who_all_talk_and_end_at_once() -> None:
    crowd = Crowd(KINDS[:1], len(Crowd.ENDS), random.Random(7))
    await crowd.run(200)
    assert crowd.seen["handles"] > 0
    assert {end: crowd.seen[end] for end in Crowd.ENDS} == dict.fromkeys(Crowd.ENDS, 1)


@pytest.mark.parametrize(
    ("kind", "before"),
    [
        ("function", False),
        ("script", True),
        pytest.param("json", True, marks=needs_node),
        pytest.param("advanced", False, marks=needs_node),
    ],
)
async def test_both_sides_send_the_largest_at_once(kind: str, before: bool) -> None:
    await send_large_both_ways(kind, 2, before=before)


async def test_a_hostile_child_beside_good_ones() -> None:
    """Each sort of it; of two, one is heard and one is not."""
    async with contextlib.AsyncExitStack() as stack:
        party = await open_party(stack, 2)
        for guest in GUESTS[::4] + GUESTS[3::4]:
            await party.endure(guest, 50)


async def test_peers_that_are_stopped_and_go_on() -> None:
    await pause_all(WAYS[: 4 if NO_NODE else None], 2)


@pytest.mark.parametrize("end", ["killed", "cancelled"])
async def test_a_life_that_ends_in_the_middle(end: str) -> None:
    life = Life("function", end, middle=True, check=True, messages=2000, handles=5)
    seen = await live(life, random.Random(7))
    assert seen[end] == 1


@needs_node
async def test_what_lives_on_holds_no_more_than_before() -> None:
    async with open_household(random.Random(7)) as household:
        await household.warm_up()
        await household.round(1, 50, contextlib.nullcontext)
        before = await household.take_stock()
        await household.round(3, 50, contextlib.nullcontext)
        assert not growth(before, await household.take_stock_after(before))


async def test_a_handle_that_somebody_keeps_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a life whose child is gone, and whose handle is not."""
    monkeypatch.setattr("tests.load.talking.PATIENCE", 0.01)
    near, far = trio_ipc.open_channel_pair(10)
    with near, far:
        talk = Conversation(near, "function", handles=1)
        kept = None
        with pytest.raises(AssertionError, match="somebody has the handles"):
            try:
                await talk._say(1)
                kept = (await far.receive())[-1]
                await talk.see_off()
            finally:
                if kept is not None:
                    await kept.aclose()
