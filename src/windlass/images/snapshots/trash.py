"""Deleting in the background: a rename now, the work later, in a thread that lives as long as there is something to do.

A tree of ten thousand files takes a tenth of a second to delete; nobody shall wait for that, least of all the removal
of a container. What was renamed into the trash is not found by anybody any more; if we are killed, the next start
finds it there and goes on.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger("windlass.images")


class Trash:
    """A directory of what is to be deleted.

    Args:
        path: the directory; on the same file system as what is thrown away.
        destroy: deletes one thing in it, however it is made (a subvolume is not deleted like a directory).
    """

    def __init__(self, path: str, destroy: Callable[[str], None]) -> None:
        self._path = path
        self._destroy = destroy
        self._lock = threading.Lock()
        self._waiting: deque[str] = deque()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Go on with what was left."""
        os.makedirs(self._path, mode=0o700, exist_ok=True)
        for name in os.listdir(self._path):
            self._enqueue(f"{self._path}/{name}")

    def throw(self, path: str) -> None:
        """Make a path disappear, now. Nothing there is no error."""
        gone = f"{self._path}/{secrets.token_hex(8)}"
        try:
            os.rename(path, gone)
        except FileNotFoundError:
            return
        self._enqueue(gone)

    def drain(self) -> None:
        """Wait until it is empty."""
        while (thread := self._thread) is not None:
            thread.join()

    def _enqueue(self, path: str) -> None:
        with self._lock:
            self._waiting.append(path)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="trash", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                path = self._waiting.popleft()
            try:
                self._destroy(path)
            except OSError as error:
                log.warning("cannot delete %s now, the next start tries again: %s", path, error)
