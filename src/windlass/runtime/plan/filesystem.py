"""The part of a plan that builds the container's file system, from the first mount to the pivot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from windlass.kernel.mount_options import MS_PRIVATE, MS_SLAVE, PROPAGATIONS, parse_options
from windlass.runtime.plan import steps as plan
from windlass.runtime.plan.checks import Kinds, check_id
from windlass.runtime.wire import LaunchFailure

_DEVICES: Final = (
    plan.Device("null", "c", 1, 3, 0o666, 0, 0),
    plan.Device("zero", "c", 1, 5, 0o666, 0, 0),
    plan.Device("full", "c", 1, 7, 0o666, 0, 0),
    plan.Device("random", "c", 1, 8, 0o666, 0, 0),
    plan.Device("urandom", "c", 1, 9, 0o666, 0, 0),
    plan.Device("tty", "c", 5, 0, 0o666, 0, 0),
)
_LINKS: Final = plan.MakeLinks(
    "/dev",
    (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
        ("core", "/proc/kcore"),
    ),
)
# What may be bound over in /proc: files of numbers that a tool like lxcfs serves (as runc allows).
_PROC_BINDABLE: Final = frozenset(
    "/proc/" + name
    for name in ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "net/dev",
                 "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled")
)  # fmt: skip
# These take SELinux's label of the mount; others have none of their own, or share one.
_LABELLED: Final = frozenset({"tmpfs", "mqueue", "devpts", "ramfs", "overlay"})


def filesystem_steps(config: Mapping[str, Any], kinds: Kinds, *, pivot: bool) -> list[plan.Step]:
    """All of it, in order."""
    linux = config.get("linux") or {}
    process = config.get("process") or {}
    flag = propagation(linux)
    # Nothing that is mounted here may reach the host: at least slave, also when the container's root is to be shared.
    # What binds are to share with the host is decided by the trees that the parent has cloned before.
    inherited = flag[0] if flag and flag[0] in {MS_SLAVE, MS_PRIVATE} else MS_SLAVE
    steps: list[plan.Step] = [plan.SetPropagation(inherited), plan.AttachRoot()]
    steps += _mount_steps(config, kinds)
    if process.get("terminal"):
        steps.append(plan.OpenConsole())
    # Masks and read-only paths are mounted before the pivot, while what they are made of (the host's null device) can
    # be reached; the paths are resolved inside the root, so they are the container's.
    steps += [plan.MakeReadonly(path) for path in linux.get("readonlyPaths") or ()]
    steps += [plan.MaskPath(path) for path in linux.get("maskedPaths") or ()]
    steps.append(plan.MakeWorkingDirectory(process.get("cwd") or "/"))
    hooks = config.get("hooks") or {}
    if hooks.get("prestart") or hooks.get("createRuntime"):
        steps.append(plan.RunHooks("createRuntime", by_parent=True))
    if hooks.get("createContainer"):
        steps.append(plan.RunHooks("createContainer", by_parent=False))
    steps.append(plan.PivotRoot(pivot))
    if flag:
        steps.append(plan.SetRootPropagation(*flag))
    if (config.get("root") or {}).get("readonly"):
        # Last, because mount points, device nodes and the working directory had to be made.
        steps.append(plan.MakeRootReadonly())
    return steps


def propagation(linux: Mapping[str, Any]) -> tuple[int, bool] | None:
    """`rootfsPropagation` as (kernel's flag, recursive). Raises LaunchFailure."""
    name = linux.get("rootfsPropagation") or ""
    if name and name not in PROPAGATIONS:
        raise LaunchFailure("config", f"rootfsPropagation={name} is not supported")
    return PROPAGATIONS.get(name)


def _mount_steps(config: Mapping[str, Any], kinds: Kinds) -> list[plan.Step]:
    linux = config.get("linux") or {}
    default = propagation(linux) or (MS_SLAVE, True)
    steps: list[plan.Step] = []
    own_dev = True
    for entry in config.get("mounts") or ():
        step = _mount_step(entry, linux, kinds, default)
        steps.append(step)
        if isinstance(step, plan.BindMount) and _clean(step.target) == "/dev":
            # The host's /dev was bound: its nodes are there, and nothing is made in it.
            own_dev = False
    if own_dev:
        steps += _device_steps(linux, bind="user" in kinds)
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


def _mount_step(
    entry: Mapping[str, Any], linux: Mapping[str, Any], kinds: Kinds, default: tuple[int, bool]
) -> plan.Step:
    target, kind, source = entry.get("destination") or "", entry.get("type") or "", entry.get("source") or ""
    options = parse_options(entry.get("options") or ())
    if not target:
        raise LaunchFailure("config", "a mount has no destination")
    target = "/" + target.lstrip("/")
    clean = _clean(target)
    if clean == "/":
        raise LaunchFailure("config", "invalid mount destination: a mount cannot cover the root")
    if options.remount:
        return plan.Remount(target, options)
    if options.bind or kind in {"bind", "rbind"}:
        if clean.startswith("/proc/") and clean not in _PROC_BINDABLE:
            raise LaunchFailure("mount", f'"{target}" cannot be mounted because it is inside /proc')
        if clean == "/proc" and source != "/proc":
            raise LaunchFailure("mount", '"/proc" cannot be mounted because it is not of type proc')
        if kind == "rbind" and not options.recursive_bind:
            options = parse_options(["rbind", *(entry.get("options") or ())])
        if not options.propagations:
            options = options.with_propagation(default)
        return plan.BindMount(target, source, options, _mapping(entry, linux, options.idmap))
    if clean.startswith("/proc/"):
        raise LaunchFailure("mount", f'"{target}" cannot be mounted because it is inside /proc')
    if not kind:
        raise LaunchFailure("config", f"the mount on {target} has no type")
    if clean == "/proc" and kind != "proc":
        raise LaunchFailure("mount", '"/proc" cannot be mounted because it is not of type proc')
    if kind in {"cgroup", "cgroup2"}:
        return plan.MountCgroups(target, options, private="cgroup" in kinds)
    label = linux.get("mountLabel") or "" if kind in _LABELLED else ""
    return plan.MountFilesystem(target, kind, source or kind, options, label)


def _mapping(entry: Mapping[str, Any], linux: Mapping[str, Any], idmap: bool) -> plan.IdMapping | None:
    """Whose eyes a bind is seen through: its own mappings, with `idmap` else those of the container."""
    own = entry.get("uidMappings"), entry.get("gidMappings")
    if bool(own[0]) != bool(own[1]):
        raise LaunchFailure("config", "a mount needs both uidMappings and gidMappings")
    if own[0]:
        return id_mapping(own[0], own[1])
    if not idmap:
        return None
    if not linux.get("uidMappings"):
        raise LaunchFailure("config", "idmap mount without uid and gid mappings")
    return id_mapping(linux["uidMappings"], linux["gidMappings"])


def id_mapping(users: Any, groups: Any) -> plan.IdMapping:
    """OCI's mappings as tuples. Raises LaunchFailure for numbers that cannot be."""
    return plan.IdMapping(*(tuple(map(_mapping_line, lines)) for lines in (users, groups)))


def _mapping_line(line: Mapping[str, Any]) -> tuple[int, int, int]:
    inside, outside, size = (line.get(key, 0) for key in ("containerID", "hostID", "size"))
    for first in (inside, outside):
        check_id(first, "mapped id")
        if not isinstance(size, int) or size < 1:
            raise LaunchFailure("config", f"a mapping of {size!r} ids is not possible")
        check_id(first + size - 1, "mapped id")
    return inside, outside, size


def _device_steps(linux: Mapping[str, Any], *, bind: bool) -> list[plan.Step]:
    found: dict[tuple[str, str], plan.Device] = {("/dev", device.name): device for device in _DEVICES}
    for entry in linux.get("devices") or ():
        path = _clean(str(entry.get("path") or ""))
        directory, _, name = path.rpartition("/")
        kind = {"u": "c"}.get(str(entry.get("type")), str(entry.get("type")))
        if not name or kind not in {"b", "c", "p"}:
            raise LaunchFailure("config", f"device {entry.get('path')!r} of type {entry.get('type')!r} cannot be made")
        mode = entry.get("fileMode")
        found[directory or "/", name] = plan.Device(
            name,
            kind,
            int(entry.get("major") or 0),
            int(entry.get("minor") or 0),
            0o666 if mode is None else int(mode) & 0o7777,
            check_id(entry.get("uid") or 0, "uid of a device"),
            check_id(entry.get("gid") or 0, "gid of a device"),
        )
    directories: dict[str, list[plan.Device]] = {}
    for (directory, _), device in found.items():
        directories.setdefault(directory, []).append(device)
    return [*(plan.MakeDevices(where, tuple(what), bind) for where, what in directories.items()), _LINKS]
