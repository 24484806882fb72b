"""From an OCI configuration to a plan: the ordered steps that make a process a container.

A pure function: no system call, no clock, no root. The order is where escapes live, so it is data that a test can read;
`runtime.init` carries the steps out, in the forked child, one function for each kind of step.

    plan_container   namespaces → cgroup → sysctls → root → mounts → devices → console → masks → pivot → the process
    plan_exec        (the child is in the container already) → the process
    plan_process     limits → keyring → label → capabilities → user → directory → descriptors → exec

See runtime-spec, config.md, config-linux.md and runtime.md ("Lifecycle").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from windlass.kernel.mount_options import MS_PRIVATE, MS_SLAVE, PROPAGATIONS, MountOptions, parse_options
from windlass.kernel.mounts import Mount
from windlass.kernel.namespaces import FLAGS
from windlass.kernel.process import pack_scheduler
from windlass.runtime.wire import LaunchFailure

# --- steps: namespaces and cgroup


class JoinNamespace(NamedTuple):
    """Enter a namespace that exists."""

    kind: str
    path: str


class Unshare(NamedTuple):
    """Make new namespaces of these kinds, for this process and its children."""

    kinds: tuple[str, ...]


class EnterCgroup(NamedTuple):
    """Move into the container's cgroup."""


class SetTimeOffsets(NamedTuple):
    """Shift the clocks of a new time namespace: (clock, seconds, nanoseconds)."""

    offsets: tuple[tuple[str, int, int], ...]


class SetPropagation(NamedTuple):
    """How mount events pass between this mount namespace and the host's, for the whole tree."""

    flag: int
    recursive: bool


# --- steps: the root file system


class AttachRoot(NamedTuple):
    """Mount the root file system: a stack of mounts, or a directory bound onto itself (`mounts` is None)."""

    mounts: tuple[Mount, ...] | None
    path: str


class MountFilesystem(NamedTuple):
    """A new file system at a target inside the root."""

    target: str
    type: str
    source: str
    options: MountOptions


class BindMount(NamedTuple):
    """A file or directory of the host at a target inside the root."""

    target: str
    source: str
    options: MountOptions


class MountCgroups(NamedTuple):
    """The cgroup hierarchies at a target inside the root; `private` where the container has a cgroup namespace."""

    target: str
    options: MountOptions
    private: bool


class MakeDevice(NamedTuple):
    """A device node inside the root; bound from the host where a user namespace forbids mknod(2)."""

    path: str
    type: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    bind: bool


class MakeLink(NamedTuple):
    """A symbolic link inside the root, where nothing stands."""

    path: str
    target: str


class OpenConsole(NamedTuple):
    """A terminal from the container's own devpts, bound at /dev/console; its master goes to the parent."""


class RunHooks(NamedTuple):
    """Hooks of a kind. Those of the runtime's namespaces are run by the parent, who is asked to."""

    kind: str
    by_parent: bool


class PivotRoot(NamedTuple):
    """The root becomes `/`; the host's tree is gone. Without `pivot`, MS_MOVE and chroot (a root on initramfs)."""

    pivot: bool = True


class SetRootPropagation(NamedTuple):
    """Propagation of the container's own root mount."""

    flag: int
    recursive: bool


class SetHostname(NamedTuple):
    """sethostname(2), setdomainname(2)."""

    hostname: str | None
    domainname: str | None


class WriteSysctls(NamedTuple):
    """Kernel parameters of the container's namespaces, written through a procfs that is known to be one."""

    values: tuple[tuple[str, str], ...]


class MaskPath(NamedTuple):
    """Nothing can be read below: /dev/null over a file, an empty read-only tmpfs over a directory."""

    path: str


class MakeReadonly(NamedTuple):
    """A path becomes read-only, with all mounts below."""

    path: str


class MakeRootReadonly(NamedTuple):
    """The root mount itself becomes read-only."""


# --- steps: the process


class OutliveParent(NamedTuple):
    """Say that the container is complete; from now on the parent's death is not ours."""


