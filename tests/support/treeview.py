"""Trees for tests of archives and snapshots: what one contains, as a value that can be compared; and random ones."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st


class Node(NamedTuple):
    """Everything about one file that an archive should keep."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int
    content: str
    xattrs: tuple[tuple[str, bytes], ...]
    same_as: bytes | None
    """The first path of the same inode, where there are several."""


_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def view(root: Path | str, *, ignore: Callable[[str], bool] = lambda name: False) -> dict[bytes, Node]:
    """The tree below `root`, the root itself left out; `ignore` names extended attributes that do not count."""
    found: dict[bytes, Node] = {}
    first: dict[tuple[int, int], bytes] = {}
    top = os.fsencode(root)
    for directory, subdirectories, files in os.walk(top):
        subdirectories.sort()
        for name in sorted(subdirectories + files):
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, top)
            found[relative] = _node(path, relative, first, ignore)
    return found


def _node(path: bytes, relative: bytes, first: dict[tuple[int, int], bytes], ignore: Callable[[str], bool]) -> Node:
    status = os.lstat(path)
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    content = ""
    if kind == "file":
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest() + f" {status.st_size}"
    elif kind == "link":
        content = os.fsdecode(os.readlink(path))
    elif kind.endswith("device"):
        content = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    xattrs = tuple(
        sorted(
            (name, os.getxattr(path, name, follow_symlinks=False))
            for name in os.listxattr(path, follow_symlinks=False)
            if not ignore(name)
        )
    )
    same_as = None
    if status.st_nlink > 1 and kind != "directory":
        same_as = first.setdefault((status.st_dev, status.st_ino), relative)
    return Node(
        kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, content, xattrs, same_as
    )


_NAMES = (
    st.one_of(
        st.sampled_from(
            [b"a", b"b", b"etc", b"usr", b".hidden", b"with space", b"-dash", b"new\nline", b"\xff\xfe", b"x" * 101]
        ),
        st.text(min_size=1, max_size=40).map(lambda text: text.encode()).map(lambda raw: raw.replace(b"/", b"_")),
        st.binary(min_size=1, max_size=255),
    )
    .map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_")[:255])
    .filter(lambda raw: raw not in (b".", b"..") and not raw.startswith(b".wh."))
)
_MODES = st.integers(0, 0o7777)
_OWNERS = st.one_of(st.sampled_from([0, 1, 1000, 65534, 2097151, 2097152]), st.integers(0, 2**32 - 2))
_TIMES = st.one_of(
    st.integers(0, 2**31 * 10**9), st.sampled_from([0, 1, 999_999_999, 10**9, -1, -(10**9) - 5, 2**33 * 10**9 + 7])
)
_XATTRS = st.dictionaries(
    st.sampled_from(["user.a", "user.long.name", "trusted.t", "security.test"]), st.binary(max_size=200), max_size=2
)
_COMMON = st.fixed_dictionaries({"mode": _MODES, "uid": _OWNERS, "gid": _OWNERS, "mtime": _TIMES})
_CONTENTS = st.one_of(
    st.binary(max_size=2000),
    st.sampled_from([0, 511, 512, 513, 300_000]).map(lambda size: b"x" * size),
)


_NUMBERS = st.tuples(st.booleans(), st.integers(1, 4095), st.integers(0, 2**20 - 1))


def _things() -> st.SearchStrategy[tuple[str, dict[str, int], object, dict[str, bytes]]]:
    links = st.binary(min_size=1, max_size=300).map(lambda raw: raw.replace(b"\0", b"/"))
    return st.one_of(
        st.tuples(st.just("file"), _COMMON, _CONTENTS, _XATTRS),
        st.tuples(st.just("link"), _COMMON, links, st.just({})),
        st.tuples(st.just("hard link"), _COMMON, st.integers(0, 100), st.just({})),
        st.tuples(st.just("fifo"), _COMMON, st.none(), st.just({})),
        st.tuples(st.just("device"), _COMMON, _NUMBERS, st.just({})),
        st.tuples(st.just("sparse"), _COMMON, st.lists(st.integers(0, 60), max_size=5), st.just({})),
    )  # fmt: skip


def trees() -> st.SearchStrategy[dict[bytes, object]]:
    """Descriptions of random trees for `build`: names mapped to things, or to (attributes, tree) for directories."""
    return st.recursive(
        st.dictionaries(_NAMES, _things(), max_size=6),
        lambda below: st.dictionaries(
            _NAMES, st.one_of(_things(), st.tuples(st.just("directory"), _COMMON, below, _XATTRS)), max_size=5
        ),
        max_leaves=12,
    )


def build(root: Path | str, tree: dict[bytes, object]) -> None:
    """Make a described tree below `root`."""
    _build(os.fsencode(root), tree, [])


def _build(directory: bytes, tree: dict[bytes, object], linkable: list[bytes]) -> None:
    for name, thing in tree.items():
        path = os.path.join(directory, name)
        kind, common, what, xattrs = thing  # type: ignore[misc]
        if kind == "directory":
            os.mkdir(path)
            _build(path, what, linkable)
        elif kind == "hard link":
            if not linkable:
                continue
            os.link(linkable[what % len(linkable)], path, follow_symlinks=False)
            continue
        elif kind == "link":
            os.symlink(what, path)
            linkable.append(path)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "device":
            block, major, minor = what
            os.mknod(path, stat.S_IFBLK if block else stat.S_IFCHR, os.makedev(major, minor))
            linkable.append(path)
        else:
            with open(path, "wb") as file:
                if kind == "file":
                    file.write(what)
                else:
                    for place in what:
                        file.seek(place * 65536)
                        file.write(b"data" * 1024)
                    file.truncate(64 * 65536)
            linkable.append(path)
        for key, value in xattrs.items():
            os.setxattr(path, key, value)
        dress(path, **common)


def dress(path: bytes, *, mode: int, uid: int, gid: int, mtime: int) -> None:
    """Set owner, mode and time of anything."""
    os.chown(path, uid, gid, follow_symlinks=False)
    if not os.path.islink(path):
        os.chmod(path, mode)
    os.utime(path, ns=(mtime, mtime), follow_symlinks=False)
