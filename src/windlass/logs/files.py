"""The files of one log, held open and put in order, while a writer may be rotating them.

Rotation moves a file from path to path.1, from path.1 to path.2 and so on, and compression replaces path.K by
path.K.gz. Whoever opens them in the direction of that movement, from the newest to the oldest, may see a file twice
but misses
none: it can only move on to where we have yet to look. Doubles are recognised by inode (and, between a plain file and
its compressed copy, by the inode in the gzip comment and the time of change, which compression preserves).
"""

from __future__ import annotations

import os
from typing import Protocol

from isal import igzip_lib, isal_zlib

# The stubs take this class for an instance.
_Damaged: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]
_GZIP_START = b"\x1f\x8b\x08\x10"
_COMMENT = b'{"inode":'
_CHUNK = 256 * 1024


class Decompressor(Protocol):
    """What `zlib.decompressobj` and its faster twin of isal have in common."""

    eof: bool
    unconsumed_tail: bytes

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes:
        """More of the text."""


class LogFile:
    """One open file of a log.

    Attributes:
        descriptor: open for reading; its inode is the file's identity while it is plain.
        compressed: a finished .gz, else a plain file.
        inode: of the plain file, also where this is its compressed copy (0: unknown).
    """

    def __init__(self, descriptor: int, *, compressed: bool) -> None:
        self.descriptor = descriptor
        self.compressed = compressed
        status = os.fstat(descriptor)
        self.mtime_ns = status.st_mtime_ns
        self._own_inode = status.st_ino
        self.inode = _original_inode(descriptor) if compressed else status.st_ino

    def is_same(self, other: LogFile) -> bool:
        """Whether both are the same file, or one the compressed copy of the other."""
        if self.compressed == other.compressed:
            return self._own_inode == other._own_inode
        return self.inode == other.inode and self.mtime_ns == other.mtime_ns

    def size(self) -> int:
        """Bytes on disk now."""
        return os.fstat(self.descriptor).st_size

    def close(self) -> None:
        """Release the descriptor."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Inflater:
    """Reads a gzip file from its begin; damage ends it early."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._offset = 0
        self._stream: Decompressor = isal_zlib.decompressobj(wbits=31)
        self._input = b""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes of the text, nothing at its end."""
        while not self._stream.eof:
            data = self._input or os.pread(self._descriptor, _CHUNK, self._offset)
            if not self._input:
                self._offset += len(data)
            if not data:
                break
            try:
                text = self._stream.decompress(data, size)
            except _Damaged:
                break
            self._input = self._stream.unconsumed_tail
            if text:
                return text
        return b""


def open_files(path: str) -> list[LogFile]:
    """All files of the log at `path`, the oldest first, the current one (if it exists) last."""
    found: list[LogFile] = []
    for name in (path, *_rotated_names(path)):
        file = _open(name, compressed=name.endswith(".gz"))
        if file is None:
            continue
        # A plain file that was seen under its former name is met again under its new one: keep either.
        if any(file.is_same(other) for other in found):
            file.close()
            continue
        found.append(file)
    found.reverse()
    return found


def _rotated_names(path: str) -> list[str]:
    folder, name = os.path.split(path)
    numbers = [0]
    try:
        entries = os.listdir(folder or ".")
    except FileNotFoundError:
        return []
    for entry in entries:
        number = entry.removeprefix(name + ".").removesuffix(".gz")
        if entry.startswith(name + ".") and number.isdigit():
            numbers.append(int(number))
    # One more than there are: a rotation may come while we look. Plain before .gz: it goes only when the .gz is there.
    return [f"{path}.{number}{extension}" for number in range(1, max(numbers) + 2) for extension in ("", ".gz")]


def _open(name: str, *, compressed: bool) -> LogFile | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    return LogFile(descriptor, compressed=compressed)


def _original_inode(descriptor: int) -> int:
    head = os.pread(descriptor, 64, 0)
    comment = head[10 : 10 + len(_COMMENT) + 24].partition(b"}")[0]
    if not head.startswith(_GZIP_START) or not comment.startswith(_COMMENT):
        return 0
    digits = comment[len(_COMMENT) :]
    return int(digits) if digits.isdigit() else 0
