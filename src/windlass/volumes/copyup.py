"""Filling a new volume with what the image has at the place where it is mounted.

Owners, modes, times, extended attributes (capabilities and ACLs among them), hard links, holes, devices, FIFOs and
symbolic links come over as they are; sockets do not. The image's tree is not trusted: every step down in either tree is
an `openat2` that follows no link, and entries are made relative to a directory that is held open.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from windlass.kernel.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

Owner = Callable[[int, int], tuple[int, int]]
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_BENEATH: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_SKIPPED_ATTRIBUTES: Final = ("trusted.overlay.", "user.overlay.", "security.selinux", "security.ima", "security.evm")
"""An overlay's own, and those that the volume's file system or policy gives its files itself."""


def copy_up(image_dir_fd: int, volume_path: str, *, owner: Owner | None = None) -> bool:
    """Copy a directory of an image into an empty volume, and its owner, mode and times onto the volume's directory.

    Args:
        image_dir_fd: descriptor of the image's directory (resolved inside the image by the caller).
        volume_path: the volume's data directory.
        owner: translates user and group of the image into those of the volume (user namespaces).

    Returns:
        False if the volume was not empty: then nothing is copied.

    Raises:
        OSError: the first failure; a part of the files is then in the volume.
    """
    target = os.open(volume_path, _DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(target) as entries:
            if any(True for _ in entries):
                return False
        source = os.open(".", _DIRECTORY | os.O_CLOEXEC, dir_fd=image_dir_fd)
        try:
            _Copy(source, target, owner or (lambda uid, gid: (uid, gid))).run()
        finally:
            os.close(source)
    finally:
        os.close(target)
    return True


@dataclass
class _Copy:
    source: int
    target: int
    owner: Owner
    # First copy of each file that has several links: where in the target.
    links: dict[tuple[int, int], str] = field(default_factory=dict)

    def run(self) -> None:
        """Directories by their path from the top, so that depth costs neither stack nor descriptors. Their attributes
        come last, the deepest first: a read-only directory must be filled before, and filling changes its times."""
        done: list[str] = []
        pending = ["."]
        while pending:
            relative = pending.pop()
            done.append(relative)
            source = openat2(self.source, relative, _DIRECTORY, resolve=_BENEATH)
            try:
                target = openat2(self.target, relative, _DIRECTORY, resolve=_BENEATH)
                try:
                    pending += self._entries(source, target, relative)
                finally:
                    os.close(target)
            finally:
                os.close(source)
        for relative in reversed(done):
            self._directory_attributes(relative)

    def _entries(self, source: int, target: int, relative: str) -> list[str]:
        below = []
        with os.scandir(source) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            info = os.stat(name, dir_fd=source, follow_symlinks=False)
            path = f"{relative}/{name}"
            if stat.S_ISDIR(info.st_mode):
                os.mkdir(name, 0o700, dir_fd=target)
                below.append(path)
            elif not stat.S_ISSOCK(info.st_mode):
                self._one(source, target, name, info, path)
        return below

    def _one(self, source: int, target: int, name: str, info: os.stat_result, path: str) -> None:
        key = (info.st_dev, info.st_ino)
        if info.st_nlink > 1 and key in self.links:
            self._link(self.links[key], target, name)
            return
        if info.st_nlink > 1:
            self.links[key] = path
        if stat.S_ISREG(info.st_mode):
            self._file(source, target, name, info)
            return
        if stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, stat.S_IFMT(info.st_mode) | 0o600, info.st_rdev, dir_fd=target)
        os.chown(name, *self.owner(info.st_uid, info.st_gid), dir_fd=target, follow_symlinks=False)
        # No descriptor of such a file can be had without its driver's or reader's help: by path, the last step a link.
        _copy_attributes(f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}")
        if not stat.S_ISLNK(info.st_mode):
            os.chmod(f"/proc/self/fd/{target}/{name}", stat.S_IMODE(info.st_mode))
        os.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=target, follow_symlinks=False)

    def _link(self, first: str, target: int, name: str) -> None:
        fd = openat2(self.target, first, os.O_PATH | os.O_NOFOLLOW, resolve=RESOLVE_BENEATH)
        try:
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=target, follow_symlinks=True)
        finally:
            os.close(fd)

    def _file(self, source: int, target: int, name: str, info: os.stat_result) -> None:
        reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            writing = os.open(name, flags, 0o600, dir_fd=target)
            try:
                _copy_data(reading, writing, info.st_size)
                os.fchown(writing, *self.owner(info.st_uid, info.st_gid))
                _copy_attributes(reading, writing)  # after the owner: changing that drops capabilities
                os.fchmod(writing, stat.S_IMODE(info.st_mode))
                os.utime(writing, ns=(info.st_atime_ns, info.st_mtime_ns))
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    def _directory_attributes(self, relative: str) -> None:
        source = openat2(self.source, relative, _DIRECTORY, resolve=_BENEATH)
        try:
            target = openat2(self.target, relative, _DIRECTORY, resolve=_BENEATH)
            try:
                info = os.fstat(source)
                os.fchown(target, *self.owner(info.st_uid, info.st_gid))
                _copy_attributes(source, target)
                os.fchmod(target, stat.S_IMODE(info.st_mode))
                os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
            finally:
                os.close(target)
        finally:
            os.close(source)


def _copy_attributes(source: int | str, target: int | str) -> None:
    follow = isinstance(source, int)
    try:
        names = os.listxattr(source, follow_symlinks=follow)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return
        raise
    for name in names:
        if not name.startswith(_SKIPPED_ATTRIBUTES):
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=follow), follow_symlinks=follow)


def _copy_data(source: int, target: int, size: int) -> None:
    """The file's data without its holes; shared between the files where the file system can."""
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                break
            start = position  # a file system that does not know of holes
        try:
            end = os.lseek(source, start, os.SEEK_HOLE)
        except OSError:
            end = size
        _copy_range(source, target, start, min(end, size))
        position = max(end, start + 1)
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    while start < end:
        try:
            copied = os.copy_file_range(source, target, min(end - start, 1 << 30), start, start)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}:
                raise
            data = os.pread(source, min(end - start, 1 << 20), start)
            copied = os.pwrite(target, data, start)
        if not copied:
            return  # the file became shorter meanwhile
        start += copied
