"""Unpacking a tar stream into a directory, so that no entry can reach out of it.

Each entry is made in its parent directory, which the kernel finds (openat2) and which we hold by descriptor; the last
component never follows a link and never opens what is there already (O_EXCL). So it does not matter what links the
archive brings or what another process does in the tree meanwhile.

    entry "usr/lib/x"   usr/lib ──openat2 below the root──▶ fd (kept for its neighbours) ──openat(x, O_EXCL|O_NOFOLLOW)

Owners, modes, times and extended attributes of directories are set last: a file made in a directory changes its time,
takes over its setgid group and its default ACL.

Layers differ from plain archives by whiteouts (OCI image specification, layer.md): `.wh.NAME` removes NAME of the
layers below, `.wh..wh..opq` removes all that they have in its directory. They become overlay's own marks, or are
carried out at once where the layers below are in the same tree. A layer may have each path once only (ibid., "must not
include duplicate entries"), except directories.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
from dataclasses import dataclass
from typing import Final, NamedTuple

from windlass.errors import InvalidParameter, SystemFailure, WindlassError
from windlass.images import trees
from windlass.images.archive.header import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMLINK,
    Entry,
    invalid,
)
from windlass.images.archive.limits import DEFAULT_LIMITS, Limits
from windlass.images.archive.places import Places
from windlass.images.archive.reader import Source, TarReader
from windlass.kernel.paths import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_SYMLINKS,
    openat2,
)

WHITEOUT: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
OVERLAY_XATTRS: Final = (b"trusted.overlay.", b"user.overlay.", b"user.fuseoverlayfs.")
"""What overlay file systems write for themselves: never content, and in a layer an attack on its neighbours."""
_HOST_XATTRS: Final = frozenset({b"security.selinux", b"security.ima", b"security.evm"})
"""Labels and signatures by the host that packed it, which mean nothing (or something else) on this one."""

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HOST_TROUBLE: Final = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EROFS,
        errno.ENOTSUP,
        errno.EFBIG,
        errno.ESTALE,
        errno.EACCES,
        errno.EBUSY,
    }
)


class Whiteouts(enum.Enum):
    """What names that begin with `.wh.` mean."""

    PLAIN = enum.auto()
    """Nothing: files like others."""
    OVERLAY = enum.auto()
    """Marks for an overlay file system, in a directory that holds this layer alone."""
    APPLY = enum.auto()
    """Removal from the tree, which holds the layers below."""


@dataclass(frozen=True)
class Unpacking:
    """How to unpack.

    Attributes:
        whiteouts: what `.wh.` names mean.
        replace: a later entry, or the archive, wins over what is there; otherwise that is an error.
        keep_kinds: a directory never gives way to something else, nor the other way round.
        owner: (uid, gid) for everything, instead of the archive's.
        root_entry: whether an entry for the root itself sets its owner, mode and times.
    """

    whiteouts: Whiteouts = Whiteouts.PLAIN
    replace: bool = False
    keep_kinds: bool = False
    owner: tuple[int, int] | None = None
    root_entry: bool = True
    limits: Limits = DEFAULT_LIMITS
    complete: bool = True


IMPLIED: Final = Entry(b"", DIRECTORY, mode=0o755)
"""Stands for the entry that an archive does not have for a directory on the way to another entry."""

LAYER_ALONE: Final = Unpacking(Whiteouts.OVERLAY, complete=False)
LAYER_ON_TREE: Final = Unpacking(Whiteouts.APPLY, complete=False)


class Unpacked(NamedTuple):
    """What came out.

    Attributes:
        size: of all files together, as Docker counts a layer.
        implied: directories that had to be made though the archive has no entry for them, the root (an empty path) too
            if it has none: what they look like is not known from this archive.
    """

    size: int
    entries: int
    implied: tuple[bytes, ...]


def unpack(source: Source, root: int, how: Unpacking, *, prefix: bytes = b"") -> Unpacked:
    """Unpack a decompressed tar stream below the directory `root`. Blocking.

    Args:
        root: a descriptor of a directory that stands for `/`.
        prefix: where below it; with a prefix, links on the way are followed inside the root, as for `docker cp`.

    Raises:
        InvalidParameter: the archive is malformed, leaves the root or exceeds a limit.
        SystemFailure: the host refuses (disk full, no extended attributes, …).
    """
    reader = TarReader(source, limits=how.limits, complete=how.complete)
    # The links in a layer's own directory are the layer's; in a tree with layers below they may be theirs, and what
    # this layer puts there replaces them.
    on_tree = RESOLVE_NO_SYMLINKS if how.whiteouts is Whiteouts.APPLY else 0
    with Places(root, prefix, RESOLVE_IN_ROOT if prefix else RESOLVE_BENEATH | on_tree) as tree:
        result = _Unpacker(reader, tree, how).run()
    reader.finish()
    return result


def clean(name: bytes) -> bytes:
    """An entry's name as a path below the root, without a leading slash or `.`; empty for the root itself."""
    parts = name.split(b"/")
    if b"" in parts or b"." in parts or b".." in parts:
        parts = [part for part in parts if part not in (b"", b".")]
        if b".." in parts:
            raise invalid("a path with `..`", name)
        return b"/".join(parts)
    return name


