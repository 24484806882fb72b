"""Mounts, by the mount API of Linux 5.2 (fsopen, fsmount, open_tree, move_mount) and mount_setattr (5.12).

A mount is first a descriptor and is attached when it is complete:

    a file system   fsopen ─ fsconfig … ─ fsmount(attributes) ─┐
    a bind          open_tree(CLONE) ─ mount_setattr ──────────┴▶ detached mount (fd) ─ move_mount ─▶ a place (fd)

So there is no moment when it can be seen without its attributes, its options may be longer than a page, the place it is
attached to is a descriptor that cannot be exchanged for another (CVE-2021-30465), and a detached mount that is never
attached disappears with its descriptor.

Everything raises `OSError`; where a file system says why it refuses, its words are in the message.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from windlass.kernel.mount_options import (
    MOUNT_ATTR_IDMAP,
    MountOptions,
    parse_options,
)
from windlass.kernel.syscalls import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    FSCONFIG,
    FSMOUNT,
    FSOPEN,
    MOUNT_SETATTR,
    MOVE_MOUNT,
    OPEN_TREE,
    call,
    number_of,
    text,
)

MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8

_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_FSOPEN_CLOEXEC, _FSMOUNT_CLOEXEC = 1, 1
_SET_FLAG, _SET_STRING, _CMD_CREATE = 0, 1, 6
_MOVE_EMPTY_FROM, _MOVE_EMPTY_TO = 0x04, 0x40
_LONGEST_VALUE: Final = 255
"""Of a parameter of fsconfig(2), without its NUL."""
_ATTRIBUTES: Final = struct.Struct("=QQQQ")
_EMPTY: Final = b"\0"


class Mount(NamedTuple):
    """A mount that somebody describes and somebody else carries out, as containerd's drivers do.

    Attributes:
        type: file system type, or "bind".
        source: a device or name; for a bind, an absolute path.
        options: words as mount(8) has them; for an overlay `upperdir=` and `workdir=` are among them.
        lower: an overlay's lower directories, the topmost first (so many and so long as they may be).
    """

    type: str
    source: str
    options: tuple[str, ...]
    lower: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: Sequence[object]) -> Mount:
        """Read back what JSON made of one (a list). `ValueError` if it is not one."""
        match list(value):
            case [str(type_), str(source), list(options), *rest] if len(rest) <= 1:
                lower = rest[0] if rest else []
                if isinstance(lower, list):
                    return cls(type_, source, tuple(map(str, options)), tuple(map(str, lower)))
        raise ValueError(f"not a mount: {value!r}")


class MountPoint(NamedTuple):
    """A line of /proc/PID/mountinfo (proc(5)). Paths are unescaped; `optional` are its tags, such as `shared:5`."""

    id: int
    parent: int
    device: str
    root: str
    target: str
    options: str
    optional: tuple[str, ...]
    type: str
    source: str
    super_options: str


def new_filesystem(
    type_: str,
    source: str = "",
    data: Sequence[tuple[str, str | None]] = (),
    *,
    attributes: int = 0,
    read_only: bool = False,
) -> int:
    """Make a detached mount of a file system.

    Args:
        data: its parameters in order; the value None for a flag.
        attributes: MOUNT_ATTR_* of the mount.
        read_only: the file system itself (not only this mount of it) shall not write.

    Returns:
        A descriptor of the mount (close-on-exec).
    """
    context = call("fsopen", FSOPEN, text(type_), _FSOPEN_CLOEXEC, about=type_)
    try:
        if source:
            _configure(context, type_, _SET_STRING, "source", source)
        for key, value in data:
            if value is None:
                _configure(context, type_, _SET_FLAG, key, None)
            else:
                _configure(context, type_, _SET_STRING, key, value)
        if read_only:
            _configure(context, type_, _SET_FLAG, "ro", None)
        _configure(context, type_, _CMD_CREATE, None, None)
        return call("fsmount", FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes, about=type_)
    finally:
        os.close(context)


def _configure(context: int, type_: str, command: int, key: str | None, value: str | None) -> None:
    name, setting = None if key is None else text(key), None if value is None else text(value)
    try:
        call("fsconfig", FSCONFIG, context, command, name, setting, about=type_)
    except OSError as error:
        option = "" if key is None else f"{key}={value}: " if value is not None else f"{key}: "
        words = _messages(context)
        detail = f"{option}{words}" if words else f"{option}{os.strerror(error.errno or 0)}"
        raise OSError(error.errno, f"mount {type_}: {detail}") from None


def _messages(context: int) -> str:
    """What the file system has said about its refusal (each message begins with its level: "e ", "w ", "i ")."""
    lines = []
    while True:
        try:
            lines.append(os.read(context, 4096).decode(errors="replace").strip()[2:])
        except OSError:
            return "; ".join(lines)


def open_tree_clone(path: str, *, directory: int = AT_FDCWD, recursive: bool = False, follow: bool = True) -> int:
    """A detached copy of the mount at `path` (a bind mount to be), with those below it if `recursive`.

    An empty path stands for the descriptor `directory` itself.
    """
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    flags |= 0 if path else AT_EMPTY_PATH
    flags |= 0 if follow else 0x100  # AT_SYMLINK_NOFOLLOW
    return call("open_tree", OPEN_TREE, directory, text(path), flags, about=path or None)


def open_tree(path: str, *, directory: int = AT_FDCWD) -> int:
    """An O_PATH descriptor of the mount at `path`."""
    return call("open_tree", OPEN_TREE, directory, text(path), _OPEN_TREE_CLOEXEC, about=path)


def move_mount(mount: int, place: int, name: str = "", *, about: str | None = None) -> None:
    """Attach a detached mount (or move an attached one) to the file or directory with the descriptor `place`, or to
    what is called `name` in that directory (not followed if it is a link)."""
    flags = _MOVE_EMPTY_FROM if name else _MOVE_EMPTY_FROM | _MOVE_EMPTY_TO
    call("move_mount", MOVE_MOUNT, mount, _EMPTY, place, text(name), flags, about=about or name or None)


def set_attributes(
    fd: int,
    *,
    set_: int = 0,
    clear: int = 0,
    propagation: int = 0,
    recursive: bool = False,
    user_namespace: int = 0,
    about: str | None = None,
) -> None:
    """mount_setattr(2) on the mount that `fd` is the root of; with `recursive` on those below it, too, or on none."""
    packed = _ATTRIBUTES.pack(set_, clear, propagation, user_namespace)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    call("mount_setattr", MOUNT_SETATTR, fd, _EMPTY, flags, packed, len(packed), about=about)


def apply_options(fd: int, options: MountOptions, *, about: str | None = None) -> None:
    """Give a mount the attributes and propagation that `options` ask for; the recursive ones first."""
    if options.recursive_set | options.recursive_clear:
        set_attributes(fd, set_=options.recursive_set, clear=options.recursive_clear, recursive=True, about=about)
    if options.set | options.clear:
        set_attributes(fd, set_=options.set, clear=options.clear, about=about)
    for propagation, recursive in options.propagations:
        set_attributes(fd, propagation=propagation, recursive=recursive, about=about)


def map_identities(fd: int, user_namespace: int, *, recursive: bool = False, about: str | None = None) -> None:
    """Make a detached mount an idmapped one: owners are seen through the namespace's maps."""
    set_attributes(fd, set_=MOUNT_ATTR_IDMAP, user_namespace=user_namespace, recursive=recursive, about=about)


