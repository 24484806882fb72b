"""The state of the containers of one `--root`: what makes `create`, `start` and `delete` separate programs.

    <root>/<id>/            made by create, removed by delete; its existence reserves the id
        state.json          Record, written when the process stands before its gate
        config.json         the configuration as it was at creation (later changes of the bundle have no effect)
        start.fifo          while the container is created and not started; init waits at its other end

The status is not stored: it follows from the FIFO, the process and the freezer.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from windlass.kernel import process
from windlass.kernel.cgroups import Cgroup, open_cgroup
from windlass.runtime import records

FIFO = "start.fifo"
_STATE = "state.json"
_CONFIG = "config.json"
_ID = re.compile(r"[\w+\-.]+", re.ASCII)


class CommandError(Exception):
    """The command cannot be done; the text is the message."""


class Record(NamedTuple):
    """What is known of a container.

    Attributes:
        pid: of its init; `start_time` (clock ticks since boot) tells it from a later process with this pid.
        bundle, rootfs: absolute paths.
        created: RFC 3339.
        cgroup: the path of its control group.
        owner: name of the user who created it.
    """

    id: str
    pid: int
    start_time: int
    bundle: str
    rootfs: str
    created: str
    oci_version: str
    annotations: dict[str, str]
    cgroup: str
    owner: str = ""


class Container:
    """One container of the store."""

    def __init__(self, directory: Path, record: Record) -> None:
        self.directory = directory
        self.record = record

    @property
    def alive(self) -> bool:
        """Whether its init exists and has not ended (a zombie has)."""
        return self.record.pid > 0 and process.is_process(self.record.pid, self.record.start_time)

    @property
    def status(self) -> str:
        """runtime-spec, "State": created, running, stopped; and paused, as other runtimes say."""
        if not self.alive:
            return "stopped"
        if (self.directory / FIFO).exists():
            return "created"
        try:
            return "paused" if self.cgroup().frozen() else "running"
        except OSError:
            return "running"

    def cgroup(self) -> Cgroup:
        """Its control group."""
        return open_cgroup(self.record.cgroup)

    def config(self) -> dict[str, Any]:
        """The configuration as it was at creation."""
        return _read(self.directory, _CONFIG) or {}

    def save_config(self, config: dict[str, Any]) -> None:
        """After an update of its resources."""
        _write(self.directory, _CONFIG, config)

    def state(self, status: str | None = None) -> dict[str, Any]:
        """The state as hooks and `state` get it (runtime-spec, "State"), and what other runtimes add."""
        record = self.record
        status = status or self.status
        state: dict[str, Any] = {
            "ociVersion": record.oci_version,
            "id": record.id,
            "pid": 0 if status == "stopped" else record.pid,
            "status": status,
            "bundle": record.bundle,
            "rootfs": record.rootfs,
            "created": record.created,
        }
        if record.annotations:
            state["annotations"] = record.annotations
        state["owner"] = record.owner
        return state


class Store:
    """All containers below one root directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def reserve(self, identifier: str) -> Path:
        """Make the directory of a new container.

        Raises:
            CommandError: the id is malformed or taken.
        """
        directory = self._directory(identifier)
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            directory.mkdir(mode=0o711)
        except FileExistsError:
            raise CommandError("container with given ID already exists") from None
        return directory

    def save(self, directory: Path, record: Record, config: dict[str, Any]) -> Container:
        """The container exists now."""
        _write(directory, _CONFIG, config)
        _write(directory, _STATE, record._asdict())
        return Container(directory, record)

    def load(self, identifier: str) -> Container:
        """Find a container.

        Raises:
            CommandError: there is none of this id.
        """
        directory = self._directory(identifier)
        try:
            found = _read(directory, _STATE)
        except (NotADirectoryError, FileNotFoundError):
            found = None
        if found is None:
            raise CommandError("container does not exist")
        return Container(directory, Record(**found))

    def remove(self, identifier: str) -> None:
        """Forget a container."""
        shutil.rmtree(self._directory(identifier), ignore_errors=True)

    def exists(self, identifier: str) -> bool:
        """Whether the id is taken, if only by a creation that was cut off."""
        return self._directory(identifier).is_dir()

    def list(self) -> Iterator[Container]:
        """All, by id; what is half made or damaged is left out."""
        if not self._root.is_dir():
            return
        for name in sorted(os.listdir(self._root)):
            try:
                yield self.load(name)
            except (CommandError, TypeError, ValueError):
                continue

    def _directory(self, identifier: str) -> Path:
        if not _ID.fullmatch(identifier) or identifier in (".", ".."):
            raise CommandError(f"invalid container id format: {identifier!r}")
        return self._root / identifier


def owner_name(uid: int) -> str:
    """A user's name, or his number where he has none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def now() -> str:
    """The time as `created` has it."""
    from windlass.logs.frames import format_time

    return format_time(time.time_ns())


def _read(directory: Path, name: str) -> dict[str, Any] | None:
    descriptor = records.open_directory(str(directory))
    try:
        return records.read(descriptor, name)
    finally:
        os.close(descriptor)


def _write(directory: Path, name: str, value: dict[str, Any]) -> None:
    descriptor = records.open_directory(str(directory))
    try:
        records.write(descriptor, name, value)
    finally:
        os.close(descriptor)
