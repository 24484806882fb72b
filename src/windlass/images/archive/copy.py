"""Files in and out of a container: what `docker cp` and `docker export` need, on a descriptor of its root.

The root may be that of a running, hostile container (/proc/PID/root), a mounted snapshot, or any tree. Paths are
resolved by the kernel with that root as `/` and never a second time by name where it matters, no program or library is
loaded from the tree, and existing files are not opened for writing: they are replaced. So a link that is exchanged
while we copy leads to another place in the same container at most (CVE-2018-15664, CVE-2019-14271).

How a path is meant (as dockerd has it): `/a/link` is the link itself; `/a/link/` and `/a/link/.` are what it points to.
The name in the archive is the last part of what was asked for, `.` for `/a/.` and nothing for `/`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from windlass.errors import InvalidParameter, NotFound, SystemFailure
from windlass.images.archive.compression import decompressed
from windlass.images.archive.limits import DEFAULT_LIMITS, Limits
from windlass.images.archive.pack import Packer
from windlass.images.archive.unpack import Unpacking, unpack
from windlass.kernel.paths import open_in_root, readlink_in_root

_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
_MOST_LINKS: Final = 255

# Go's os.FileMode, in which clients read modes.
_GO_TYPES: Final = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
}
_GO_BITS: Final = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def go_mode(mode: int) -> int:
    """A mode as Go has it: permission bits, and its own bits for types and set-id."""
    result = stat.S_IMODE(mode) & 0o777 | _GO_TYPES.get(stat.S_IFMT(mode), 0)
    for bit, go_bit in _GO_BITS:
        if mode & bit:
            result |= go_bit
    return result


def stat_path(root: int, path: str, *, container: str) -> dict[str, Any]:
    """What `HEAD /containers/{id}/archive` says of a path: name, size, mode, mtime, linkTarget. Blocking.

    `container` is how the error names it. Raises NotFound.
    """
    fd = _open(root, path, container)
    try:
        status = os.fstat(fd)
        is_link = stat.S_ISLNK(status.st_mode)
        return {
            "name": _shown_name(path),
            "size": status.st_size,
            "mode": go_mode(status.st_mode),
            "mtime": _timestamp(status.st_mtime_ns),
            "linkTarget": _followed(root, path) if is_link else "",
        }
    finally:
        os.close(fd)


def pack_path(root: int, path: str, *, container: str) -> Iterator[bytes]:
    """A path with everything below it as an archive. Blocking; the iterator, too.

    The path is opened at the call: NotFound comes from here. The root's descriptor is not needed any more afterwards.
    """
    fd = _open(root, path, container)
    return _packed(fd, _shown_name(path))


def _packed(fd: int, name: str) -> Iterator[bytes]:
    try:
        packer = Packer()
        shown = os.fsencode(name)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            prefix = b"/" if shown == b"/" else shown + b"/"
            yield from packer.opened(fd, prefix)
            directory = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield from packer.tree(directory, prefix)
            except OSError as error:
                raise SystemFailure(f"cannot read {name}: {error.strerror or error}") from error
            finally:
                os.close(directory)
        else:
            yield from packer.opened(fd, shown)
        yield from packer.end()
    finally:
        os.close(fd)


def unpack_into(
    root: int,
    path: str,
    chunks: Iterable[bytes],
    *,
    container: str,
    keep_kinds: bool = False,
    owner: tuple[int, int] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Unpack an archive, plain or compressed, into the directory at `path`. Blocking.

    Args:
        keep_kinds: a directory is never replaced by something else or the other way round (noOverwriteDirNonDir).
        owner: (uid, gid) that everything gets (copyUIDGID), instead of what the archive says.

    Raises:
        NotFound: there is no such path.
        InvalidParameter: it is not a directory, or the archive is malformed; what came before that stays.
        SystemFailure: the file system refuses.
    """
    try:
        fd = open_in_root(root, path, os.O_PATH)
    except OSError as error:
        raise _absent(error, path, container) from None
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise InvalidParameter("extraction point is not a directory")
    finally:
        os.close(fd)
    how = Unpacking(replace=True, keep_kinds=keep_kinds, owner=owner, root_entry=False, limits=limits, complete=False)
    source = partial(next, decompressed(chunks, limits=limits), b"")
    unpack(source, root, how, prefix=os.fsencode(path) or b"/")


def _open(root: int, path: str, container: str) -> int:
    """An O_PATH descriptor of what a path means."""
    follows = path.endswith(("/", "/.")) or path in (".", "")
    try:
        return open_in_root(root, path, os.O_PATH | (0 if follows else os.O_NOFOLLOW))
    except OSError as error:
        raise _absent(error, path, container) from None


def _absent(error: OSError, path: str, container: str) -> Exception:
    if error.errno in _ABSENT:
        return NotFound(f"Could not find the file {path} in container {container}")
    if error.errno == errno.EINVAL:
        return InvalidParameter(f"invalid path: {path!r}")
    return SystemFailure(f"cannot open {path} in container {container}: {error.strerror}")


def _shown_name(path: str) -> str:
    """The last part as Go's filepath.Base has it, after `/` was put before it; a trailing `/.` counts."""
    if path.endswith("/.") or path == ".":
        return "."
    parts = [part for part in path.split("/") if part not in ("", ".")]
    while ".." in parts:
        place = parts.index("..")
        del parts[max(place - 1, 0) : place + 1]
    return parts[-1] if parts else "/"


def _followed(root: int, path: str) -> str:
    """The path that a link leads to in the end, as the container sees it; for the client's eyes only."""
    done: list[str] = []
    left = path.split("/")[::-1]
    links = 0
    while left:
        name = left.pop()
        if name in ("", "."):
            continue
        if name == "..":
            del done[-1:]
            continue
        try:
            target = readlink_in_root(root, "/".join([*done, name]))
        except OSError:
            done.append(name)
            continue
        links += 1
        if links > _MOST_LINKS:
            return ""
        if target.startswith("/"):
            done.clear()
        left.extend(target.split("/")[::-1])
    return "/" + "/".join(done)


def _timestamp(nanoseconds: int) -> str:
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return "0001-01-01T00:00:00Z"
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{digits}Z"
