"""A group's directory in one hierarchy: reading, writing, making, listing and removing, by descriptor.

Paths are relative to the hierarchy's mount point and opened through its descriptor (`openat`): no path on the host is
resolved anew, no descriptor per group is kept, and many groups cost nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from windlass.kernel.cgroups.errors import CgroupError, file_error, write_error
from windlass.kernel.cgroups.hierarchy import MountPoint

DIRECTORY_MODE = 0o755
_DEEPEST = 64
_Parsed = TypeVar("_Parsed")
_Default = TypeVar("_Default")


class Directory(NamedTuple):
    """A group's directory in one hierarchy: `path` is relative to the mount point."""

    mount: MountPoint
    path: str

    def name(self, file: str = "") -> str:
        """The path on the host, for messages and for others."""
        return f"{self.mount.path}/{self._inside(file)}".removesuffix("/.")

    def _inside(self, file: str) -> str:
        """Relative to the mount point, also for the group that stands there."""
        return f"{self.path}/{file}".strip("/") or "."

    def child(self, name: str) -> Directory:
        return Directory(self.mount, self._inside(name))

    def parent(self) -> Directory:
        return Directory(self.mount, self.path.rpartition("/")[0])

    def open(self) -> int:
        """A descriptor of the directory, which the caller closes."""
        try:
            return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.mount.fd)
        except OSError as error:
            raise file_error(error, "open", self.name()) from None

    def read(self, file: str) -> str:
        """A control file's text. FileNotFoundError where there is none; CgroupError where it cannot be read."""
        try:
            fd = os.open(self._inside(file), os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.mount.fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise file_error(error, "open", self.name(file)) from None
        try:
            data = os.read(fd, 65536)
            if len(data) >= 4000:  # a file longer than the kernel's first page comes in pieces
                while more := os.read(fd, 65536):
                    data += more
        except OSError as error:
            if error.errno == errno.ENODEV:  # the group was removed between the two calls
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.name(file)) from None
            raise file_error(error, "read", self.name(file)) from None
        finally:
            os.close(fd)
        return data.decode("utf-8", "surrogateescape")

    def write(self, file: str, *values: str) -> None:
        """Write each value with a write of its own. FileNotFoundError where there is no such file; CgroupError else."""
        try:
            fd = os.open(self._inside(file), os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.mount.fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise write_error(error, self.name(file), values[0]) from None
        try:
            for value in values:
                try:
                    os.write(fd, value.encode("utf-8", "surrogateescape"))
                except OSError as error:
                    raise write_error(error, self.name(file), value) from None
        finally:
            os.close(fd)

    def put(self, file: str, *values: str) -> None:
        """As `write`, but a missing file is a CgroupError too."""
        try:
            self.write(file, *values)
        except FileNotFoundError as error:
            raise write_error(error, self.name(file), values[0]) from None

    def figure(self, file: str, parse: Callable[[str], _Parsed], missing: _Default) -> _Parsed | _Default:
        """A file's parsed text, or `missing` where there is no such file. ValueError if the text cannot be parsed."""
        try:
            return parse(self.read(file))
        except FileNotFoundError:
            return missing

    def exists(self, file: str = "") -> bool:
        try:
            os.stat(self._inside(file), dir_fd=self.mount.fd)
        except FileNotFoundError:
            return False
        return True

    def children(self) -> list[str]:
        """Names of the child groups; none where the group is gone."""
        try:
            # A directory has a link from each of its subdirectories: without any, there is nothing to list.
            if os.stat(self.path or ".", dir_fd=self.mount.fd).st_nlink == 2:
                return []
            fd = os.open(self.path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.mount.fd)
        except FileNotFoundError:
            return []
        try:
            with os.scandir(fd) as entries:
                return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        finally:
            os.close(fd)

    def walk(self, depth: int = 0) -> Iterator[Directory]:
        """This group and all below it, children before their parents."""
        if depth < _DEEPEST:
            for name in self.children():
                yield from self.child(name).walk(depth + 1)
        yield self

    def processes(self) -> list[int]:
        """Processes in this group and all below it. (One in another PID namespace shows as 0 and is left out.)"""
        found: dict[int, None] = {}
        for directory in self.walk():
            try:
                found.update(dict.fromkeys(map(int, directory.read("cgroup.procs").split())))
            except FileNotFoundError:
                continue  # removed meanwhile
            except CgroupError as error:
                if error.errno != errno.EOPNOTSUPP:  # a threaded group of v2: its domain lists its processes
                    raise
        found.pop(0, None)
        return list(found)

    def make(self) -> None:
        """Make the directory and the missing ones above it. CgroupError(EBUSY) if it is there and in use.

        An unused one of the same name is replaced, so that no setting of an earlier owner lives on in it.
        """
        for _ in range(8):
            try:
                os.mkdir(self.path, DIRECTORY_MODE, dir_fd=self.mount.fd)
                return
            except FileExistsError:
                self._remove_unused()
            except FileNotFoundError:
                # A parent is missing, or another engine has just removed it with its own last group: once more.
                for parent in self._missing_parents():
                    parent.make_if_missing()
            except OSError as error:
                raise file_error(error, "mkdir", self.name()) from None
        raise CgroupError(errno.ENOENT, f"mkdir {self.name()}: it is removed as often as it is made", file=self.name())

    def make_if_missing(self) -> None:
        try:
            os.mkdir(self.path, DIRECTORY_MODE, dir_fd=self.mount.fd)
        except (FileExistsError, FileNotFoundError):
            return
        except OSError as error:
            raise file_error(error, "mkdir", self.name()) from None

    def _missing_parents(self) -> list[Directory]:
        parts = self.path.split("/")[:-1]
        return [Directory(self.mount, "/".join(parts[: index + 1])) for index in range(len(parts))]

    def _remove_unused(self) -> None:
        count = len(self.processes())
        if count:
            raise CgroupError(
                errno.EBUSY, f"cgroup {self.name()} is not empty: {count} process(es) found", file=self.name()
            )
        if not self.remove_once():
            raise CgroupError(errno.EBUSY, f"rmdir {self.name()}: device or resource busy", file=self.name())

    def remove_once(self) -> bool:
        """One attempt to remove this group and those below it; False if something in them still lives."""
        for directory in self.walk():
            try:
                os.rmdir(directory.path, dir_fd=self.mount.fd)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno in {errno.EBUSY, errno.ENOTEMPTY}:
                    return False
                raise file_error(error, "rmdir", directory.name()) from None
        return True