class SetRlimit(NamedTuple):
    """setrlimit(2)."""

    name: str
    soft: int
    hard: int


class SetOomScore(NamedTuple):
    """oom_score_adj."""

    value: int


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

    klass: str
    priority: int


class WaitForStart(NamedTuple):
    """Say "created", then wait for the start."""


class SetExecLabel(NamedTuple):
    """The AppArmor profile or SELinux label that the program gets."""

    module: str
    label: str


class SetNoNewPrivileges(NamedTuple):
    """no_new_privs."""


class LoadSeccomp(NamedTuple):
    """Install the compiled filter."""

    flags: tuple[str, ...]


class DropBounding(NamedTuple):
    """Give up what can never be had again."""

    keep: tuple[str, ...]


class SetUser(NamedTuple):
    """Groups, then group ids, then user ids; capabilities are kept across until the next step."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    umask: int | None


class SetCapabilities(NamedTuple):
    """The four sets that a thread has."""

    effective: tuple[str, ...]
    permitted: tuple[str, ...]
    inheritable: tuple[str, ...]
    ambient: tuple[str, ...]


class MakeWorkingDirectory(NamedTuple):
    """Make the working directory, as root, where the image has none."""

    path: str


class ChangeDirectory(NamedTuple):
    """chdir(2), and proof that we are inside the root."""

    path: str


class CloseDescriptors(NamedTuple):
    """Everything from `first` on is closed by the exec."""

    first: int


class Execute(NamedTuple):
    """execve(2): the program, found by the container's own PATH."""

    args: tuple[str, ...]
    env: tuple[str, ...]


Plan = tuple[Any, ...]

# Order of joining and making: a user namespace first (it owns the others), mount last (paths are the host's before).
_ORDER: Final = ("user", "pid", "network", "ipc", "uts", "cgroup", "time", "mount")
_DEFAULT_DEVICES: Final = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
_DEFAULT_LINKS: Final = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/core", "/proc/kcore"),
)
# What may be bound over in /proc: files of numbers that a tool like lxcfs serves (as runc allows).
_PROC_BINDABLE: Final = frozenset(
    "/proc/" + name
    for name in ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "net/dev",
                 "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled")
)  # fmt: skip
# A sysctl is the container's own only if its namespace is new or another container's, never the host's.
_IPC_SYSCTLS: Final = frozenset(
    "kernel." + name for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)


