"""Where the control groups of this host are: v1, v2 or both.

    v1       each controller (or a few together: cpu,cpuacct) has a hierarchy of its own, mounted somewhere
    v2       one hierarchy with all controllers, /sys/fs/cgroup
    hybrid   v1 hierarchies for the controllers, and a v2 hierarchy without any (/sys/fs/cgroup/unified): it still
             freezes, kills and tells when a group is empty better than v1 does, so it is used for that

A mount need not show the whole hierarchy. In a container, mountinfo's fourth field says which group of the hierarchy
stands at the mount point, and /proc/self/cgroup says in which group we are; groups are named as follows:

    /windlass/x   absolute: below the mount point, as dockerd does with a `--cgroup-parent` that begins with a slash
    windlass/x    relative: below our own group, so that our own limits bind our containers too

See cgroups(7) and proc_pid_mountinfo(5).
"""

from __future__ import annotations

import errno
import os
import re
from typing import NamedTuple, Self

from windlass.kernel.cgroups.errors import CgroupError, file_error

_OCTAL = re.compile(r"\\([0-7]{3})")
# Options of a v1 super block that name no controller.
_FLAGS = frozenset(
    {"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "none", "seclabel", "favordynmods", "all"}
)
# Some programs mount one v1 hierarchy (net_cls) on a v2 host: only these make it a v1 host.
_DECISIVE = frozenset({"cpu", "memory", "pids", "devices"})
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class MountPoint(NamedTuple):
    """One mounted hierarchy. `root` is the group that stands at the mount point, by its name in the hierarchy (as our
    cgroup namespace shows it); `own` is our own group below the mount point ("" when we are at it)."""

    path: str
    controllers: tuple[str, ...]
    root: str
    own: str
    fd: int


class _Line(NamedTuple):
    root: str
    path: str
    type: str
    options: tuple[str, ...]


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def parse_mounts(mountinfo: str) -> list[_Line]:
    """The cgroup and cgroup2 mounts of a mountinfo text that a later mount does not hide, oldest first."""
    visible: dict[str, _Line] = {}
    for text in mountinfo.splitlines():
        before, separator, after = text.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if not separator or len(fields) < 6 or len(rest) < 3:
            raise ValueError(f"not a line of mountinfo: {text[:120]!r}")
        path = _unescape(fields[4])
        # A mount hides what was mounted before at the same place and below it.
        for hidden in [old for old in visible if old == path or old.startswith(path.rstrip("/") + "/")]:
            del visible[hidden]
        visible[path] = _Line(_unescape(fields[3]), path, rest[0], tuple(rest[2].split(",")))
    return [line for line in visible.values() if line.type in {"cgroup", "cgroup2"}]


def parse_membership(text: str) -> dict[str, str]:
    """/proc/PID/cgroup: controller (or `name=…`, or "" for v2) to the path of the group."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3 or not parts[0].isdigit():
            raise ValueError(f"not a line of a cgroup file: {line[:120]!r}")
        for controller in parts[1].split(","):
            found[controller] = parts[2]
    return found


def below_mount(group: str, root: str) -> str:
    """`group` (an absolute path in the hierarchy) relative to a mount whose top is `root`; "" if it is not below."""
    if root == "/":
        return group.strip("/")
    if group == root or group.startswith(root.rstrip("/") + "/"):
        return group[len(root) :].strip("/")
    return ""


def clean_path(path: str) -> str:
    """`path` without empty and `.` parts and leading slash. CgroupError(EINVAL) on `..` or an impossible name."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if not parts or any(part == ".." or len(part.encode()) > 255 or "\0" in part or "\n" in part for part in parts):
        raise CgroupError(errno.EINVAL, f"invalid cgroup path {path!r}")
    return "/".join(parts)


class Hierarchy:
    """The hierarchies of this host, their mount points held open. Close it (or use `with`) when done.

    `version` is "v1", "v2" or "hybrid"; `mounts` are the v1 hierarchies, `unified` the v2 one or None; `controllers`
    are those that can be used, under their v1 or v2 names (v2's `io` is not v1's `blkio`).
    """

    def __init__(self, mounts: tuple[MountPoint, ...], unified: MountPoint | None) -> None:
        self.mounts = mounts
        self.unified = unified
        self.version = "v2" if not mounts else "hybrid" if unified else "v1"
        # On a hybrid host v2 has the leftovers that nobody mounted; they are not used, as with any other v1 host.
        self.controllers = frozenset(name for mount in mounts or (unified,) if mount for name in mount.controllers)

    def close(self) -> None:
        """Close the mount points' descriptors. Groups opened from this hierarchy work no more."""
        for mount in (*self.mounts, *([self.unified] if self.unified else [])):
            os.close(mount.fd)
        self.mounts, self.unified = (), None

    def __del__(self) -> None:
        # Groups hold their hierarchy, so nobody can use these descriptors any more.
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _choose(lines: list[_Line], membership: dict[str, str], key: str) -> _Line | None:
    """The best of several mounts of one hierarchy: one that holds our own group, at the usual place, the oldest."""
    if not lines:
        return None

    def rank(line: _Line) -> tuple[bool, bool]:
        group = membership.get(key, "/")
        holds = line.root == "/" or group == line.root or group.startswith(line.root + "/")
        return not holds, not line.path.startswith("/sys/fs/cgroup")

    return min(lines, key=rank)


def _controllers(path: str) -> tuple[str, ...]:
    try:
        return tuple(_read(f"{path}/cgroup.controllers").split())
    except OSError as error:
        raise file_error(error, "read", f"{path}/cgroup.controllers") from None


def _open(line: _Line, controllers: tuple[str, ...], group: str) -> MountPoint:
    try:
        fd = os.open(line.path, _DIRECTORY)
    except OSError as error:
        raise file_error(error, "open", line.path) from None
    return MountPoint(line.path, controllers, line.root, below_mount(group, line.root), fd)


def detect(*, mountinfo: str | None = None, membership: str | None = None) -> Hierarchy:
    """Find this host's hierarchies. The texts of /proc/self/mountinfo and /proc/self/cgroup may be given instead.

    Raises `CgroupError` (ENOENT) where no hierarchy is mounted, `ValueError` on a text of another form.
    """
    lines = parse_mounts(_read("/proc/self/mountinfo") if mountinfo is None else mountinfo)
    member = parse_membership(_read("/proc/self/cgroup") if membership is None else membership)
    by_controllers: dict[tuple[str, ...], list[_Line]] = {}
    for line in lines:
        names = tuple(name for name in line.options if name not in _FLAGS and not name.startswith("release_agent="))
        if line.type == "cgroup" and names:
            by_controllers.setdefault(names, []).append(line)
    opened: list[MountPoint] = []
    v2 = any(line.type == "cgroup2" for line in lines)
    if v2 and not any(_DECISIVE.intersection(names) for names in by_controllers):
        by_controllers.clear()
    try:
        for names, candidates in by_controllers.items():
            chosen = _choose(candidates, member, names[0])
            assert chosen is not None
            opened.append(_open(chosen, names, member.get(names[0], "/")))
        v1 = tuple(opened)
        unified = _choose([line for line in lines if line.type == "cgroup2"], member, "")
        if unified is not None:
            opened.append(_open(unified, _controllers(unified.path), member.get("", "/")))
    except BaseException:
        for mount in opened:
            os.close(mount.fd)
        raise
    if not opened:
        raise CgroupError(errno.ENOENT, "no cgroup hierarchy is mounted")
    return Hierarchy(v1, opened[-1] if unified is not None else None)
