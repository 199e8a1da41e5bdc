from collections.abc import Iterator

import pytest
import trio
import trio.testing
import tutorial_5 as server

import trio_ipc
import trio_ipc.testing


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    with trio_ipc.testing.check_no_leaks():
        yield


@pytest.mark.trio
async def test_a_bill_is_split() -> None:
    client, stream = trio.testing.memory_stream_pair()
    parent, worker = trio_ipc.open_channel_pair(1)
    with parent, worker:
        await client.send_all(b"3\n")
        await server.answer(server.Connection(7, stream), worker)
        assert await client.receive_some() == b"40 each\n"
        assert await parent.receive() == {"number": 7, "people": 3}


async def ask(listener: trio.SocketListener, people: bytes) -> bytes:
    async with await trio.testing.open_stream_to_socket_listener(listener) as client:
        await client.send_all(people + b"\n")
        return b"".join([part async for part in client])


@pytest.mark.trio
async def test_the_server_survives_a_crash(capsys: pytest.CaptureFixture[str]) -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(60):
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listener)
            assert await ask(listener, b"4") == b"30 each\n"
            assert await ask(listener, b"0") == b""
            assert await ask(listener, b"5") == b"24 each\n"
            await listener.aclose()
    assert "tutorial_5:worker, exited with status 1" in capsys.readouterr().out


@pytest.mark.trio
async def test_the_server_stops_when_all_are_answered() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(60):
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listener)
            late = await trio.testing.open_stream_to_socket_listener(listener)
            async with late:  # it comes first, so it is accepted when the next one is answered
                assert await ask(listener, b"4") == b"30 each\n"
                await listener.aclose()
                await late.send_all(b"6\n")
                assert await late.receive_some() == b"20 each\n"
