"""Mounts: the classic calls, the mount API of Linux 5.2 and later, and what is mounted (mount(2), fsopen(2), proc(5)).

`Mount` describes one mount as snapshot drivers give it. An overlay is made through the new API, which takes each lower
directory as a parameter of its own, so that an image may have more layers than a page of options has room for.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from windlass.kernel import syscalls
from windlass.kernel.syscalls import LIBC, check, syscall

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_SYNCHRONOUS: Final = 16
MS_REMOUNT: Final = 32
MS_MANDLOCK: Final = 64
MS_DIRSYNC: Final = 128
MS_NOSYMFOLLOW: Final = 256
MS_NOATIME: Final = 1024
MS_NODIRATIME: Final = 2048
MS_BIND: Final = 4096
MS_MOVE: Final = 8192
MS_REC: Final = 16384
MS_SILENT: Final = 32768
MS_UNBINDABLE: Final = 1 << 17
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20
MS_RELATIME: Final = 1 << 21
MS_STRICTATIME: Final = 1 << 24
MS_LAZYTIME: Final = 1 << 25

MNT_FORCE: Final = 1
MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8

AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000

OPEN_TREE_CLONE: Final = 1
OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH: Final = 4
MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
FSOPEN_CLOEXEC: Final = 1
FSMOUNT_CLOEXEC: Final = 1
FSCONFIG_SET_FLAG: Final = 0
FSCONFIG_SET_STRING: Final = 1
FSCONFIG_SET_FD: Final = 5
FSCONFIG_CMD_CREATE: Final = 6

MOUNT_ATTR_RDONLY: Final = 1
MOUNT_ATTR_NOSUID: Final = 2
MOUNT_ATTR_NODEV: Final = 4
MOUNT_ATTR_NOEXEC: Final = 8
MOUNT_ATTR__ATIME: Final = 0x70
MOUNT_ATTR_NOATIME: Final = 0x10
MOUNT_ATTR_STRICTATIME: Final = 0x20
MOUNT_ATTR_NODIRATIME: Final = 0x80
MOUNT_ATTR_IDMAP: Final = 0x100000
MOUNT_ATTR_NOSYMFOLLOW: Final = 0x200000


class Mount(NamedTuple):
    """One mount to make: a file system type ("overlay", "bind", …), its source, options as mount(8) has them, and for
    an overlay the lower directories, topmost first (then `options` carry upperdir= and workdir= only)."""

    type: str
    source: str
    options: tuple[str, ...] = ()
    lower: tuple[str, ...] = ()


class MountInfo(NamedTuple):
    """A line of /proc/<pid>/mountinfo, proc(5)."""

    mount_id: int
    parent_id: int
    device: str
    root: str
    target: str
    options: tuple[str, ...]
    optional: tuple[str, ...]
    type: str
    source: str
    super_options: tuple[str, ...]


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """mount(2). Raises OSError naming the target."""
    check(
        LIBC.mount(
            os.fsencode(source),
            os.fsencode(target),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            data.encode() if data else None,
        ),
        f"mount {kind or 'bind'}",
        target,
    )


def umount(target: str, flags: int = 0) -> None:
    """umount2(2). Raises OSError naming the target."""
    check(LIBC.umount2(os.fsencode(target), flags), "umount", target)


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    syscall(syscalls.number("pivot_root"), os.fsencode(new), os.fsencode(old), name="pivot_root", path=new)


def open_tree(directory: int, path: str, *, clone: bool = True, recursive: bool = False, follow: bool = True) -> int:
    """open_tree(2): a descriptor of a (cloned) mount tree. With an empty path the descriptor itself is meant."""
    flags = OPEN_TREE_CLOEXEC | (OPEN_TREE_CLONE if clone else 0) | (AT_RECURSIVE if recursive else 0)
    flags |= (AT_EMPTY_PATH if not path else 0) | (0 if follow else AT_SYMLINK_NOFOLLOW)
    return syscall(syscalls.OPEN_TREE, directory, os.fsencode(path), flags, name="open_tree", path=path)


def move_mount(source: int, target: int, target_path: str = "") -> None:
    """move_mount(2): attach the mount of descriptor `source` on the open directory or file `target`."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if target_path else MOVE_MOUNT_T_EMPTY_PATH)
    syscall(
        syscalls.MOVE_MOUNT, source, b"", target, os.fsencode(target_path), flags, name="move_mount", path=target_path
    )


def fsopen(kind: str) -> int:
    """fsopen(2): a context for a new file system of a type."""
    return syscall(syscalls.FSOPEN, kind.encode(), FSOPEN_CLOEXEC, name=f"fsopen {kind}")


def fsconfig(context: int, key: str, value: str | int | None = None) -> None:
    """fsconfig(2): set a flag (None), a string, or a descriptor (int) parameter."""
    if value is None:
        command, text, aux = FSCONFIG_SET_FLAG, None, 0
    elif isinstance(value, int):
        command, text, aux = FSCONFIG_SET_FD, None, value
    else:
        command, text, aux = FSCONFIG_SET_STRING, os.fsencode(value), 0
    try:
        syscall(syscalls.FSCONFIG, context, command, key.encode(), text, aux, name=f"fsconfig {key}={value}")
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}{_said(context)}") from None