class _Unpacker:
    def __init__(self, reader: TarReader, tree: Places, how: Unpacking) -> None:
        self._reader = reader
        self._tree = tree
        self._how = how
        self._files: set[bytes] = set()
        self._directories: dict[bytes, Entry] = {}
        self._removed: set[bytes] = set()
        self._opaque: set[bytes] = set()
        self._above: set[bytes] = set()
        """Directories, also of layers below, in which this layer has something."""
        self._size = 0
        self._count = 0

    def run(self) -> Unpacked:
        entry: Entry | None = None
        try:
            for entry in self._reader:
                self._entry(entry)
                self._count += 1
            entry = None
            for path, directory in self._directories.items():
                entry = directory
                self._finish_directory(path, directory)
        except OSError as error:
            raise _translated(error, entry) from error
        implied = [path for path, directory in self._directories.items() if directory is IMPLIED]
        return Unpacked(self._size, self._count, tuple(implied if b"" in self._directories else [*implied, b""]))

    def _entry(self, entry: Entry) -> None:
        path = clean(entry.name)
        parent, _, base = path.rpartition(b"/")
        if base.startswith(WHITEOUT) and self._how.whiteouts is not Whiteouts.PLAIN:
            self._whiteout(parent, base, path)
            return
        if self._how.owner is not None:
            entry = entry._replace(uid=self._how.owner[0], gid=self._how.owner[1])
        if entry.kind == DIRECTORY:
            self._directory(path, parent, base, entry)
            return
        if not path:
            raise invalid("the root is not a directory", entry.name)
        if path in self._files and not self._how.replace:
            raise invalid("a duplicate entry", path)
        self._files.add(path)
        directory = self._parent(parent)
        try:
            self._make(directory, base, entry)
        except FileExistsError:
            self._clear(directory, base, path, is_directory=False)
            self._make(directory, base, entry)

    # Directories.

    def _parent(self, path: bytes) -> int:
        """The directory in which an entry is made; missing ones come into being."""
        above = path
        while above not in self._above:
            self._above.add(above)
            above = above.rpartition(b"/")[0]
        try:
            return self._tree.open(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP} or not self._may_be_replaced(path):
                raise
        above, _, base = path.rpartition(b"/")
        self._directory(path, above, base, IMPLIED)
        return self._tree.open(path)

    def _may_be_replaced(self, path: bytes) -> bool:
        """Whether what is no directory at `path` or above it is of a layer below, or a whiteout."""
        if self._how.whiteouts is Whiteouts.PLAIN:
            return False
        on_tree = self._how.whiteouts is Whiteouts.APPLY
        while path:
            if path in self._files:
                return False
            if path in self._removed:
                return True
            path = path.rpartition(b"/")[0]
        return on_tree

    def _directory(self, path: bytes, parent: bytes, base: bytes, entry: Entry) -> None:
        if not path:
            if self._how.root_entry:
                self._directories[path] = entry
            return
        if path in self._files and not self._how.replace:
            raise invalid("a duplicate entry", path)
        directory = self._parent(parent)
        try:
            os.mkdir(base, 0o700, dir_fd=directory)
        except FileExistsError:
            known = path in self._directories
            if not known and self._existing_directory(directory, base, path) and entry is IMPLIED:
                return  # it is as it was
        self._directories[path] = entry

    def _existing_directory(self, directory: int, base: bytes, path: bytes) -> bool:
        """Something is where a directory is to be: that of a layer below stays (then True), anything else goes."""
        status = os.stat(base, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            return True
        was_removed = path in self._removed
        self._clear(directory, base, path, is_directory=True)
        os.mkdir(base, 0o700, dir_fd=directory)
        if was_removed:
            self._mark_opaque(path)
        return False

    def _finish_directory(self, path: bytes, entry: Entry) -> None:
        fd = self._tree.open_new(path)
        try:
            if entry is IMPLIED:
                os.fchown(fd, *(self._how.owner or (0, 0)))
                os.fchmod(fd, entry.mode)
                return
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            if entry.xattrs:
                _set_xattrs(fd, entry)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    # Everything else.

    def _make(self, directory: int, base: bytes, entry: Entry) -> None:
        kind = entry.kind
        if kind == REGULAR:
            self._regular(directory, base, entry)
        elif kind == SYMLINK:
            os.symlink(entry.link, base, dir_fd=directory)
            self._finish_by_name(directory, base, entry)
        elif kind == HARD_LINK:
            self._hard_link(directory, base, entry)
        else:
            self._special(directory, base, entry)

    def _regular(self, directory: int, base: bytes, entry: Entry) -> None:
        fd = os.open(base, _CREATE, 0o600, dir_fd=directory)
        try:
            if entry.segments is None:
                data = self._reader.whole()
                if data is None:
                    for piece in self._reader.data():
                        _write(fd, piece)
                elif data and os.write(fd, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            else:
                self._sparse(fd, entry)
            if entry.uid or entry.gid:
                os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            if entry.xattrs:
                _set_xattrs(fd, entry)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)
        self._size += entry.size

    def _sparse(self, fd: int, entry: Entry) -> None:
        """Write the segments at their places and leave the holes."""
        segments = iter(entry.segments or ())
        offset = left = 0
        for piece in self._reader.data():
            while piece:
                if not left:
                    offset, left = next(segments)
                written = os.pwrite(fd, piece[:left], offset)
                offset, left, piece = offset + written, left - written, piece[written:]
        os.ftruncate(fd, entry.size)

    def _hard_link(self, directory: int, base: bytes, entry: Entry) -> None:
        target = clean(entry.link)
        above, _, name = target.rpartition(b"/")
        if not name or target in self._removed:
            raise invalid("a hard link to nothing", entry.name)
        try:
            source = self._tree.open(above)
            os.link(name, base, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            raise invalid("a hard link to nothing", entry.name) from None

    def _special(self, directory: int, base: bytes, entry: Entry) -> None:
        if entry.kind == FIFO:
            os.mkfifo(base, 0o600, dir_fd=directory)
        elif entry.kind in (CHARACTER, BLOCK_DEVICE):
            if entry.major == entry.minor == 0 and self._how.whiteouts is not Whiteouts.PLAIN:
                raise invalid("device 0:0, which stands for a removed file", entry.name)
            kind = stat.S_IFCHR if entry.kind == CHARACTER else stat.S_IFBLK
            os.mknod(base, kind | 0o600, os.makedev(entry.major, entry.minor), dir_fd=directory)
        self._finish_by_name(directory, base, entry)

    def _finish_by_name(self, directory: int, base: bytes, entry: Entry) -> None:
        """Owner, mode, attributes and time of what cannot be opened, by a descriptor of the thing itself."""
        fd = openat2(directory, os.fsdecode(base), os.O_PATH | os.O_NOFOLLOW, resolve=RESOLVE_BENEATH)
        try:
            is_link = stat.S_ISLNK(os.fstat(fd).st_mode)
            if is_link != (entry.kind == SYMLINK):
                raise OSError(errno.EBUSY, "it was exchanged while it was being made", os.fsdecode(entry.name))
            os.chown(base, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
            place = f"/proc/self/fd/{fd}"
            if not is_link:
                os.chmod(place, entry.mode)
            for name, value in _kept_xattrs(entry):
                os.setxattr(f"/proc/self/fd/{directory}/".encode() + base, name, value, follow_symlinks=False)
            os.utime(base, ns=(entry.mtime, entry.mtime), dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(fd)

    # What is in the way.

    def _clear(self, directory: int, base: bytes, path: bytes, *, is_directory: bool) -> None:
        """Remove what stands where an entry is to be made."""
        if path in self._removed:
            self._removed.discard(path)
            os.unlink(base, dir_fd=directory)
            return
        if self._how.whiteouts is Whiteouts.OVERLAY or (path in self._directories and not self._how.replace):
            raise invalid("a duplicate entry", path)
        status = os.stat(base, dir_fd=directory, follow_symlinks=False)
        if self._how.keep_kinds and stat.S_ISDIR(status.st_mode) != is_directory:
            new, old = ("directory", "non-directory") if is_directory else ("non-directory", "directory")
            name = os.fsdecode(path)
            raise InvalidParameter(f'cannot overwrite {old} "/{name}" with {new} "/{name}"')
        self._remove(directory, base, path)

    def _remove(self, directory: int, base: bytes, path: bytes) -> None:
        self._tree.forget(path)
        trees.remove(base, dir_fd=directory)
        below = path + b"/"
        for known in [known for known in self._directories if known == path or known.startswith(below)]:
            del self._directories[known]

    # Whiteouts.

    def _whiteout(self, parent: bytes, base: bytes, path: bytes) -> None:
        name = base[len(WHITEOUT) :]
        self._parent(parent)
        if base == OPAQUE:
            if self._how.whiteouts is Whiteouts.OVERLAY:
                self._mark_opaque(parent)
            else:
                self._remove_lower(parent)
            return
        if name.startswith(WHITEOUT):
            return  # aufs wrote notes for itself under such names
        if name in (b"", b".", b".."):
            raise invalid("a whiteout of nothing", path)
        target = parent + b"/" + name if parent else name
        if self._how.whiteouts is Whiteouts.APPLY:
            self._remove_lower_entry(parent, name, target)
        elif target in self._directories:
            self._mark_opaque(target)
        elif not self._is_cut_off(parent) and target not in self._files and target not in self._removed:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=self._parent(parent))
            self._removed.add(target)

    def _mark_opaque(self, path: bytes) -> None:
        if self._how.whiteouts is not Whiteouts.OVERLAY:
            return
        directory = self._tree.open(path)
        os.setxattr(directory, b"trusted.overlay.opaque", b"y")
        self._opaque.add(path)
        # Nothing is below any more that a whiteout could hide; overlay would list it as a name that cannot be found.
        below = path + b"/" if path else b""
        for target in [target for target in self._removed if target.startswith(below)]:
            above, _, name = target.rpartition(b"/")
            os.unlink(name, dir_fd=self._tree.open(above))
            self._removed.discard(target)

    def _is_cut_off(self, path: bytes) -> bool:
        """Whether this layer has made the directory at `path`, or one above it, opaque."""
        while path and path not in self._opaque:
            path = path.rpartition(b"/")[0]
        return path in self._opaque

    def _remove_lower_entry(self, parent: bytes, name: bytes, target: bytes) -> None:
        """Carry a whiteout out, but for what this layer itself has put there."""
        if target in self._files:
            return
        if target in self._directories or target in self._above:
            self._remove_lower(target)
            return
        try:
            directory = self._tree.open(parent)
        except (FileNotFoundError, NotADirectoryError):
            return
        self._remove(directory, name, target)

    def _remove_lower(self, path: bytes) -> None:
        """Remove everything in a directory that is not of this layer."""
        try:
            directory = self._tree.open(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in map(os.fsencode, os.listdir(directory)):
            target = path + b"/" + name if path else name
            if target in self._directories or target in self._above:
                self._remove_lower(target)
            elif target not in self._files:
                self._remove(directory, name, target)


def _write(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _kept_xattrs(entry: Entry) -> list[tuple[bytes, bytes]]:
    return [
        (name, value)
        for name, value in entry.xattrs.items()
        if name not in _HOST_XATTRS and not name.startswith(OVERLAY_XATTRS)
    ]


def _set_xattrs(fd: int, entry: Entry) -> None:
    for name, value in _kept_xattrs(entry):
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise OSError(error.errno, f"extended attribute {os.fsdecode(name)}: {reason}") from None


def _translated(error: OSError, entry: Entry | None) -> WindlassError:
    """Whose fault it is: the host's trouble is a failure, anything else is what the archive asked for."""
    name = "" if entry is None else f" {os.fsdecode(entry.name)}"
    reason = os.strerror(error.errno or 0)
    if error.errno in _HOST_TROUBLE:
        detail = error.strerror if error.strerror and error.strerror != reason else reason
        return SystemFailure(f"cannot unpack{name}: {detail}".replace("unpack:", "unpack the archive:"))
    if error.errno in {errno.EXDEV, errno.ELOOP}:
        return invalid("a path that leaves the root through a link", entry.name if entry else None)
    return invalid(reason, entry.name if entry else None)
