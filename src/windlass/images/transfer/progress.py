"""Progress messages, as dockerd streams them and as every client parses them.

    {"status": "Pulling from library/debian", "id": "12"}                            a message
    {"status": "Downloading", "id": "0123456789ab", "progress": "[==>  ] …",         how far an action is
     "progressDetail": {"current": 1, "total": 2}}
    {"status": "Pull complete", "progressDetail": {}, "id": "0123456789ab"}          an action
    {"progressDetail": {}, "aux": {"Tag": …, "Digest": …, "Size": …}}                for programs

A `Channel` carries them from the tasks that work to the one that writes them out. It never blocks the work and is never
longer than a few entries for each id: a newer figure of the same action takes the place of one not yet written.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

Message = dict[str, Any]
Send = Callable[[Message], None]

_PERIOD: Final = 0.1
_SMALLEST_STEP: Final = 512 << 10
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")


def message(text: str, *, id: str = "") -> Message:
    """A line of text, about `id` where given."""
    return {"status": text, "id": id} if id else {"status": text}


def action(id: str, status: str) -> Message:
    """What is happening to `id`."""
    return {"status": status, "progressDetail": {}, "id": id}


def progress(id: str, status: str, current: int, total: int) -> Message:
    """How far an action on `id` has come, in bytes; `total` 0 is unknown."""
    detail = {key: value for key, value in (("current", current), ("total", total)) if value > 0}
    return {"status": status, "progressDetail": detail, "progress": progress_bar(current, total), "id": id}


def aux(document: Message) -> Message:
    """Something for programs."""
    return {"progressDetail": {}, "aux": document}


def progress_bar(current: int, total: int) -> str:
    """The bar that old clients print as it is: fifty characters and two sizes."""
    if current <= 0 and total <= 0:
        return ""
    if total <= 0:
        return f"{human_size(current):>8}"
    filled = min(int(current / total * 100) // 2, 50)
    bar = f"[{'=' * filled}>{' ' * (50 - filled)}] "
    if current > total:
        return f"{bar}{human_size(current):>8}"
    return f"{bar}{human_size(current):>8}/{human_size(total)}"


def human_size(size: float) -> str:
    """Decimal units, four significant digits: `1.234MB`."""
    unit = 0
    while size >= 1000.0 and unit < len(_UNITS) - 1:
        size /= 1000.0
        unit += 1
    return f"{size:.4g}{_UNITS[unit]}"


def short_id(digest: str) -> str:
    """The twelve digits that stand for a layer."""
    return digest.partition(":")[2][:12]


class Meter:
    """Turns a stream of byte counts into few messages: at each hundredth, at most ten a second, and at the end."""

    def __init__(
        self, send: Send, id: str, status: str, total: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send = send
        self._id = id
        self._status = status
        self._total = total
        self._step = min(total // 100, _SMALLEST_STEP) if total else _SMALLEST_STEP
        self._clock = clock
        self._reported = 0
        self._next = 0.0

    def __call__(self, current: int) -> None:
        """Report that `current` bytes are done."""
        if abs(current - self._reported) <= self._step and current != self._total:
            return
        now = self._clock()
        if current != self._total and now < self._next:
            return
        self._next = now + _PERIOD
        self._reported = current
        self._send(progress(self._id, self._status, current, self._total))


class Channel:
    """Messages between the workers and the stream to the client. One reader; senders on the same loop."""

    def __init__(self) -> None:
        self._waiting: deque[Message] = deque()
        self._latest: dict[str, Message] = {}
        self._ready = asyncio.Event()
        self._closed = False

    def send(self, entry: Message) -> None:
        """Put a message on its way; figures of an action replace the older ones that still wait."""
        id = entry.get("id", "")
        old = self._latest.get(id) if id else None
        if old is not None and old.get("progress") and entry.get("progress") and old["status"] == entry["status"]:
            old.update(entry)
        else:
            self._waiting.append(entry)
            if id:
                self._latest[id] = entry
        self._ready.set()

    def close(self) -> None:
        """No more messages; the reader ends when it has read what is there."""
        self._closed = True
        self._ready.set()

    async def read(self) -> AsyncGenerator[Message, None]:
        """The messages, until `close`."""
        while True:
            while self._waiting:
                entry = self._waiting.popleft()
                id = entry.get("id", "")
                if self._latest.get(id) is entry:
                    del self._latest[id]
                yield entry
            if self._closed:
                return
            self._ready.clear()
            await self._ready.wait()
