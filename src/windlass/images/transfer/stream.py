"""A worker and the stream of its messages, tied together for life.

The client reads messages; a task does the work. When the reader leaves (the client hung up), the work is cancelled and
waited for; when the work fails, the reader gets the failure after the messages that came before it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

from windlass.images.transfer.progress import Channel, Message, Send


async def streaming(work: Callable[[Send], Awaitable[object]]) -> AsyncGenerator[Message, None]:
    """Run `work` with a function that sends messages; yield them; raise what it raises."""
    channel = Channel()

    async def run() -> None:
        try:
            await work(channel.send)
        finally:
            channel.close()

    task = asyncio.create_task(run())
    try:
        async with contextlib.aclosing(channel.read()) as entries:
            async for entry in entries:
                yield entry
        await task
    finally:
        if not task.done():
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def primed(messages: AsyncGenerator[Message, None]) -> AsyncGenerator[Message, None]:
    """Wait for the first message, so that a failure before it is raised here (and becomes an HTTP status)."""
    return _all(await anext(messages, None), messages)


async def _all(first: Message | None, messages: AsyncGenerator[Message, None]) -> AsyncGenerator[Message, None]:
    async with contextlib.aclosing(messages):
        if first is not None:
            yield first
        async for entry in messages:
            yield entry