def detached_bind(source: str, options: MountOptions) -> int:
    """A bind of `source` with its attributes, not attached yet."""
    fd = open_tree_clone(source, recursive=options.recursive_bind)
    try:
        apply_options(fd, options, about=source)
    except BaseException:
        os.close(fd)
        raise
    return fd


def detached_overlay(source: str, lower: Sequence[str], data: Sequence[tuple[str, str | None]], attributes: int) -> int:
    """An overlay, however many and long its directories are.

    Since Linux 6.5 each lower directory is a parameter of its own (`lowerdir+`), of up to 255 bytes; a longer path goes
    by a descriptor. Before, all of them are one parameter of up to 255 bytes: then they are named by the numbers of
    their descriptors, with /proc/self/fd as the working directory for a moment (about 80 of them fit).
    """
    with _held_paths() as hold:
        rest = [
            (
                key,
                hold(value)
                if key in {"upperdir", "workdir"} and value and len(text(value)) > _LONGEST_VALUE
                else value,
            )
            for key, value in data
        ]
        if not lower or any(key == "lowerdir" for key, _ in rest):
            return new_filesystem("overlay", source, rest, attributes=attributes)
        if _knows_single_layers():
            layers = [hold(path) if len(text(path)) > _LONGEST_VALUE else path for path in lower]
            each = [("lowerdir+", path) for path in layers]
            return new_filesystem("overlay", source, [*each, *rest], attributes=attributes)
        numbers = ":".join(hold(path).rpartition("/")[2] for path in lower)
        if len(numbers) > _LONGEST_VALUE:
            raise OSError(errno.E2BIG, f"mount overlay: {len(lower)} lower directories need Linux 6.5", source)
        with _working_directory("/proc/self/fd"):
            return new_filesystem("overlay", source, [("lowerdir", numbers), *rest], attributes=attributes)