def fsmount(context: int, attributes: int = 0) -> int:
    """Create the configured file system and return a descriptor of its detached mount (fsmount(2))."""
    try:
        syscall(syscalls.FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0, name="create file system")
        return syscall(syscalls.FSMOUNT, context, FSMOUNT_CLOEXEC, attributes, name="fsmount")
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}{_said(context)}") from None


def _said(context: int) -> str:
    """What the kernel wrote about a file system context."""
    lines = []
    with contextlib.suppress(OSError):
        while line := os.read(context, 4096):
            lines.append(line.decode(errors="replace").strip())
    return f" ({'; '.join(lines)})" if lines else ""


def mount_setattr(
    directory: int,
    path: str = "",
    *,
    set_attributes: int = 0,
    clear_attributes: int = 0,
    propagation: int = 0,
    userns: int = 0,
    recursive: bool = False,
) -> None:
    """mount_setattr(2) on a descriptor (and path below it); `userns` is a descriptor for MOUNT_ATTR_IDMAP."""
    attributes = struct.pack("QQQQ", set_attributes, clear_attributes, propagation, userns)
    flags = (AT_EMPTY_PATH if not path else 0) | (AT_RECURSIVE if recursive else 0)
    syscall(
        syscalls.MOUNT_SETATTR,
        directory,
        os.fsencode(path),
        flags,
        attributes,
        len(attributes),
        name="mount_setattr",
        path=path,
    )


def overlay(description: Mount) -> int:
    """A detached overlay as `description` says. Raises OSError with the kernel's own words."""
    context = fsopen("overlay")
    try:
        for directory in description.lower:
            fsconfig(context, "lowerdir+", directory)
        for option in description.options:
            key, equals, value = option.partition("=")
            if key == "lowerdir":
                for directory in value.split(":"):
                    fsconfig(context, "lowerdir+", directory)
            else:
                fsconfig(context, key, value if equals else None)
        fsconfig(context, "source", description.source or "overlay")
        return fsmount(context)
    finally:
        os.close(context)


def detached(description: Mount) -> int:
    """A descriptor of the detached mount that `description` stands for: an overlay, a bind, or any file system."""
    if description.type == "overlay":
        return overlay(description)
    if description.type == "bind":
        tree = open_tree(AT_FDCWD, description.source, recursive="rbind" in description.options)
        try:
            if "ro" in description.options:
                mount_setattr(tree, set_attributes=MOUNT_ATTR_RDONLY, recursive="rbind" in description.options)
        except OSError:
            os.close(tree)
            raise
        return tree
    context = fsopen(description.type)
    try:
        fsconfig(context, "source", description.source)
        attributes = 0
        for option in description.options:
            if option in ATTRIBUTES:
                attributes |= ATTRIBUTES[option]
            else:
                key, equals, value = option.partition("=")
                fsconfig(context, key, value if equals else None)
        return fsmount(context, attributes)
    finally:
        os.close(context)


ATTRIBUTES: Final = {
    "ro": MOUNT_ATTR_RDONLY,
    "nosuid": MOUNT_ATTR_NOSUID,
    "nodev": MOUNT_ATTR_NODEV,
    "noexec": MOUNT_ATTR_NOEXEC,
    "noatime": MOUNT_ATTR_NOATIME,
    "strictatime": MOUNT_ATTR_STRICTATIME,
    "nodiratime": MOUNT_ATTR_NODIRATIME,
    "nosymfollow": MOUNT_ATTR_NOSYMFOLLOW,
}


def mount_all(mounts: Sequence[Mount], target: str) -> None:
    """Mount a stack of descriptions on `target`, in order. Raises OSError; then none of them is mounted."""
    done = 0
    try:
        for description in mounts:
            tree = detached(description)
            try:
                directory = os.open(target, os.O_PATH | os.O_CLOEXEC)
                try:
                    move_mount(tree, directory)
                finally:
                    os.close(directory)
            finally:
                os.close(tree)
            done += 1
    except OSError:
        for _ in range(done):
            umount(target, MNT_DETACH)
        raise


_ESCAPE = re.compile(r"\\([0-7]{3})")


def _unescape(text: str) -> str:
    """mountinfo writes blanks, tabs, line ends and backslashes in octal."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text) if "\\" in text else text


def parse_mountinfo(line: str) -> MountInfo:
    """One line of mountinfo. Raises ValueError."""
    before, separator, after = line.rstrip("\n").partition(" - ")
    fields, rest = before.split(" "), after.split(" ")
    if not separator or len(fields) < 6 or len(rest) < 3:
        raise ValueError(f"not a line of mountinfo: {line!r}")
    return MountInfo(
        mount_id=int(fields[0]),
        parent_id=int(fields[1]),
        device=fields[2],
        root=_unescape(fields[3]),
        target=_unescape(fields[4]),
        options=tuple(fields[5].split(",")),
        optional=tuple(fields[6:]),
        type=rest[0],
        source=_unescape(rest[1]),
        super_options=tuple(rest[2].split(",")),
    )


def mountinfo(pid: int | str = "self") -> Iterator[MountInfo]:
    """What is mounted in a process's mount namespace, in mount order."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            yield parse_mountinfo(line)
