"""Jobs that several requests may want at once, done once.

Two pulls of images that share a layer meet here: the first starts the job, the second joins it and sees its progress
from the latest message on. A job belongs to nobody and to all who wait: it is cancelled when the last one leaves, and
who comes while it cleans up waits for that and starts anew.

    key (chain ID) ──▶ Job: task, watchers [send, …], the latest message
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from windlass.images.transfer.progress import Message, Send

T = TypeVar("T")
Work = Callable[[Send], Awaitable[T]]


class _Job(Generic[T]):
    def __init__(self, work: Work[T]) -> None:
        self.watchers: list[Send] = []
        self.latest: Message | None = None
        self.abandoned = False
        self.task = asyncio.create_task(self._run(work))

    async def _run(self, work: Work[T]) -> T:
        return await work(self._send)

    def _send(self, entry: Message) -> None:
        self.latest = entry
        for send in self.watchers:
            send(dict(entry))


class Jobs(Generic[T]):
    """The jobs that are under way, by key."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job[T]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    async def run(self, key: str, work: Work[T], send: Send) -> T:
        """Do `work`, or join whoever does it already. Raises what the work raises."""
        while (job := self._jobs.get(key)) is not None and job.abandoned:
            await asyncio.gather(job.task, return_exceptions=True)
        if job is None:
            job = self._jobs[key] = _Job(work)
            job.task.add_done_callback(lambda task: self._ended(key, task))
        elif job.latest is not None:
            send(dict(job.latest))
        job.watchers.append(send)
        try:
            return await asyncio.shield(job.task)
        finally:
            job.watchers.remove(send)
            if not job.watchers and not job.task.done():
                job.abandoned = True
                job.task.cancel()
                await asyncio.gather(job.task, return_exceptions=True)

    def _ended(self, key: str, task: asyncio.Task[T]) -> None:
        job = self._jobs.get(key)
        if job is not None and job.task is task:
            del self._jobs[key]
        if not task.cancelled():
            task.exception()  # it has been given to the watchers
