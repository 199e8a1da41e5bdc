import itertools
import signal

import trio

import trio_ipc


async def worker(parent: trio_ipc.Channel) -> None:
    try:
        async for job in parent:
            await trio.sleep(0.1)  # the work
            await parent.send(job)
        print("worker: there is nothing left to do")
    finally:
        print("worker: tidied up")


async def main() -> None:
    async with (
        trio_ipc.open_child(worker, max_buffer_size=3) as child,
        trio.open_nursery() as nursery,
    ):
        sending = trio.CancelScope()
        nursery.start_soon(send_jobs, child, sending)
        nursery.start_soon(print_results, child)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            await anext(signals)
        print("stopping")
        sending.cancel()
        nursery.cancel_scope.deadline = trio.current_time() + 10


async def send_jobs(child: trio_ipc.ChildChannel, scope: trio.CancelScope) -> None:
    with scope:
        async with child.send_channel:  # when it is closed, the worker sees the end
            for number in itertools.count():
                await child.send(number)


async def print_results(child: trio_ipc.ChildChannel) -> None:
    async for result in child:
        print(f"job {result} is done")


if __name__ == "__main__":
    trio.run(main)
