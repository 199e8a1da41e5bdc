import trio

import trio_ipc


async def worker(parent: trio_ipc.Channel) -> None:
    async with trio.open_nursery() as nursery:
        async for stream in parent:
            nursery.start_soon(answer, stream)


async def answer(stream: trio.SocketStream) -> None:
    async with stream:
        try:
            async for part in stream:
                await stream.send_all(part.upper())
        except trio.BrokenResourceError:
            pass  # the client has gone


async def hand_out(listener: trio.SocketListener, turn: trio.StrictFIFOLock) -> None:
    async with trio_ipc.open_child(worker, max_buffer_size=100) as child:
        while True:
            async with turn:
                stream = await listener.accept()
            async with stream:
                await child.send(stream)


async def main() -> None:
    [listener] = await trio.open_tcp_listeners(8000, host="127.0.0.1")
    turn = trio.StrictFIFOLock()
    async with listener, trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(hand_out, listener, turn)


if __name__ == "__main__":
    trio.run(main)
