"""The steps that a plan is made of: typed, immutable, without behaviour. `windlass.runtime.init` carries them out."""

from __future__ import annotations

from typing import Any, NamedTuple

from windlass.kernel.mount_options import MountOptions

# --- namespaces and cgroup


class JoinNamespace(NamedTuple):
    """Enter a namespace that exists."""

    kind: str
    path: str


class Unshare(NamedTuple):
    """Make new namespaces of these kinds, for this process and its children."""

    kinds: tuple[str, ...]


class SetTimeOffsets(NamedTuple):
    """Shift the clocks of a new time namespace: (clock, seconds, nanoseconds)."""

    offsets: tuple[tuple[str, int, int], ...]


class EnterCgroup(NamedTuple):
    """Move into the container's cgroup."""


class SetHostname(NamedTuple):
    """sethostname(2), setdomainname(2)."""

    hostname: str | None
    domainname: str | None


class WriteSysctls(NamedTuple):
    """Kernel parameters of the container's namespaces: (path below /proc/sys, value), through a trusted procfs."""

    values: tuple[tuple[str, str], ...]


class SetOomScore(NamedTuple):
    """oom_score_adj."""

    value: int


# --- the root file system


class SetPropagation(NamedTuple):
    """How mount events pass between this mount namespace and the host's, for the whole tree."""

    flag: int


class AttachRoot(NamedTuple):
    """The root file system, which the parent has prepared, becomes part of this mount namespace."""


class MountFilesystem(NamedTuple):
    """A new file system at a target inside the root."""

    target: str
    type: str
    source: str
    options: MountOptions
    label: str = ""


class IdMapping(NamedTuple):
    """Lines of uid_map and gid_map: (inside, on the host, size)."""

    users: tuple[tuple[int, int, int], ...]
    groups: tuple[tuple[int, int, int], ...]


class BindMount(NamedTuple):
    """A file or directory of the host at a target inside the root; `mapping` for an idmapped mount."""

    target: str
    source: str
    options: MountOptions
    mapping: IdMapping | None = None


class Remount(NamedTuple):
    """Change the attributes of what is mounted at a target."""

    target: str
    options: MountOptions


class MountCgroups(NamedTuple):
    """The cgroup hierarchies at a target inside the root; `private` where the container has a cgroup namespace."""

    target: str
    options: MountOptions
    private: bool


class Device(NamedTuple):
    """A device node; `type` is c, b or p."""

    name: str
    type: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int


class MakeDevices(NamedTuple):
    """Device nodes in a directory inside the root; `bind`: prepared by the parent, as in a user namespace mknod(2) is
    refused."""

    directory: str
    devices: tuple[Device, ...]
    bind: bool


class MakeLinks(NamedTuple):
    """Symbolic links (name, target) in a directory inside the root, where nothing stands."""

    directory: str
    links: tuple[tuple[str, str], ...]


class OpenConsole(NamedTuple):
    """A terminal from the container's own devpts, bound at /dev/console; its master goes to the parent."""


class MakeReadonly(NamedTuple):
    """A path becomes read-only, with all mounts below."""

    path: str


class MaskPath(NamedTuple):
    """Nothing can be read below: the null device over a file, an empty read-only tmpfs over a directory."""

    path: str


class MakeWorkingDirectory(NamedTuple):
    """Make the working directory, as root, where the image has none."""

    path: str


class RunHooks(NamedTuple):
    """Hooks of a kind. Those of the runtime's namespaces are run by the parent, who is asked to."""

    kind: str
    by_parent: bool


class PivotRoot(NamedTuple):
    """The root becomes `/`; the host's tree is gone. Without `pivot`, MS_MOVE and chroot (a host on a ramfs)."""

    pivot: bool = True


class SetRootPropagation(NamedTuple):
    """Propagation of the container's own root mount."""

    flag: int
    recursive: bool


class MakeRootReadonly(NamedTuple):
    """The root mount itself becomes read-only."""


# --- the process


class OutliveParent(NamedTuple):
    """Say that the container is complete; from now on the parent's death is not ours."""


class NewSessionKeyring(NamedTuple):
    """A session keyring of its own, so that the host's keys are not found."""

    name: str


class SetPersonality(NamedTuple):
    """personality(2)."""

    domain: str


class SetScheduler(NamedTuple):
    """sched_setattr(2) with these packed attributes."""

    attributes: bytes


class SetIoPriority(NamedTuple):
    """ioprio_set(2)."""

    io_class: str
    priority: int


class SetAffinity(NamedTuple):
    """sched_setaffinity(2)."""

    cpus: frozenset[int]


class WaitForStart(NamedTuple):
    """Say "created", then wait for the start."""


class SetExecLabel(NamedTuple):
    """The AppArmor profile or SELinux label that the program gets."""

    module: str
    label: str


class SetNoNewPrivileges(NamedTuple):
    """no_new_privs."""


class LoadSeccomp(NamedTuple):
    """Install the compiled filter; with `listener` its notifications go to the parent."""

    flags: int
    listener: bool


class DropBounding(NamedTuple):
    """Give up all capabilities but these, for ever."""

    keep: int


class EnterDirectory(NamedTuple):
    """chdir(2) as root; a directory that root may not enter waits for `CheckDirectory`."""

    path: str


class SetRlimit(NamedTuple):
    """setrlimit(2). `optional`: a default that gives way to what the host can grant."""

    name: str
    number: int
    soft: int
    hard: int
    optional: bool


class SetUser(NamedTuple):
    """Groups, then group ids, then user ids; capabilities are kept across until the next step."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    umask: int | None


class SetCapabilities(NamedTuple):
    """The sets of the thread, as masks."""

    effective: int
    permitted: int
    inheritable: int
    ambient: int


class CheckDirectory(NamedTuple):
    """Be in the working directory, and prove that it is inside the root."""

    path: str


class FindProgram(NamedTuple):
    """Look the program up, as the user and by the container's own PATH."""

    name: str
    path: str


class CloseDescriptors(NamedTuple):
    """Everything from `first` on is closed by the exec."""

    first: int


class Execute(NamedTuple):
    """execve(2)."""

    args: tuple[str, ...]
    env: tuple[str, ...]


Step = Any
"""One of the above."""
Plan = tuple[Step, ...]
