"""`--security-opt`, `--cap-add`, `--cap-drop`: from the client's words to what the container gets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from windlass.errors import InvalidParameter

DEFAULT_CAPABILITIES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
UNCONFINED: Final = "unconfined"
BUILTIN: Final = "builtin"
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})


@dataclass(frozen=True, kw_only=True)
class SecurityOptions:
    """What the `--security-opt`s of a container say. `""` and None: the default."""

    no_new_privileges: bool = False
    apparmor: str = ""  # profile name or "unconfined"
    seccomp: str = ""  # "unconfined", "builtin" or the text of a profile
    labels: tuple[str, ...] = ()  # SELinux: "disable", "user:U", "role:R", "type:T", "level:L"
    writable_cgroups: bool | None = None
    systempaths_unconfined: bool = False


def _boolean(text: str, option: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
    return text in _TRUE


def parse_security_options(options: Iterable[str], *, no_new_privileges: bool = False) -> SecurityOptions:
    """Read the options. Raises `InvalidParameter` with dockerd's words."""
    apparmor = seccomp = ""
    labels: list[str] = []
    writable_cgroups: bool | None = None
    systempaths = False
    for option in options:
        match option:
            case "no-new-privileges":
                no_new_privileges = True
                continue
            case "writable-cgroups":
                writable_cgroups = True
                continue
            case "disable":
                labels.append("disable")
                continue
        name, separator, value = option.partition("=" if "=" in option else ":")
        if not separator:
            raise InvalidParameter(f'invalid --security-opt 1: "{option}"')
        match name:
            case "label":
                labels.append(value)
            case "apparmor":
                apparmor = value
            case "seccomp":
                seccomp = value
            case "no-new-privileges":
                no_new_privileges = _boolean(value, option)
            case "writable-cgroups":
                writable_cgroups = _boolean(value, option)
            case "systempaths" if value == UNCONFINED:
                systempaths = True
            case _:
                raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
    return SecurityOptions(
        no_new_privileges=no_new_privileges,
        apparmor=apparmor,
        seccomp=seccomp,
        labels=tuple(labels),
        writable_cgroups=writable_cgroups,
        systempaths_unconfined=systempaths,
    )


def normalise_capabilities(names: Iterable[str], *, known: Sequence[str], available: Sequence[str]) -> list[str]:
    """Names in capitals with their prefix; `ALL` stays. Raises `InvalidParameter`.

    `known` are the kernel's capabilities, `available` those of this process's bounding set.
    """
    result = []
    for given in names:
        name = given.upper()
        if name != "ALL":
            name = name if name.startswith("CAP_") else f"CAP_{name}"
            if name not in known:
                raise InvalidParameter(f'unknown capability: "{name}"')
            if name not in available:
                raise InvalidParameter(
                    f'capability not supported by your kernel or not available in the current environment: "{name}"'
                )
        result.append(name)
    return result


def tweak_capabilities(
    *, add: Sequence[str], drop: Sequence[str], privileged: bool, available: Sequence[str]
) -> list[str]:
    """The capabilities of a container; `add` and `drop` are normalised."""
    if privileged:
        return list(available)
    if "ALL" in add:
        return [name for name in available if name not in drop]
    if "ALL" in drop:
        return list(dict.fromkeys(add))
    kept = [name for name in DEFAULT_CAPABILITIES if name not in drop and name in available]
    return list(dict.fromkeys([*kept, *add]))
