"""Volumes on disk.

    <root>/
      <name>/
        volume.json     {"name", "driver", "labels", "options", "created"}
        _data/          what containers see, or the place where the volume's file system is mounted
        populating      there while an image's files are being copied in: what is in _data then is a part
      .new-<random>/    being made:    renamed to <name> when it is complete
      .gone-<random>/   being removed: renamed from <name> first

So a volume is there with all it needs or not at all, whenever the process is killed; `Records.load` finishes removals
and drops what was not finished. A directory without a readable record (another engine's, or a power cut's) is a volume
too: data is never dropped for want of a record.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from windlass.volumes import trees
from windlass.volumes.names import ANONYMOUS_LABEL, check_name

DATA: Final = "_data"
RECORD: Final = "volume.json"
POPULATING: Final = "populating"
_NEW: Final = ".new-"
_GONE: Final = ".gone-"
_LARGEST_RECORD: Final = 1 << 20
DIRECTORY_MODE: Final = 0o701
"""Passable, not listable: a user namespace's root must reach the data, and need not see what else there is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What a volume is. `labels` and `options` are None if none were given, as in the API; `created` is RFC 3339."""

    name: str
    driver: str = "local"
    labels: Mapping[str, str] | None = None
    options: Mapping[str, str] | None = None
    created: str = ""

    @property
    def anonymous(self) -> bool:
        """Did nobody name it?"""
        return ANONYMOUS_LABEL in (self.labels or {})

    def to_json(self) -> bytes:
        """The record's file."""
        return json.dumps(
            {
                "name": self.name,
                "driver": self.driver,
                "labels": self.labels,
                "options": self.options,
                "created": self.created,
            }
        ).encode()


def timestamp(seconds: float) -> str:
    """RFC 3339, in UTC, by the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _strings(value: object) -> dict[str, str] | None:
    if not isinstance(value, dict):
        return None
    return {str(key): str(item) for key, item in value.items()}


def parse_record(data: bytes, name: str, fallback: str) -> Record:
    """The record of volume `name`; what cannot be read has the creation time `fallback` and nothing else."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = {}
    if not isinstance(found, dict):
        found = {}
    return Record(
        name=name,
        driver="local",
        labels=_strings(found.get("labels")),
        options=_strings(found.get("options")),
        created=str(found.get("created") or fallback),
    )


@dataclass
class Records:
    """The directory of volumes. All methods block; all raise `OSError`.

    `owner` is the user and group that containers' root is on this host.
    """

    root: str
    owner: tuple[int, int] = (0, 0)
    _fd: int = field(default=-1, init=False)

    def open(self) -> None:
        """Make the directory if need be, and hold it."""
        os.makedirs(self.root, mode=DIRECTORY_MODE, exist_ok=True)
        self._fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def data(self, name: str) -> str:
        """The path of a volume's data."""
        return f"{self.root}/{name}/{DATA}"

    def load(self) -> dict[str, Record]:
        """All volumes, once what an earlier process left half done is cleared away."""
        found: dict[str, Record] = {}
        for name in sorted(os.listdir(self._fd)):
            if name.startswith((_NEW, _GONE)):
                with suppress(OSError):  # an immutable file, a failing disk: no reason to refuse service
                    trees.remove(self._fd, name)
            elif (record := self._load_one(name)) is not None:
                found[name] = record
        return found

    def _load_one(self, name: str) -> Record | None:
        try:
            check_name(name)
            info = os.stat(f"{name}/{DATA}", dir_fd=self._fd, follow_symlinks=False)
        except Exception:  # not a volume's directory: leave it alone
            return None
        try:
            fd = os.open(f"{name}/{RECORD}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._fd)
            try:
                data = os.read(fd, _LARGEST_RECORD)
            finally:
                os.close(fd)
        except OSError:
            data = b""
        return parse_record(data, name, timestamp(info.st_ctime))

    def create(self, record: Record) -> None:
        """Make a volume. FileExistsError if there is one of that name."""
        fresh = _NEW + secrets.token_hex(8)
        os.mkdir(fresh, DIRECTORY_MODE, dir_fd=self._fd)
        try:
            os.mkdir(f"{fresh}/{DATA}", 0o755, dir_fd=self._fd)
            if self.owner != (0, 0):
                os.chown(f"{fresh}/{DATA}", *self.owner, dir_fd=self._fd)
            self._write(f"{fresh}/{RECORD}", record.to_json(), durable=not record.anonymous)
            try:
                os.rename(fresh, record.name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            except OSError as error:
                if os.path.lexists(f"{self.root}/{record.name}"):
                    raise FileExistsError(error.errno, os.strerror(error.errno or 0), record.name) from None
                raise
        except BaseException:
            trees.remove(self._fd, fresh)
            raise
        # Nobody depends on an anonymous volume once the machine that held its container has lost power.
        if not record.anonymous:
            os.fsync(self._fd)

    def _write(self, name: str, data: bytes, *, durable: bool) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._fd)
        try:
            while data:
                data = data[os.write(fd, data) :]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)

    def detach(self, name: str) -> str:
        """The first step of removing a volume, after which it is gone for good; what it returns is for `discard`."""
        gone = _GONE + secrets.token_hex(8)
        os.rename(name, gone, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        os.fsync(self._fd)
        return gone

    def discard(self, gone: str) -> None:
        """The second step: remove the data. No mount may be in it. What an error leaves goes with the next `load`."""
        trees.remove(self._fd, gone)

    def is_populating(self, name: str) -> bool:
        """Was a copy of an image's files into the volume begun and not finished?"""
        return os.path.lexists(f"{self.root}/{name}/{POPULATING}")

    def begin_populating(self, name: str) -> None:
        """Say so, before the first file is copied."""
        os.close(os.open(f"{name}/{POPULATING}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._fd))

    def end_populating(self, name: str) -> None:
        """The copy is complete, or nothing of it is left."""
        try:
            os.unlink(f"{name}/{POPULATING}", dir_fd=self._fd)
        except FileNotFoundError:
            return
