"""What a configuration may not ask for, judged from the configuration alone; with runc's words where it has some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from windlass.kernel.namespaces import FLAGS
from windlass.runtime.wire import LaunchFailure

_IPC_SYSCTLS: Final = frozenset(
    "kernel." + name for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)
_UNSUPPORTED: Final = ("intelRdt", "netDevices", "memoryPolicy")
_HIGHEST_ID: Final = 2**32 - 2
"""(uid_t)-1 means "leave as it is" to setresuid(2): as an identity it would keep root's (CVE-2024-40635)."""

Kinds = Mapping[str, str | None]


def namespaces(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Kind of namespace to its path (None: a new one). Raises LaunchFailure for unknown and doubled kinds."""
    found: dict[str, str | None] = {}
    for entry in (config.get("linux") or {}).get("namespaces") or ():
        kind = entry.get("type", "")
        if kind not in FLAGS:
            raise LaunchFailure("config", f"unknown namespace type {kind!r}")
        if kind in found:
            raise LaunchFailure("config", f"malformed spec file: duplicated ns {kind!r}")
        found[kind] = entry.get("path") or None
    return found


def check_config(config: Mapping[str, Any], kinds: Kinds) -> None:
    """Raises LaunchFailure for what cannot be, or what would be applied to the host."""
    linux = config.get("linux") or {}
    for key in _UNSUPPORTED:
        if linux.get(key):
            raise LaunchFailure("config", f"linux.{key} is not supported")
    if "mount" not in kinds or kinds["mount"] is not None:
        # Elsewhere the root would have to be entered by chroot(2), out of which there are ways.
        raise LaunchFailure("config", "a container needs a mount namespace of its own")
    if not (config.get("root") or {}).get("path"):
        raise LaunchFailure("config", "root.path must be set")
    for field in ("hostname", "domainname"):
        if config.get(field) and "uts" not in kinds:
            raise LaunchFailure("config", f"unable to set {field} without a private UTS namespace")
    _check_users(linux, kinds)
    if linux.get("timeOffsets") and kinds.get("time", "host") is not None:
        raise LaunchFailure("config", "time namespace offsets given without a new time namespace")
    for clock in linux.get("timeOffsets") or ():
        if clock not in {"monotonic", "boottime"}:
            raise LaunchFailure("config", f"a time namespace has no clock {clock!r}")


def _check_users(linux: Mapping[str, Any], kinds: Kinds) -> None:
    if "user" in kinds and kinds["user"] is None and not (linux.get("uidMappings") and linux.get("gidMappings")):
        raise LaunchFailure("config", "User namespaces enabled, but no uid mappings found.")
    if "user" not in kinds and (linux.get("uidMappings") or linux.get("gidMappings")):
        raise LaunchFailure(
            "config", "User namespace mappings specified, but user namespace isn't enabled in the config"
        )


def check_id(value: Any, what: str) -> int:
    """A user or group number. Raises LaunchFailure out of 0 to 2**32 - 2."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _HIGHEST_ID:
        raise LaunchFailure("config", f"{what} {value!r} is not in the range 0-{_HIGHEST_ID}")
    return value


def sysctl_path(name: str, kinds: Kinds) -> str:
    """The file of a kernel parameter below /proc/sys, if it belongs to a namespace that the container has.

    Names have dots or slashes between their parts; whichever comes first separates (sysctl.d(5)). Whether a namespace
    that is joined is the host's after all is for the caller to find out. Raises LaunchFailure.
    """
    dot, slash = name.find("."), name.find("/")
    if slash >= 0 and (dot < 0 or slash < dot):
        parts = name.split("/")
    else:
        parts = [part.replace("/", ".") for part in name.split(".")]
    if any(part in {"", ".", ".."} or "/" in part or "\0" in part for part in parts):
        raise LaunchFailure("config", f"sysctl {name!r} is not a valid name")
    kind, where = _owner(".".join(parts))
    if kind is None:
        raise LaunchFailure("config", f"sysctl {name!r} {where}")
    if kind not in kinds:
        raise LaunchFailure("config", f"sysctl {name!r} {where}")
    return "/".join(parts)


def sysctl_namespace(path: str) -> str:
    """The kind of namespace that a path from `sysctl_path` belongs to."""
    kind, _ = _owner(path.replace("/", "."))
    assert kind is not None
    return kind


def _owner(name: str) -> tuple[str | None, str]:
    """The kind of namespace a parameter belongs to, and what is wrong if the container has none of its own."""
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        return "ipc", "is not allowed in the hosts ipc namespace"
    if name.startswith("net."):
        return "network", "not allowed in host network namespace"
    if name == "kernel.domainname":
        return "uts", "is not allowed in the hosts UTS namespace"
    if name == "kernel.hostname":
        return None, "is not allowed as it conflicts with the OCI 'hostname' field"
    return None, "is not in a separate kernel namespace"
