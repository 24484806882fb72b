"""The `tmpcopyup` option: what the image has at a target is copied into the tmpfs that will cover it."""

from __future__ import annotations

import os
import stat

_CHUNK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_up(source: int, target: int) -> None:
    """Copy the contents of the directory `source` (O_PATH) into the directory `target`, with modes, owners and times.

    Links are copied as links and nothing is followed. Devices and sockets stay behind.
    """
    _copy_directory(os.open(".", _DIRECTORY, dir_fd=source), os.open(".", _DIRECTORY, dir_fd=target))


def _copy_directory(source: int, target: int) -> None:
    """Both descriptors are consumed."""
    try:
        for name in os.listdir(source):
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                os.mkdir(name, 0o700, dir_fd=target)
                _copy_directory(os.open(name, _DIRECTORY, dir_fd=source), os.open(name, _DIRECTORY, dir_fd=target))
            elif stat.S_ISLNK(status.st_mode):
                os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            elif stat.S_ISREG(status.st_mode):
                _copy_file(source, target, name)
            else:
                continue
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
            os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)
        own = os.fstat(source)
        os.fchown(target, own.st_uid, own.st_gid)
        os.fchmod(target, stat.S_IMODE(own.st_mode))
    finally:
        os.close(source)
        os.close(target)


def _copy_file(source: int, target: int, name: str) -> None:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    with (
        open(os.open(name, os.O_RDONLY | flags, dir_fd=source), "rb") as reader,
        open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=target), "wb") as writer,
    ):
        while chunk := reader.read(_CHUNK):
            writer.write(chunk)
