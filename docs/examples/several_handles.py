import os
import tempfile

import trio

import trio_ipc


async def recorder(parent: trio_ipc.Channel) -> None:
    """Copies from one stream to another, and keeps a record in a file."""
    async for job in parent:
        with job["record"] as record:
            async with job["from"] as source, job["to"] as sink:
                async for part in source:
                    record.write(part)
                    await sink.send_all(part)
        await parent.send({"done": job["name"]})


async def main() -> None:
    with tempfile.TemporaryFile() as record:
        async with trio_ipc.open_child(recorder) as child:
            to_child, source = make_pipe()
            sink, from_child = make_pipe()
            async with to_child, source, sink, from_child:
                await child.send({"name": "tea", "from": source, "to": sink, "record": record})
                await to_child.send_all(b"one lump or two?\n")
                await to_child.aclose()
                print(b"".join([part async for part in from_child]))
            print(await child.receive())
        record.seek(0)
        print(record.read())


def make_pipe() -> tuple[trio.lowlevel.FdStream, trio.lowlevel.FdStream]:
    """The end to write to, and the end to read from."""
    reading, writing = os.pipe()
    return trio.lowlevel.FdStream(writing), trio.lowlevel.FdStream(reading)


if __name__ == "__main__":
    trio.run(main)
