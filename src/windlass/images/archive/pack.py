"""Packing a directory tree, or what changed in it, as a tar stream.

Names come in byte order and headers say nothing of this host (no user names, no labels), so equal trees give equal
bytes and an image packed twice has one digest. A file is opened by a descriptor of itself (O_PATH, then /proc/self/fd),
never by its name a second time: whoever exchanges it for a device or a link in between gains nothing (CVE-2018-15664).

    tree ──walk──▶ Entry ──encode──▶ header │ data │ padding ──▶ pieces of about 256 KiB
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final

from windlass.errors import SystemFailure
from windlass.images import trees
from windlass.images.archive.header import (
    BLOCK,
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMLINK,
    Entry,
    encode,
    sparse_map,
)
from windlass.images.archive.unpack import OPAQUE, OVERLAY_XATTRS, WHITEOUT

_PIECE: Final = 256 << 10
_READ: Final = 1 << 20
_SMALLEST_SPARSE: Final = 64 << 10
_NOT_PACKED: Final = (*OVERLAY_XATTRS, b"security.selinux", b"security.ima", b"security.evm")
_OPAQUE_XATTR: Final = b"trusted.overlay.opaque"
END: Final = bytes(2 * BLOCK)
"""The end of an archive: two blocks of zeros."""

_KINDS: Final = {
    stat.S_IFREG: REGULAR,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}


class Packer:
    """Makes one archive; `pieces` of it are taken as they get ready.

    Args:
        sparse: write sparse files as such (pax format 1.0, which tar, Go and libarchive read, but not busybox).
        overlay: the tree is an overlay's upper directory: its marks become whiteouts.
    """

    def __init__(self, *, sparse: bool = False, overlay: bool = False) -> None:
        self._sparse = sparse
        self._overlay = overlay
        self._linked: dict[tuple[int, int], bytes] = {}
        self._ready: list[bytes] = []
        self._length = 0

    def tree(self, fd: int, prefix: bytes = b"") -> Iterator[bytes]:
        """Everything below a directory. A `prefix` goes before each name."""
        for path, parent, name, status in trees.walk(fd):
            yield from self.thing(parent, name, prefix + path, status)

    def thing(self, parent: int, name: bytes, shown: bytes, status: os.stat_result) -> Iterator[bytes]:
        """One file, link, directory (without what is in it) or device, shown under a name of its own.

        Sockets have no place in an archive and are left out. What disappeared meanwhile is left out, too.
        """
        if stat.S_ISSOCK(status.st_mode):
            return
        if self._overlay and stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            yield from self.whiteout(shown)
            return
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except FileNotFoundError:
            return
        try:
            yield from self.opened(fd, shown)
        except OSError as error:
            raise SystemFailure(f"cannot pack {os.fsdecode(shown)}: {error.strerror or error}") from error
        finally:
            os.close(fd)

    def whiteout(self, path: bytes) -> Iterable[bytes]:
        """Say that `path` of the layers below is gone."""
        directory, slash, base = path.rpartition(b"/")
        return self.put(encode(Entry(directory + slash + WHITEOUT + base, REGULAR, mode=0)))

    def opaque(self, path: bytes) -> Iterable[bytes]:
        """Say that everything that the layers below have in the directory `path` is gone."""
        return self.put(encode(Entry(path + b"/" + OPAQUE, REGULAR, mode=0)))

    def end(self) -> Iterator[bytes]:
        """The end marker, and what is still to be taken."""
        self._ready.append(END)
        yield self._take()

    def put(self, *parts: bytes) -> Iterable[bytes]:
        """Add bytes; gives a piece when there is enough for one."""
        self._ready += parts
        for part in parts:
            self._length += len(part)
        if self._length < _PIECE:
            return ()
        return (self._take(),)

    def _take(self) -> bytes:
        ready = b"".join(self._ready)
        self._ready.clear()
        self._length = 0
        return ready

    def opened(self, fd: int, shown: bytes) -> Iterator[bytes]:
        """As `thing`, by an O_PATH descriptor of it."""
        status = os.fstat(fd)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return
        if kind != DIRECTORY and status.st_nlink > 1:
            first = self._linked.setdefault((status.st_dev, status.st_ino), shown)
            if first != shown:
                yield from self.put(encode(_entry(shown, HARD_LINK, status)._replace(link=first)))
                return
        if kind == REGULAR:
            yield from self._file(fd, shown, status)
            return
        entry = _entry(shown + b"/" if kind == DIRECTORY and not shown.endswith(b"/") else shown, kind, status)
        xattrs, opaque = self._xattrs(f"/proc/self/fd/{fd}")
        if xattrs:
            entry = entry._replace(xattrs=xattrs)
        if kind == SYMLINK:
            entry = entry._replace(link=os.readlink(b"", dir_fd=fd))
        elif kind in (CHARACTER, BLOCK_DEVICE):
            entry = entry._replace(major=os.major(status.st_rdev), minor=os.minor(status.st_rdev))
        yield from self.put(encode(entry))
        if opaque:
            yield from self.opaque(shown)

    def _file(self, path_fd: int, shown: bytes, status: os.stat_result) -> Iterator[bytes]:
        fd = os.open(f"/proc/self/fd/{path_fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            entry = _entry(shown, REGULAR, status)
            xattrs, _ = self._xattrs(fd)
            if xattrs:
                entry = entry._replace(xattrs=xattrs)
            size = entry.size
            if self._sparse and size >= _SMALLEST_SPARSE and status.st_blocks * 512 < size:
                segments = _segments(fd, size)
                if segments != ((0, size),):
                    yield from self._sparse_file(fd, entry, segments)
                    return
            header = encode(entry)
            if size <= _PIECE:
                data = os.read(fd, size) if size else b""
                if len(data) < size:
                    data += _read_exactly(fd, size - len(data))
                yield from self.put(header, data, bytes(-size % BLOCK))
            else:
                yield from self.put(header)
                yield from self._data(fd, size)
                yield from self.put(bytes(-size % BLOCK))
        finally:
            os.close(fd)

    def _sparse_file(self, fd: int, entry: Entry, segments: tuple[tuple[int, int], ...]) -> Iterator[bytes]:
        # As GNU tar does, an empty segment at the end says where the file ends.
        listed = (*segments, (entry.size, 0))
        places = sparse_map(listed)
        stored = sum(length for _, length in segments)
        yield from self.put(encode(entry._replace(segments=listed, stored=len(places) + stored)), places)
        for offset, length in segments:
            os.lseek(fd, offset, os.SEEK_SET)
            yield from self._data(fd, length)
        yield from self.put(bytes(-stored % BLOCK))

    def _data(self, fd: int, size: int) -> Iterator[bytes]:
        while size:
            data = os.read(fd, min(size, _READ)) or bytes(min(size, _READ))  # it has shrunk: the header has promised
            size -= len(data)
            if self._ready:
                yield self._take()
            yield data

    def _xattrs(self, place: int | str) -> tuple[dict[bytes, bytes], bool]:
        """The attributes that go into an archive, and whether an overlay has marked this directory opaque."""
        try:
            names = os.listxattr(place)
        except OSError as error:
            if error.errno in {errno.ENOTSUP, errno.ENOSYS}:
                return {}, False
            raise
        found, opaque = {}, False
        for text in names:
            name = os.fsencode(text)
            if not name.startswith(_NOT_PACKED):
                found[name] = os.getxattr(place, name)
            elif self._overlay and name == _OPAQUE_XATTR:
                opaque = os.getxattr(place, name) == b"y"
        return found, opaque


def pack_tree(root: int, *, sparse: bool = False) -> Iterator[bytes]:
    """The tree below a directory as an archive, without an entry for the root itself. Blocking."""
    packer = Packer(sparse=sparse)
    yield from packer.tree(root)
    yield from packer.end()


def pack_overlay(upper: int) -> Iterator[bytes]:
    """An overlay's upper directory as a layer. Blocking."""
    packer = Packer(sparse=True, overlay=True)
    yield from packer.tree(upper)
    yield from packer.end()


def _entry(name: bytes, kind: bytes, status: os.stat_result) -> Entry:
    size = status.st_size if kind == REGULAR else 0
    mode = stat.S_IMODE(status.st_mode)
    return Entry(name, kind, size, mode, status.st_uid, status.st_gid, status.st_mtime_ns, stored=size)


def _read_exactly(fd: int, count: int) -> bytes:
    """The next `count` bytes of a file, zeros where it has become shorter."""
    parts = []
    while count:
        data = os.read(fd, count) or bytes(count)
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def _segments(fd: int, size: int) -> tuple[tuple[int, int], ...]:
    """Where a file has data (lseek(2), SEEK_DATA)."""
    segments = []
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        position = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if start < position:
            segments.append((start, position - start))
    os.lseek(fd, 0, os.SEEK_SET)
    return tuple(segments)