def _knows_single_layers() -> bool:
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(filter(str.isdigit, minor)) or 0)) >= (6, 5)


@contextmanager
def _held_paths() -> Iterator[Callable[[str], str]]:
    """Gives a function that opens a path and returns a short name of it, good until the end of the block."""
    held: list[int] = []

    def hold(path: str) -> str:
        held.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
        return f"/proc/self/fd/{held[-1]}"

    try:
        yield hold
    finally:
        for fd in held:
            os.close(fd)


@contextmanager
def _working_directory(path: str) -> Iterator[None]:
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(path)
        try:
            yield
        finally:
            os.fchdir(before)
    finally:
        os.close(before)


_PSEUDO: Final = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts", "tmpfs", "overlay"})
"""File systems without a disk. Several mounts share one instance of some of them: read-only is the mount's matter."""


def detached(mount: Mount, *, extra: Sequence[tuple[str, str | None]] = ()) -> int:
    """A detached mount from its description; `extra` parameters for the file system (such as a label) come last."""
    options = parse_options(mount.options)
    if mount.type == "bind" or options.bind:
        return detached_bind(mount.source, options)
    data = (*options.data, *extra)
    attributes = options.set | options.recursive_set
    if mount.type == "overlay":
        fd = detached_overlay(mount.source or "overlay", mount.lower, data, attributes)
    else:
        read_only = options.read_only and mount.type not in _PSEUDO
        fd = new_filesystem(mount.type, mount.source, data, attributes=attributes, read_only=read_only)
    try:
        for propagation, recursive in options.propagations:
            set_attributes(fd, propagation=propagation, recursive=recursive, about=mount.type)
    except BaseException:
        os.close(fd)
        raise
    return fd


def mount_all(mounts: Sequence[Mount], target: str) -> None:
    """Mount each of `mounts` on the directory `target`, one over the other. On an error none of them is left."""
    done = 0
    try:
        for mount in mounts:
            place = os.open(target, os.O_PATH | os.O_CLOEXEC)
            try:
                fd = detached(mount)
                try:
                    move_mount(fd, place, about=target)
                finally:
                    os.close(fd)
            finally:
                os.close(place)
            done += 1
    except BaseException:
        for _ in range(done):
            umount2(target, MNT_DETACH)
        raise


def unmount_all(target: str) -> None:
    """Take away everything that is mounted on `target`; nothing to do is no error."""
    while True:
        try:
            umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.ENOENT}:
                return
            raise


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    call("umount2", number_of("umount2"), text(target), flags, about=target)


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    call("pivot_root", number_of("pivot_root"), text(new), text(old), about=new)


def mountinfo(pid: int | str = "self") -> list[MountPoint]:
    """The mounts of a process's namespace, in the kernel's order."""
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        return [parse_mountinfo_line(line.rstrip("\n")) for line in os.fsdecode(file.read()).splitlines(keepends=True)]


def parse_mountinfo_line(line: str) -> MountPoint:
    """One line. `ValueError` if it is not one."""
    before, separator, after = line.partition(" - ")
    fields, last = before.split(" "), after.split(" ")
    if not separator or len(fields) < 6 or len(last) < 3:
        raise ValueError(f"not a line of mountinfo: {line!r}")
    return MountPoint(
        int(fields[0]),
        int(fields[1]),
        fields[2],
        _unescape(fields[3]),
        _unescape(fields[4]),
        fields[5],
        tuple(fields[6:]),
        last[0],
        _unescape(last[1]),
        last[2],
    )


def _unescape(field: str) -> str:
    """Space, tab, newline and backslash are written as octal numbers."""
    if "\\" not in field:
        return field
    head, *parts = field.split("\\")
    decoded = [chr(int(part[:3], 8)) + part[3:] if part[:3].isdigit() else "\\" + part for part in parts]
    return head + "".join(decoded)
