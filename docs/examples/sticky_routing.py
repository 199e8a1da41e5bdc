import os
import zlib
from contextlib import AsyncExitStack

import trio

import trio_ipc


async def worker(parent: trio_ipc.Channel) -> None:
    visits = 0
    async for stream in parent:
        visits += 1
        async with stream:
            try:
                await stream.send_all(f"visit {visits} at process {os.getpid()}\n".encode())
            except trio.BrokenResourceError:
                pass  # the client has gone


async def main() -> None:
    [listener] = await trio.open_tcp_listeners(8000, host="127.0.0.1")
    async with listener, AsyncExitStack() as stack:
        children = [await stack.enter_async_context(trio_ipc.open_child(worker)) for _ in range(4)]
        while True:
            async with await listener.accept() as stream:
                try:
                    address, *_ = stream.socket.getpeername()
                except OSError:
                    continue  # the client has gone
                child = children[zlib.crc32(address.encode()) % len(children)]
                await child.send(stream)


if __name__ == "__main__":
    trio.run(main)
