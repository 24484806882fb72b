"""One control group, whatever the version: what can be done with it, and what all versions do in the same way.

Settings are carried out as a plan (`resources.py`) whose steps are taken back, last first, if one of them is refused.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from windlass.kernel.cgroups.directory import Directory
from windlass.kernel.cgroups.errors import CgroupError, file_error, write_error
from windlass.kernel.cgroups.hierarchy import Hierarchy
from windlass.kernel.cgroups.resources import KEEP, Write
from windlass.kernel.cgroups.stats import CgroupStats


class _Done(NamedTuple):
    """A write that was carried out, and the value that takes it back."""

    directory: Directory
    file: str
    before: str | None
    joint: str


def _line_of(text: str, write: Write, value: str) -> str:
    """What to write to get back to `text`, which stood in the file before `value` was written."""
    if not write.key:
        return text.strip()
    for line in text.splitlines():
        if line.partition(" ")[0] == write.key:
            # `8:0 100` is written back as it is, `oom_kill_disable 0` as the bare 0 that is written to that file.
            return line if value.partition(" ")[0] == write.key else line.partition(" ")[2]
    return write.clear


class Cgroup(ABC):
    """A group by path. Making this object touches nothing: `create` makes the group, `remove` removes it.

    `path` is as `open_cgroup` takes it: with a leading slash below the mount points, without one below our own group.
    All methods raise `CgroupError` (an `OSError`) that names the file and the value. Not for use by several threads.
    """

    def __init__(self, hierarchy: Hierarchy, path: str) -> None:
        self.hierarchy = hierarchy
        self.path = path
        self._fresh = False

    # What a version does in its own way.

    @abstractmethod
    def create(self) -> None:
        """Make the group, and the groups above it where they are missing. EBUSY if it exists and is in use; on any
        error what was made is removed again."""

    @abstractmethod
    def apply(self, resources: Mapping[str, Any]) -> None:
        """Set OCI `linux.resources`, before or after processes are in; on an error, all that was changed is undone."""

    @abstractmethod
    def add(self, pid: int, *, beside: int | None = None) -> None:
        """Move a process, all its threads, into the group. `beside`: if the group can no longer hold processes because
        its own were moved to child groups (v2), go to the child group where the process `beside` is."""

    @abstractmethod
    def enter(self) -> None:
        """Move the calling process, which has one thread, into the group. Cheaper than `add` by milliseconds at times:
        moving oneself needs no grace period of the kernel's lock on all thread groups."""

    @abstractmethod
    def freeze(self, timeout: float = 10.0) -> None:
        """Stop all tasks and return when they stand still. ETIMEDOUT (and the group thawed) if one does not."""

    @abstractmethod
    def thaw(self) -> None:
        """Let the tasks go on."""

    @abstractmethod
    def frozen(self) -> bool:
        """Was the group frozen (and not thawed)?"""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL to every process in the group and below it, frozen or not, faster than they can fork."""

    @abstractmethod
    def stats(self) -> CgroupStats:
        """All figures. Missing controllers leave zeros and None."""

    @abstractmethod
    def oom_kill_count(self) -> int:
        """How often the OOM killer killed in this group; 0 where the group is gone or the kernel does not say."""

    @abstractmethod
    def oom_event_fd(self) -> int | None:
        """A new descriptor that becomes readable when something ran out of memory (or the group goes away): then read
        and discard its data, and ask `oom_kill_count`. None without a memory controller. The caller closes it."""

    @abstractmethod
    def fd(self) -> int | None:
        """v2: a new descriptor of the group for CLONE_INTO_CGROUP, which the caller closes. Else None."""

    def clone_fd(self) -> int | None:
        """A new descriptor for CLONE_INTO_CGROUP, which the caller closes: the group in v2's hierarchy, where there is
        one (also beside v1's). A process that was made with it calls `enter_rest`. None: it calls `enter`."""
        return self.fd()

    def enter_rest(self) -> None:  # noqa: B027 - in v2 there is nothing left to do
        """Move the calling process to where CLONE_INTO_CGROUP could not put it: into the group in v1's hierarchies."""

    @property
    @abstractmethod
    def paths(self) -> dict[str, str]:
        """Controller to directory on the host; on v2 one entry, "" to the directory."""

    @abstractmethod
    def _processes_directory(self) -> Directory:
        """The directory that lists the group's processes."""

    @abstractmethod
    def _directories(self) -> list[Directory]:
        """All directories of the group, the one of `_processes_directory` first."""

    @abstractmethod
    def directory_of(self, controller: str) -> Directory | None:
        """Where a controller's files are; None where the host has no such controller."""

    # What all versions do alike.

    def pids(self) -> list[int]:
        """Processes in the group and in the groups below it, in this process's PID namespace."""
        return self._processes_directory().processes()

    def exists(self) -> bool:
        """Is there such a group, or a part of it in one of the hierarchies?"""
        return any(directory.exists() for directory in self._directories())

    def remove(self, timeout: float = 2.0) -> None:
        """Remove the group and those below it, waiting for the last tasks to be gone. No error if it is gone already;
        EBUSY if something still lives in it after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        pause = 0.0005
        for directory in self._directories():
            while not directory.remove_once():
                left = deadline - time.monotonic()
                if left <= 0:
                    name = directory.name()
                    raise CgroupError(errno.EBUSY, f"rmdir {name}: device or resource busy", file=name)
                self._await_empty(directory, min(pause, left))
                pause = min(pause * 2, 0.05)

    def _await_empty(self, directory: Directory, seconds: float) -> None:
        """Wait for the group's last task to leave, `seconds` where there is no event to wait for."""
        time.sleep(seconds)

    def discard(self) -> bool:
        """Remove the group if it has neither tasks nor child groups, else leave it: for a parent that others may share.
        Is it gone?"""
        gone = True
        for directory in self._directories():
            try:
                os.rmdir(directory.path, dir_fd=directory.mount.fd)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in {errno.EBUSY, errno.ENOTEMPTY}:
                    raise file_error(error, "rmdir", directory.name()) from None
                gone = False
        return gone

    def _kill_by_signal(self) -> None:
        """Stop all, signal all, let go; again while someone escaped (came in between listing and stopping)."""
        deadline = time.monotonic() + 5.0
        while pids := self.pids():
            try:
                self.freeze(1.0)
            except CgroupError as error:
                # What cannot be stopped can still be signalled; without a freezer it takes a few more rounds.
                if error.errno not in {errno.ETIMEDOUT, errno.ENOENT}:
                    raise
            for pid in {*pids, *self.pids()}:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.thaw()
            if time.monotonic() > deadline:
                name = self._processes_directory().name()
                raise CgroupError(errno.EBUSY, f"kill {name}: processes remain: {pids}", file=name)
            time.sleep(0.0005)

    def _settle(self, writes: list[Write], finish: Callable[[], None]) -> None:
        """Carry out a plan and then `finish`, which does its part as a whole or not at all. On an error, take back what
        was done and raise it."""
        done: list[_Done] = []
        try:
            self._carry_out([write for write in writes if not self._is_default(write)], done)
            finish()
        except BaseException:
            self._take_back(done)
            raise

    def _is_default(self, write: Write) -> bool:
        return self._fresh and write.default is not None and all(v == write.default for _, v in write.choices)

    def _carry_out(self, writes: list[Write], done: list[_Done]) -> None:
        index = 0
        while index < len(writes):
            end = index + 1
            while end < len(writes) and writes[index].joint and writes[end].joint == writes[index].joint:
                end += 1
            pending = writes[index:end]
            while pending:
                pending = self._one_pass(pending, done)
            index = end

    def _one_pass(self, writes: list[Write], done: list[_Done]) -> list[Write]:
        """Try each write; returns those that were refused as invalid, of which another may now be possible."""
        refused: list[Write] = []
        first: CgroupError | None = None
        for write in writes:
            try:
                self._write(write, done)
            except CgroupError as error:
                if error.errno != errno.EINVAL or len(writes) == 1:
                    raise
                refused.append(write)
                first = first or error
        if first is not None and len(refused) == len(writes):
            raise first
        return refused

    def _write(self, write: Write, done: list[_Done]) -> None:
        directory = self.directory_of(write.controller)
        if directory is not None:
            for file, value in write.choices:
                try:
                    before = None if self._fresh else directory.read(file)
                    if value.startswith(KEEP):
                        value = directory.read(file).split(" ")[0] + value.removeprefix(KEEP)
                    directory.write(file, value)
                except FileNotFoundError:
                    continue
                undo = None if before is None else _line_of(before, write, value)
                done.append(_Done(directory, file, undo, write.joint))
                return
        file, value = write.choices[0]
        if write.optional or value == write.default:
            return
        if directory is None:
            message = f'failed to write "{value}" to {file}: cgroup controller {write.controller} is not available'
            raise CgroupError(errno.ENOENT, message, file=file, value=value)
        raise write_error(OSError(errno.ENOENT, os.strerror(errno.ENOENT)), directory.name(file), value)

    def _take_back(self, done: list[_Done]) -> None:
        """Write the earlier values, last first; twice, since joint ones may need each other's. A file that refuses its
        own earlier value (the kernel may have reclaimed nothing yet) does not hide the error that brought us here."""
        pending = [item for item in reversed(done) if item.before]
        for _ in range(2):
            refused = []
            for item in pending:
                try:
                    item.directory.write(item.file, item.before or "")
                except OSError:
                    refused.append(item)
            pending = refused
