import trio_ipc


async def worker(parent: trio_ipc.Channel) -> None:
    async for numbers in parent:
        await parent.send(sum(numbers))
