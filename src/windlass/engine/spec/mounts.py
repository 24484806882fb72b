"""The list of mounts: dockerd's defaults unless the user's replace them, then the user's, parents first. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from windlass.engine.spec.defaults import MOUNTS
from windlass.errors import InvalidParameter

Document = dict[str, Any]

_FLAG_GROUPS: Final = (
    ("ro", "rw"),
    ("suid", "nosuid"),
    ("dev", "nodev"),
    ("exec", "noexec"),
    ("sync", "async"),
    ("dirsync",),
    ("mand", "nomand"),
    ("atime", "noatime"),
    ("diratime", "nodiratime"),
    ("relatime", "norelatime"),
    ("strictatime", "nostrictatime"),
    ("private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"),
)
_FLAGS: Final = {name: group[0] for group in _FLAG_GROUPS for name in group}
_VALUES: Final = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"})
_ALWAYS_WRITABLE: Final = frozenset({"/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"})  # noqa: S108


@dataclass(frozen=True, kw_only=True, slots=True)
class UserMount:
    """A mount besides the defaults: a bind (volumes are binds too) or a tmpfs."""

    destination: str
    source: str = ""  # "" for a tmpfs
    writable: bool = True
    propagation: str = ""
    tmpfs_options: tuple[str, ...] = ()
    non_recursive: bool = False
    readonly_non_recursive: bool = False
    readonly_force_recursive: bool = False

    @property
    def is_tmpfs(self) -> bool:
        """Whether it brings a file system of its own."""
        return not self.source


def merge_tmpfs_options(options: Iterable[str]) -> list[str]:
    """The last of contradicting options wins. Raises `InvalidParameter` for one that tmpfs does not know."""
    taken: set[str] = set()
    result: list[str] = []
    for option in reversed(list(options)):
        if option in {"", "defaults"}:
            continue
        name, separator, _ = option.partition("=")
        key = _FLAGS.get(option) or (name if separator and name in _VALUES else None)
        if key is None:
            raise InvalidParameter(f'Invalid tmpfs option ["{option}"]')
        if key not in taken:
            taken.add(key)
            result.append(option)
    result.reverse()
    return result


def parents_first(mounts: Iterable[UserMount]) -> list[UserMount]:
    """In an order in which no mount hides one that was made before it."""
    return sorted(mounts, key=lambda mount: mount.destination.rstrip("/").count("/"))


def _bind(mount: UserMount, *, recursive_readonly: bool) -> Document:
    options = ["bind" if mount.non_recursive else "rbind"]
    if not mount.writable:
        if mount.readonly_non_recursive and mount.readonly_force_recursive:
            raise InvalidParameter("mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive")
        if mount.readonly_force_recursive and not recursive_readonly:
            raise InvalidParameter("recursive read-only mounts are not supported by this runtime")
        options.append("rro" if recursive_readonly and not mount.readonly_non_recursive else "ro")
    elif mount.readonly_non_recursive or mount.readonly_force_recursive:
        name = "ReadOnlyNonRecursive" if mount.readonly_non_recursive else "ReadOnlyForceRecursive"
        raise InvalidParameter(f"mount options conflict: !ReadOnly && BindOptions.{name}")
    if mount.propagation:
        options.append(mount.propagation)
    return {"destination": mount.destination, "type": "bind", "source": mount.source, "options": options}


def _tmpfs(mount: UserMount) -> Document:
    options = merge_tmpfs_options(["noexec", "nosuid", "nodev", "rprivate", *mount.tmpfs_options])
    return {"destination": mount.destination, "type": "tmpfs", "source": "tmpfs", "options": options}


def build_mounts(
    user_mounts: Sequence[UserMount],
    host_config: Mapping[str, Any],
    *,
    recursive_readonly: bool,
    writable_cgroups: bool,
) -> list[Document]:
    """The `mounts` of the configuration. Raises `InvalidParameter`."""
    ordered = parents_first(user_mounts)
    taken = {mount.destination for mount in ordered}
    privileged, readonly = host_config["Privileged"], host_config["ReadonlyRootfs"]
    result: list[Document] = []
    for destination, kind, source, defaults in MOUNTS:
        if destination in taken or ("/dev" in taken and destination.startswith("/dev/")):
            continue
        options = list(defaults)
        if destination == "/dev/shm":  # noqa: S108 - in the container
            if host_config["IpcMode"] == "none":
                continue
            options.append(f"size={host_config['ShmSize']}")
        writable = (privileged and destination == "/sys") or (writable_cgroups and kind == "cgroup")
        if writable and "ro" in options:
            options.remove("ro")
        elif readonly and destination not in _ALWAYS_WRITABLE and "ro" not in options and not writable:
            options.append("ro")
        result.append({"destination": destination, "type": kind, "source": source, "options": options})
    for mount in ordered:
        result.append(_tmpfs(mount) if mount.is_tmpfs else _bind(mount, recursive_readonly=recursive_readonly))
    return result


def rootfs_propagation(user_mounts: Iterable[UserMount]) -> str:
    """`linux.rootfsPropagation`: the root must let through what a shared or slave mount inside it asks for."""
    wanted = {mount.propagation for mount in user_mounts}
    if wanted & {"shared", "rshared"}:
        return "shared"
    if wanted & {"slave", "rslave"}:
        return "rslave"
    return ""
