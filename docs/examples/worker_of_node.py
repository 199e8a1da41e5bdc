import trio

import trio_ipc


async def answer(message: dict[str, str], stream: trio.SocketStream) -> None:
    async with stream:
        try:
            await stream.send_all(f"Python answers {message['from']}\n".encode())
        except trio.BrokenResourceError:
            pass  # the client has gone


async def main() -> None:
    async with trio_ipc.open_parent() as parent, trio.open_nursery() as nursery:
        await parent.send("ready")
        async for message, stream in parent:
            nursery.start_soon(answer, message, stream)


if __name__ == "__main__":
    trio.run(main)
