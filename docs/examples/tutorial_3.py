import itertools

import msgspec
import trio

import trio_ipc


class Connection(msgspec.Struct):
    """From the parent to a worker."""

    number: int
    stream: trio.SocketStream


class Answered(msgspec.Struct):
    """From a worker to the parent."""

    number: int
    people: int


# What the worker's end sends and receives, and what the parent's end does.
WorkersEnd = trio_ipc.Channel[Answered, Connection]
ParentsEnd = trio_ipc.ChildChannel[Connection, Answered]

numbers = itertools.count(1)


async def worker(parent: WorkersEnd) -> None:
    async with trio.open_nursery() as nursery:
        async for connection in parent:
            nursery.start_soon(answer, connection, parent)


async def answer(connection: Connection, parent: WorkersEnd) -> None:
    """The bill is 120: how much is it for each of so many people?"""
    async with connection.stream as stream:
        try:
            people = int(await read_line(stream))
            await stream.send_all(f"{120 // people} each\n".encode())
        except trio.BrokenResourceError:
            return  # the client has gone
    await parent.send(Answered(connection.number, people))


async def read_line(stream: trio.SocketStream) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = await stream.receive_some()
        if not part:
            raise trio.BrokenResourceError("the client has gone")
        line += part
    return line


async def run_worker(listener: trio.SocketListener, turn: trio.StrictFIFOLock) -> None:
    async with (
        trio_ipc.open_child(
            worker,
            message_type=Answered,
            child_message_type=Connection,
        ) as child,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(report, child)
        while True:
            async with turn:
                stream = await listener.accept()
            async with stream:
                await child.send(Connection(next(numbers), stream))


async def report(child: ParentsEnd) -> None:
    async for answered in child:
        print(f"connection {answered.number}: a bill for {answered.people}")


async def main() -> None:
    [listener] = await trio.open_tcp_listeners(8000, host="127.0.0.1")
    turn = trio.StrictFIFOLock()
    async with listener, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(run_worker, listener, turn)


if __name__ == "__main__":
    trio.run(main)