def namespaces(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Kind to path (None: a new one). Raises LaunchFailure for unknown and doubled kinds."""
    found: dict[str, str | None] = {}
    for entry in (config.get("linux") or {}).get("namespaces") or ():
        kind = entry.get("type", "")
        if kind not in FLAGS:
            raise LaunchFailure("config", f"unknown namespace type {kind!r}")
        if kind in found:
            raise LaunchFailure("config", f"malformed spec file: duplicated ns {kind!r}")
        found[kind] = entry.get("path") or None
    return found


def plan_container(
    config: Mapping[str, Any], *, rootfs: Sequence[Mount] | None, gate: bool = False, pivot: bool = True
) -> Plan:
    """The steps for a container's init.

    Args:
        config: the OCI runtime configuration.
        rootfs: what to mount as the root, or None for `root.path` itself.
        gate: stop before the program and wait for the start.
        pivot: False for hosts whose own root is a ramfs, which cannot be pivoted.

    Raises:
        LaunchFailure: the configuration asks for what cannot be, with runc's words where it has some.
    """
    linux = config.get("linux") or {}
    kinds = namespaces(config)
    _check(config, kinds)
    steps: list[Any] = [*_namespace_steps(linux, kinds)]
    if "uts" in kinds and (config.get("hostname") or config.get("domainname")):
        steps.append(SetHostname(config.get("hostname") or None, config.get("domainname") or None))
    if sysctls := linux.get("sysctl"):
        # While the host's procfs is in reach, which no image can have replaced; it shows our own namespaces.
        steps.append(WriteSysctls(tuple(sysctls.items())))
    if (score := (config.get("process") or {}).get("oomScoreAdj")) is not None:
        steps.append(SetOomScore(int(score)))
    if "mount" in kinds:
        steps += _root_steps(config, rootfs, kinds)
        # Masks and read-only paths are mounted before the pivot, while what they are made of (the host's null device)
        # can be reached; the paths are resolved inside the root, so they are the container's.
        steps += [MakeReadonly(path) for path in linux.get("readonlyPaths") or ()]
        steps += [MaskPath(path) for path in linux.get("maskedPaths") or ()]
        steps.append(MakeWorkingDirectory((config.get("process") or {}).get("cwd") or "/"))
        hooks = config.get("hooks") or {}
        if hooks.get("prestart") or hooks.get("createRuntime"):
            steps.append(RunHooks("createRuntime", by_parent=True))
        if hooks.get("createContainer"):
            steps.append(RunHooks("createContainer", by_parent=False))
        steps.append(PivotRoot(pivot))
        if flag := _propagation(linux):
            steps.append(SetRootPropagation(*flag))
        if (config.get("root") or {}).get("readonly"):
            steps.append(MakeRootReadonly())
    return (*steps, *plan_process(config, gate=gate))


def plan_exec(process: Mapping[str, Any], linux: Mapping[str, Any]) -> Plan:
    """The steps for a further process: it has entered the container's namespaces and cgroup."""
    steps = plan_process({"process": process, "linux": linux}, gate=False)
    if process.get("oomScoreAdj") is not None:
        return (SetOomScore(int(process["oomScoreAdj"])), *steps)
    return steps


def _propagation(linux: Mapping[str, Any]) -> tuple[int, bool] | None:
    name = linux.get("rootfsPropagation") or ""
    if name and name not in PROPAGATIONS:
        raise LaunchFailure("config", f"rootfsPropagation={name} is not supported")
    return PROPAGATIONS.get(name)


def _check(config: Mapping[str, Any], kinds: Mapping[str, str | None]) -> None:
    linux = config.get("linux") or {}
    process = config.get("process") or {}
    if not (config.get("root") or {}).get("path") and "mount" in kinds:
        raise LaunchFailure("config", "root.path must be set")
    if not str(process.get("cwd") or "/").startswith("/"):
        raise LaunchFailure("config", f"Cwd must be an absolute path: {process.get('cwd')}")
    if config.get("hostname") and "uts" not in kinds:
        raise LaunchFailure("config", "unable to set hostname without a private UTS namespace")
    if config.get("domainname") and "uts" not in kinds:
        raise LaunchFailure("config", "unable to set domainname without a private UTS namespace")
    if "mount" not in kinds and (linux.get("maskedPaths") or linux.get("readonlyPaths")):
        raise LaunchFailure("config", "unable to restrict sys entries without a private MNT namespace")
    if "user" in kinds and kinds["user"] is None and not (linux.get("uidMappings") and linux.get("gidMappings")):
        raise LaunchFailure("config", "User namespaces enabled, but no uid mappings found.")
    if "user" not in kinds and (linux.get("uidMappings") or linux.get("gidMappings")):
        raise LaunchFailure(
            "config", "User namespace mappings specified, but user namespace isn't enabled in the config"
        )
    if linux.get("timeOffsets") and kinds.get("time", "host") is not None:
        raise LaunchFailure("config", "time namespace offsets given without a new time namespace")
    for name in linux.get("sysctl") or ():
        _check_sysctl(name, kinds)


def _check_sysctl(name: str, kinds: Mapping[str, str | None]) -> None:
    """Only what belongs to a namespace that is not the host's; the caller checks that a joined one is not it."""
    # Names are written with dots or slashes; the first separator decides which.
    dotted = name if name.find("/") < 0 or 0 <= name.find(".") < name.find("/") else name.replace("/", ".")
    if not dotted or any(part in {"", ".", ".."} for part in dotted.split(".")):
        raise LaunchFailure("config", f"sysctl {name!r} is not a valid name")
    if dotted in _IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
        if "ipc" in kinds:
            return
        raise LaunchFailure("config", f"sysctl {name!r} is not allowed in the hosts ipc namespace")
    if dotted.startswith("net."):
        if "network" in kinds:
            return
        raise LaunchFailure("config", f"sysctl {name!r} not allowed in host network namespace")
    if dotted == "kernel.domainname":
        if "uts" in kinds:
            return
        raise LaunchFailure("config", f"sysctl {name!r} is not allowed in the hosts UTS namespace")
    if dotted == "kernel.hostname":
        raise LaunchFailure("config", f"sysctl {name!r} is not allowed as it conflicts with the OCI 'hostname' field")
    raise LaunchFailure("config", f"sysctl {name!r} is not in a separate kernel namespace")


def _namespace_steps(linux: Mapping[str, Any], kinds: Mapping[str, str | None]) -> list[Any]:
    steps: list[Any] = []
    joined = [JoinNamespace(kind, path) for kind in _ORDER if (path := kinds.get(kind))]
    # Those that the parent joins or makes when it forks (user, pid, time) stand first; it takes them from the plan.
    steps += [step for step in joined if step.kind != "mount"]
    new = tuple(kind for kind in _ORDER if kind in kinds and kinds[kind] is None)
    early = tuple(kind for kind in new if kind not in {"cgroup"})
    if early:
        steps.append(Unshare(early))
    if offsets := linux.get("timeOffsets"):
        steps.append(
            SetTimeOffsets(
                tuple((clock, int(o.get("secs", 0)), int(o.get("nanosecs", 0))) for clock, o in offsets.items())
            )
        )
    # The cgroup is entered before its namespace is made: the namespace's root is where we are then.
    steps.append(EnterCgroup())
    if "cgroup" in new:
        steps.append(Unshare(("cgroup",)))
    steps += [step for step in joined if step.kind == "mount"]
    return steps


def _root_steps(
    config: Mapping[str, Any], rootfs: Sequence[Mount] | None, kinds: Mapping[str, str | None]
) -> list[Any]:
    linux = config.get("linux") or {}
    flag = _propagation(linux)
    # Nothing that is mounted here may reach the host: at least slave, also when the container's root is to be shared.
    inherited = flag if flag and flag[0] in {MS_SLAVE, MS_PRIVATE} else (MS_SLAVE, True)
    steps: list[Any] = [SetPropagation(inherited[0], True)]
    steps.append(AttachRoot(tuple(rootfs) if rootfs is not None else None, config["root"]["path"]))
    private = "cgroup" in kinds
    has_dev = True
    for entry in config.get("mounts") or ():
        steps.append(_mount_step(entry, private))
        if _clean(entry["destination"]) == "/dev" and parse_options(entry.get("options") or ()).bind:
            # The host's /dev was bound: its nodes are there, and nothing is made in it.
            has_dev = False
    if has_dev:
        steps += _device_steps(linux, bind="user" in kinds)
    if (config.get("process") or {}).get("terminal"):
        steps.append(OpenConsole())
    return steps


def _clean(path: str) -> str:
    """A path without doubled slashes and dots, as a string: only to recognise names, never to resolve them."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/" + "/".join(parts)


def _mount_step(entry: Mapping[str, Any], private: bool) -> Any:
    target, kind = entry.get("destination") or "", entry.get("type") or ""
    source, options = entry.get("source") or "", parse_options(entry.get("options") or ())
    if not target:
        raise LaunchFailure("config", "a mount has no destination")
    if not target.startswith("/"):
        target = "/" + target
    clean = _clean(target)
    if options.bind or kind in {"bind", "rbind"}:
        if clean.startswith("/proc/") and clean not in _PROC_BINDABLE:
            raise LaunchFailure("mount", f'"{target}" cannot be mounted because it is inside /proc')
        if clean == "/proc" and source != "/proc":
            raise LaunchFailure("mount", '"/proc" cannot be mounted because it is not of type proc')
        return BindMount(target, source, options)
    if clean.startswith("/proc/"):
        raise LaunchFailure("mount", f'"{target}" cannot be mounted because it is inside /proc')
    if kind in {"cgroup", "cgroup2"}:
        return MountCgroups(target, options, private)
    if not kind:
        raise LaunchFailure("config", f"the mount on {target} has no type")
    return MountFilesystem(target, kind, source or kind, options)


def _device_steps(linux: Mapping[str, Any], *, bind: bool) -> list[Any]:
    steps: list[Any] = []
    devices = {path: MakeDevice(path, "c", major, minor, 0o666, 0, 0, bind) for path, major, minor in _DEFAULT_DEVICES}
    for entry in linux.get("devices") or ():
        kind = "c" if entry["type"] == "u" else entry["type"]
        if kind not in {"b", "c", "p"}:
            raise LaunchFailure("config", f"device {entry['path']}: unknown type {entry['type']!r}")
        mode = entry.get("fileMode")
        devices[entry["path"]] = MakeDevice(
            entry["path"],
            kind,
            int(entry.get("major", 0)),
            int(entry.get("minor", 0)),
            0o666 if mode is None else int(mode) & 0o7777,
            int(entry.get("uid") or 0),
            int(entry.get("gid") or 0),
            bind,
        )
    steps += devices.values()
    steps += [MakeLink(path, target) for path, target in _DEFAULT_LINKS]
    return steps


def plan_process(config: Mapping[str, Any], *, gate: bool) -> Plan:
    """From a process inside the container to the container's program; the last step is execve(2)."""
    process, linux = config.get("process") or {}, config.get("linux") or {}
    user = process.get("user") or {}
    sets = process.get("capabilities") or {}
    # Before the filter, which may forbid to speak.
    steps: list[Any] = [OutliveParent()]
    for entry in process.get("rlimits") or ():
        steps.append(SetRlimit(entry["type"], int(entry["soft"]), int(entry["hard"])))
    steps.append(NewSessionKeyring("_ses"))
    if personality := linux.get("personality"):
        steps.append(SetPersonality(personality["domain"]))
    if scheduler := process.get("scheduler"):
        try:
            steps.append(SetScheduler(pack_scheduler(scheduler)))
        except ValueError as error:
            raise LaunchFailure("config", str(error)) from None
    if io := process.get("ioPriority"):
        steps.append(SetIoPriority(io["class"], int(io.get("priority", 0))))
    if gate:
        steps.append(WaitForStart())
    if (config.get("hooks") or {}).get("startContainer"):
        steps.append(RunHooks("startContainer", by_parent=False))
    if label := process.get("apparmorProfile"):
        steps.append(SetExecLabel("apparmor", label))
    if label := process.get("selinuxLabel"):
        steps.append(SetExecLabel("selinux", label))
    seccomp = linux.get("seccomp")
    no_new = bool(process.get("noNewPrivileges"))
    filter_step = LoadSeccomp(tuple((seccomp or {}).get("flags") or ()))
    if no_new:
        steps.append(SetNoNewPrivileges())
    else:
        # Without no_new_privs only CAP_SYS_ADMIN may install a filter, and that is given up below.
        steps.append(filter_step)
    steps.append(DropBounding(tuple(sets.get("bounding") or ())))
    groups = tuple(int(group) for group in user.get("additionalGids") or ())
    umask = user.get("umask")
    steps.append(
        SetUser(int(user.get("uid") or 0), int(user.get("gid") or 0), groups, None if umask is None else int(umask))
    )
    steps.append(
        SetCapabilities(*(tuple(sets.get(name) or ()) for name in ("effective", "permitted", "inheritable", "ambient")))
    )
    # As the user, because root may be refused where the user is not (a directory on NFS), and the other way round.
    steps.append(ChangeDirectory(process.get("cwd") or "/"))
    steps.append(CloseDescriptors(3))
    if no_new:
        # As late as can be: what the filter refuses is then refused to the program alone.
        steps.append(filter_step)
    args = tuple(process.get("args") or ())
    if not args:
        raise LaunchFailure("config", "process.args must not be empty")
    steps.append(Execute(args, tuple(process.get("env") or ())))
    return tuple(steps)
