"""inotify: wake whoever waits for a change in a folder.

One inotify instance for each event loop, shared by all its readers (the kernel allows a user 128 of them), made when
the first begins to watch and closed when the last stops. Events carry no promise but "look again": their content is
not read.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

_IN_MODIFY = 0x2
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_IN_ONLYDIR = 0x01000000
_EVENTS = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE | _IN_ONLYDIR
_HEADER = 16

_libc = ctypes.CDLL(None, use_errno=True)
_watchers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Watcher] = weakref.WeakKeyDictionary()


@contextmanager
def changes(folder: str) -> Iterator[asyncio.Event]:
    """An event that is set by every change of a file in `folder`; the waiter clears it.

    Raises:
        OSError: the folder does not exist, or the kernel's limits are reached.
    """
    loop = asyncio.get_running_loop()
    watcher = _watchers.get(loop)
    if watcher is None:
        watcher = _watchers[loop] = Watcher(loop)
    changed = asyncio.Event()
    try:
        number = watcher.add(folder, changed)
        try:
            yield changed
        finally:
            watcher.remove(number, changed)
    finally:
        if watcher.idle:
            _watchers.pop(loop, None)
            watcher.close()


class Watcher:
    """One inotify instance (inotify(7)) on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._descriptor = _check(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")
        self._waiting: dict[int, set[asyncio.Event]] = {}
        loop.add_reader(self._descriptor, self._read)

    @property
    def idle(self) -> bool:
        """Whether nobody waits."""
        return not self._waiting

    def add(self, folder: str, changed: asyncio.Event) -> int:
        """Watch `folder`; the same folder has the same number."""
        number = _check(_libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _EVENTS), folder)
        self._waiting.setdefault(number, set()).add(changed)
        return number

    def remove(self, number: int, changed: asyncio.Event) -> None:
        """Stop to wait."""
        waiting = self._waiting.get(number, set())
        waiting.discard(changed)
        if not waiting and self._waiting.pop(number, None) is not None:
            _libc.inotify_rm_watch(self._descriptor, number)  # fails where the folder is gone, and the watch with it

    def close(self) -> None:
        """Release the instance."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        at = 0
        while at + _HEADER <= len(data):
            number = int.from_bytes(data[at : at + 4], "little", signed=True)
            at += _HEADER + int.from_bytes(data[at + 12 : at + 16], "little")
            # -1: the kernel's queue has overflowed; then everybody looks.
            for changed in self._waiting.get(number, set()) if number >= 0 else set().union(*self._waiting.values()):
                changed.set()


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result
