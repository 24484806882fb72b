"""Reading a log: tail, since, until, follow; in batches, beside a writer that appends and rotates.

The files are read and decoded in threads, a batch at a time, so the event loop never waits for a disk. Following waits
for inotify, not for the clock.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

from windlass.logs.cursor import Cursor
from windlass.logs.decoders import Decoder
from windlass.logs.entry import LogEntry
from windlass.logs.watch import changes

_SECOND = 1_000_000_000


class LogReader:
    """Reads the log at `path`, any number of times."""

    def __init__(self, path: str, decoder: Decoder) -> None:
        self._path = path
        self._decoder = decoder

    async def read(
        self,
        *,
        since: int = 0,
        until: int = 0,
        tail: int | None = None,
        follow: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        ended: asyncio.Event | None = None,
    ) -> AsyncIterator[list[LogEntry]]:
        """Yield the entries in the order in which they were written, in lists that are never empty.

        Args:
            since: nanoseconds since 1970; nothing older. 0: from the begin.
            until: nothing younger, and following ends then. 0: no end.
            tail: only the last so many records of the log (counted before the other filters, as dockerd does), None
                for all.
            follow: go on with what is written later, until `ended` is set and everything is read.
            stdout, stderr: which streams are wanted.
            ended: set when the writer has closed the log; without it following never ends by itself.
        """
        cursor = Cursor(self._path, self._decoder)
        busy: asyncio.Future[object] | None = None
        loop = asyncio.get_running_loop()
        wanted = {name for name, want in (("stdout", stdout), ("stderr", stderr)) if want}
        try:
            with changes(os.path.dirname(self._path) or ".") as changed:
                busy = loop.run_in_executor(None, lambda: cursor.start(tail=tail, since_ns=since))
                await asyncio.shield(busy)
                while True:
                    # Both before reading: what is written or ended meanwhile is seen in the next round.
                    last_round = not follow or (ended is not None and ended.is_set())
                    last_round = last_round or (until != 0 and time.time_ns() >= until)
                    changed.clear()
                    while True:
                        reading = loop.run_in_executor(None, cursor.read)
                        busy = reading  # type: ignore[assignment]
                        entries = await asyncio.shield(reading)
                        if not entries:
                            break
                        past = until != 0 and entries[-1].time_ns > until
                        chosen = _choose(entries, since=since, until=until, wanted=wanted)
                        if chosen:
                            yield chosen
                        if past:
                            return
                    if last_round:
                        return
                    await _wait(changed, ended, until)
        finally:
            # A thread cannot be cancelled: the files are closed behind it.
            if busy is not None and not busy.done():
                busy.add_done_callback(lambda _: cursor.close())
            else:
                cursor.close()


def _choose(entries: list[LogEntry], *, since: int, until: int, wanted: set[str]) -> list[LogEntry]:
    if not since and not until and len(wanted) == 2:
        return entries
    return [
        entry
        for entry in entries
        if entry.time_ns >= since and (not until or entry.time_ns <= until) and entry.stream in wanted
    ]


async def _wait(changed: asyncio.Event, ended: asyncio.Event | None, until: int) -> None:
    """Until the files change, the writer ends, or `until` has come."""
    waits = [asyncio.ensure_future(changed.wait())]
    if ended is not None:
        waits.append(asyncio.ensure_future(ended.wait()))
    timeout = max(0.0, (until - time.time_ns()) / _SECOND) if until else None
    try:
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
