from collections.abc import Iterator

import adder
import pytest
import trio

import trio_ipc
import trio_ipc.testing


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    with trio_ipc.testing.check_no_leaks():
        yield


@pytest.mark.trio
async def test_what_it_does_without_a_process() -> None:
    ours, theirs = trio_ipc.open_channel_pair(10)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(adder.worker, theirs)
            with ours:
                await ours.send([1, 2])
                assert await ours.receive() == 3
        theirs.close()


@pytest.mark.trio
async def test_that_it_runs_in_a_child() -> None:
    with trio.fail_after(60):
        async with trio_ipc.open_child(adder.worker) as child:
            await child.send([1, 2])
            assert await child.receive() == 3
    assert child.process.returncode == 0


@pytest.mark.trio
async def test_how_it_fails() -> None:
    with trio.fail_after(60):
        with pytest.raises(trio_ipc.ChildFailed) as caught:
            async with trio_ipc.open_child(adder.worker) as child:
                await child.send(["one"])
                await child.receive()
    assert "TypeError: unsupported operand" in caught.value.remote_traceback
