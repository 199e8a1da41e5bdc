import os

import trio

import trio_ipc


async def worker(parent: trio_ipc.Channel) -> None:
    async for stream in parent:
        async with stream:
            await stream.send_all(f"answered by process {os.getpid()}\n".encode())


async def main() -> None:
    async with trio_ipc.open_child(worker) as child:
        print(f"process {os.getpid()} accepts, process {child.pid} answers")
        [listener] = await trio.open_tcp_listeners(8000, host="127.0.0.1")
        async with listener:
            while True:
                stream = await listener.accept()
                async with stream:
                    await child.send(stream)


if __name__ == "__main__":
    trio.run(main)
