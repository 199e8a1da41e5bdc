import os

import trio

import trio_ipc


async def worker(parent: trio_ipc.Channel, listener: trio.SocketListener) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        async for _ in parent:
            pass  # the end of the channel is the parent's sign to stop
        nursery.cancel_scope.cancel()


async def answer(stream: trio.SocketStream) -> None:
    try:
        await stream.send_all(f"accepted by process {os.getpid()}\n".encode())
    except trio.BrokenResourceError:
        pass  # the client has gone


async def main() -> None:
    [listener] = await trio.open_tcp_listeners(8000, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(run_worker, listener)


async def run_worker(listener: trio.SocketListener) -> None:
    async with trio_ipc.open_child(worker, listener) as child:
        await child.process.wait()


if __name__ == "__main__":
    trio.run(main)
