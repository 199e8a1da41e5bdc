from pathlib import Path

import trio

import trio_ipc

PROGRAM = Path(__file__).with_name("node_worker.js")


async def main() -> None:
    [listener] = await trio.open_tcp_listeners(8000, host="127.0.0.1")
    async with listener, trio_ipc.open_child(PROGRAM) as child:
        await child.send({"numbers": [3, 1, 2]})
        print(await child.receive())
        while True:
            async with await listener.accept() as stream:
                await child.send({"greeting": "hello"}, stream)


if __name__ == "__main__":
    trio.run(main)
