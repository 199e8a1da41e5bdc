import trio

import trio_ipc


# Runs in the child, under its own trio.run.
async def worker(parent: trio_ipc.Channel) -> None:
    async for stream in parent:  # every message is an accepted connection
        async with stream:
            await stream.send_all(b"handled by a worker\n")


async def main() -> None:
    async with trio_ipc.open_child(worker) as child:  # spawns; child is a channel
        [listener] = await trio.open_tcp_listeners(8000, host="127.0.0.1")
        while True:
            async with await listener.accept() as stream:
                await child.send(stream)  # the connection moves to the child


if __name__ == "__main__":
    trio.run(main)
