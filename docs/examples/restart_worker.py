import trio

import trio_ipc


class TooManyFailures(Exception):
    """A worker failed again and again: it is not going to get better by itself."""


async def worker(parent: trio_ipc.Channel) -> None:
    async for number in parent:
        await parent.send(12 // (3 - number))  # a bug: it fails for 3


async def main() -> None:
    to_workers, jobs = trio.open_memory_channel[int](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_worker, jobs)
        async with to_workers:
            for number in range(6):
                await to_workers.send(number)


async def keep_worker(jobs: trio.MemoryReceiveChannel[int], most_failures: int = 5) -> None:
    """Start a worker, and another one when it has failed: at first soon, then later and later."""
    failures = 0
    while True:
        started = trio.current_time()
        try:
            return await run_worker(jobs)
        except trio_ipc.ChildFailed as exc:
            print(exc)
            if trio.current_time() - started > 60:
                failures = 0  # it has worked for a while, so this is a new story
            failures += 1
            if failures == most_failures:
                raise TooManyFailures from exc
        await trio.sleep(0.1 * 2**failures)


async def run_worker(jobs: trio.MemoryReceiveChannel[int]) -> None:
    async with trio_ipc.open_child(worker) as child:
        async for number in jobs:
            await child.send(number)
            print(number, await child.receive())


if __name__ == "__main__":
    trio.run(main)
