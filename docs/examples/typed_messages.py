from __future__ import annotations

import msgspec
import trio

import trio_ipc


class Scale(msgspec.Struct, tag=True):
    """To the worker: from now on, multiply by this."""

    factor: float


class Job(msgspec.Struct, tag=True):
    """To the worker: some numbers."""

    name: str
    numbers: list[float]


class Done(msgspec.Struct, tag=True):
    """To the parent: their sum, scaled."""

    name: str
    total: float


class Refused(msgspec.Struct, tag=True):
    """To the parent: why there is none."""

    reason: str


ToWorker = Scale | Job
ToParent = Done | Refused


async def worker(parent: trio_ipc.Channel[ToParent, ToWorker]) -> None:
    factor = 1.0
    while True:
        try:
            message = await parent.receive()
        except trio_ipc.InvalidMessage as exc:
            await parent.send(Refused(str(exc)))
        except trio.EndOfChannel:
            break
        else:
            if isinstance(message, Scale):
                factor = message.factor
            else:
                await parent.send(Done(message.name, factor * sum(message.numbers)))


async def main() -> None:
    async with trio_ipc.open_child(
        worker, message_type=ToParent, child_message_type=ToWorker
    ) as child:
        await child.send(Scale(10))
        await child.send(Job("small", [1, 2]))
        print(await child.receive())
        wrong = Job("wrong", ["three"])  # type: ignore[list-item]  # as from an older parent
        await child.send(wrong)
        print(await child.receive())


if __name__ == "__main__":
    trio.run(main)
