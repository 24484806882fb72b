"""The audit log's file: one JSON event a line, rotated by size, old files removed by number and age.

    audit.log                              now
    audit-2026-05-01T10-00-00.000.log      before; the time of its end

Source: kube-apiserver's flags --audit-log-path, -maxsize (MB), -maxbackup, -maxage (days)
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import orjson


class AuditLog:
    """Appends events. Called from one thread; a line is one write."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], datetime.datetime],
        *,
        max_size: int = 100 << 20,
        max_backup: int = 0,
        max_age: datetime.timedelta | None = None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._limits = (max_size, max_backup, max_age)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._open()

    def write(self, event: dict[str, Any]) -> None:
        """One event of audit.k8s.io/v1."""
        line = orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
        size = self._file.tell()
        if size and size + len(line) > self._limits[0]:
            self._rotate()
        self._file.write(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def backups(self) -> list[Path]:
        """Former files, oldest first."""
        return sorted(self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}"))

    def _open(self) -> BinaryIO:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        file = os.fdopen(descriptor, "ab", buffering=0)
        file.seek(0, os.SEEK_END)
        return file

    def _rotate(self) -> None:
        self._file.close()
        now = self._clock()
        stamp = now.strftime("%Y-%m-%dT%H-%M-%S.") + f"{now.microsecond:06d}"
        self._path.rename(self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
        self._file = self._open()
        _, count, age = self._limits
        former = self.backups()
        surplus = former[:-count] if count else []
        if age is not None:
            surplus += [path for path in former if path.stat().st_mtime < (now - age).timestamp()]
        for path in set(surplus):
            path.unlink(missing_ok=True)
