"""Writing cpio archives ("newc"), as the kernel unpacks them into its first file system.

    header (110 ASCII characters: magic, then 13 numbers of 8 hexadecimal digits) name NUL pad data pad … TRAILER!!!

Numbers: inode mode uid gid links mtime size devmajor devminor rdevmajor rdevminor namesize check. Names and data are
padded to four bytes. Several archives may follow one another. (Linux: driver-api/early-userspace/buffer-format.rst)
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO


class CpioWriter:
    """Adds entries; directories above an entry are added before it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inode = 0
        self._names: set[str] = set()

    def directory(self, name: str, mode: int = 0o755) -> None:
        name = name.strip("/")
        if name and name not in self._names:
            self._entry(name, stat.S_IFDIR | mode, links=2)

    def symlink(self, name: str, target: str) -> None:
        self._entry(name.strip("/"), stat.S_IFLNK | 0o777, data=target.encode())

    def data(self, name: str, data: bytes, mode: int = 0o644) -> None:
        self._entry(name.strip("/"), stat.S_IFREG | mode, data=data)

    def device(self, name: str, mode: int, major: int, minor: int) -> None:
        self._entry(name.strip("/"), stat.S_IFCHR | mode, rdev=(major, minor))

    def file(self, name: str, source: Path) -> None:
        """A regular file with the mode and time of `source`: Python trusts compiled files by their source's time."""
        info = source.stat()
        name = name.strip("/")
        if name in self._names:
            return
        self._header(name, stat.S_IFREG | stat.S_IMODE(info.st_mode), info.st_size, mtime=int(info.st_mtime))
        with source.open("rb") as data:
            shutil.copyfileobj(data, self._file, 1 << 20)
        self._pad(info.st_size)

    def close(self) -> None:
        self._header("TRAILER!!!", 0, 0)

    def _entry(
        self, name: str, mode: int, *, data: bytes = b"", links: int = 1, rdev: tuple[int, int] = (0, 0)
    ) -> None:
        if name in self._names:
            return
        self._header(name, mode, len(data), links=links, rdev=rdev)
        self._file.write(data)
        self._pad(len(data))

    def _header(
        self, name: str, mode: int, size: int, *, links: int = 1, mtime: int = 0, rdev: tuple[int, int] = (0, 0)
    ) -> None:
        if "/" in name:
            self.directory(name.rpartition("/")[0])
        self._names.add(name)
        self._inode += 1
        encoded = os.fsencode(name) + b"\0"
        numbers = (self._inode, mode, 0, 0, links, mtime, size, 0, 0, *rdev, len(encoded), 0)
        header = b"070701" + b"".join(b"%08x" % number for number in numbers)
        self._file.write(header + encoded)
        self._pad(len(header) + len(encoded))

    def _pad(self, written: int) -> None:
        self._file.write(b"\0" * (-written % 4))
