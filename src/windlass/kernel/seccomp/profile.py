"""Docker's profile files: an OCI `linux.seccomp` whose parts depend on where and for whom it is used.

    {"defaultAction": …, "archMap": [{"architecture", "subArchitectures"}],
     "syscalls": [{"names": […], "action": …, "args": […],
                   "includes"/"excludes": {"caps": […], "arches": […], "minKernel": "4.8"}}]}

A rule applies if nothing in `excludes` does and all of `includes` does: of its capabilities any excludes, all include.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from typing import Any, Final

from windlass.kernel.seccomp.default import default_document

_LONGEST: Final = 1 << 20

# uname(2)'s machine: (the name in "arches", the name in "archMap").
_MACHINES: Final = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "i386": ("x86", "SCMP_ARCH_X86"),
    "i686": ("x86", "SCMP_ARCH_X86"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "loongarch64": ("loongarch64", "SCMP_ARCH_LOONGARCH64"),
}
_OWN_FIELDS: Final = frozenset({"archMap", "syscalls", "architectures"})


def default_profile(
    capabilities: Collection[str], arch: str | None = None, kernel_version: tuple[int, int] | None = None
) -> dict[str, Any]:
    """The default profile as an OCI `linux.seccomp`.

    Args:
        capabilities: the container's bounding set, as `CAP_…`.
        arch: machine as uname(2) names it (None: this one).
        kernel_version: the kernel's (None: this one's).
    """
    profile = _resolve(default_document(), capabilities, arch, kernel_version)
    assert profile is not None
    return profile


def load_profile(
    json_text: str | bytes,
    capabilities: Collection[str],
    arch: str | None = None,
    kernel_version: tuple[int, int] | None = None,
) -> dict[str, Any] | None:
    """A profile file as an OCI `linux.seccomp`; None where it asks for no filter at all (no action and no rule).

    Raises:
        ValueError: it is not such a file.
    """
    if len(json_text) > _LONGEST:
        raise ValueError(f"Decoding seccomp profile failed: larger than {_LONGEST} bytes")
    try:
        document = json.loads(json_text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Decoding seccomp profile failed: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("Decoding seccomp profile failed: a JSON object is expected")
    return _resolve(document, capabilities, arch, kernel_version)


def _resolve(
    document: Mapping[str, Any],
    capabilities: Collection[str],
    arch: str | None,
    kernel_version: tuple[int, int] | None,
) -> dict[str, Any] | None:
    syscalls = _list(document, "syscalls")
    if not document.get("defaultAction") and not syscalls:
        return None
    arch_map, architectures = _list(document, "archMap"), _list(document, "architectures")
    if arch_map and architectures:
        raise ValueError(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or"
            " 'archMap'"
        )
    machine, native = _MACHINES.get(arch or os.uname().machine, ("", ""))
    version = kernel_version or running_kernel()
    profile = {key: value for key, value in document.items() if key not in _OWN_FIELDS}
    if arch_map:
        architectures = _from_map(arch_map, native)
    if architectures:
        profile["architectures"] = list(architectures)
    profile["syscalls"] = [_rule(entry) for entry in syscalls if _applies(entry, set(capabilities), machine, version)]
    return profile


def _from_map(arch_map: list[Any], native: str) -> list[str]:
    for entry in arch_map:
        if _object(entry).get("architecture") == native:
            return [native, *(entry.get("subArchitectures") or ())]
    return []


def _applies(entry: Any, capabilities: set[str], machine: str, version: tuple[int, int]) -> bool:
    excludes, includes = _object(entry, "excludes"), _object(entry, "includes")
    if machine in _list(excludes, "arches") or capabilities.intersection(_strings(excludes, "caps")):
        return False
    if excludes.get("minKernel") and version >= parse_kernel_version(excludes["minKernel"]):
        return False
    if _list(includes, "arches") and machine not in _list(includes, "arches"):
        return False
    if not capabilities.issuperset(_strings(includes, "caps")):
        return False
    return not includes.get("minKernel") or version >= parse_kernel_version(includes["minKernel"])


def _rule(entry: Mapping[str, Any]) -> dict[str, Any]:
    names = list(_strings(entry, "names"))
    if entry.get("name"):
        if names:
            raise ValueError(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
            )
        names = [entry["name"]]
    rule = {"names": names, "action": entry.get("action")}
    for key in ("errnoRet", "args"):
        if entry.get(key) is not None:
            rule[key] = entry[key]
    return rule


def parse_kernel_version(text: Any) -> tuple[int, int]:
    """`"4.8"` → (4, 8). `ValueError` for anything else, also for 0.0."""
    parts = text.split(".") if isinstance(text, str) else []
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
        raise ValueError(f'invalid kernel version: {text}, expected "<kernel>.<major>"')
    version = int(parts[0]), int(parts[1])
    if max(version[0], version[1]) > 255 or version == (0, 0):
        raise ValueError(f'invalid kernel version: {text}, expected "<kernel>.<major>"')
    return version


def running_kernel() -> tuple[int, int]:
    """This kernel's version; `6.1.0-18-amd64` → (6, 1)."""
    major, minor = os.uname().release.split(".")[:2]
    digits = minor[: len(minor) - len(minor.lstrip("0123456789"))] or "0"
    return int(major), int(digits)


def _object(value: Any, key: str | None = None) -> Mapping[str, Any]:
    found = value if key is None else _object(value).get(key)
    if found is None and key is not None:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"Decoding seccomp profile failed: {key or 'a rule'} should be an object")
    return found


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise ValueError(f"Decoding seccomp profile failed: {key} should be an array")
    return found


def _strings(value: Mapping[str, Any], key: str) -> list[str]:
    found = _list(value, key)
    if not all(isinstance(item, str) for item in found):
        raise ValueError(f"Decoding seccomp profile failed: {key} should be an array of strings")
    return found
