"""Platforms: operating system, architecture, variant; parsing, normal form and ranking.

    linux/amd64    linux/arm64/v8    linux/arm/v7    windows(10.0.17763)/amd64

An image index offers several platforms; `best_match` chooses the one that this machine runs best, by the order that
containerd uses: the exact one first, then older variants of the architecture, then the 32-bit sibling.

    amd64/v3 → v3, v2, v1 (written without a variant), 386
    arm64    → arm64, arm/v8, arm/v7, arm/v6, arm/v5
    arm/v7   → v7, v6, v5

The names are Go's (GOOS and GOARCH), as the OCI image specification's index document says; `uname`'s and Debian's are
translated.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from windlass.errors import InvalidParameter

_COMPONENT_PATTERN: Final = r"^[A-Za-z0-9_.-]+$"
_COMPONENT: Final = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_OS_VERSION: Final = re.compile(r"([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.:-]*)\))?", re.ASCII)
_KNOWN_OS: Final = frozenset(
    """
    aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos
    """.split()  # noqa: SIM905 - a word list reads better
)
_KNOWN_ARCH: Final = frozenset(
    """
    386 amd64 amd64p32 arm armbe arm64 arm64be loong64 mips mipsle mips64 mips64le mips64p32 mips64p32le
    ppc ppc64 ppc64le riscv riscv64 s390 s390x sparc sparc64 wasm
    """.split()  # noqa: SIM905 - a word list reads better
)
_AMD64_LEVELS: Final = (  # what v2, v3 and v4 add, in the kernel's words
    frozenset({"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}),
    frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)
_MACHINES: Final = {
    "x86_64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", "v8"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "loongarch64": ("loong64", ""),
}


class Platform(NamedTuple):
    """A platform in normal form when it comes from `parse_platform` or `normalise`."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os or "unknown", self.architecture, self.variant) if part)

    def to_json(self) -> dict[str, str]:
        """The document form (`architecture`, `os`, `variant`, `os.version`)."""
        document = {"architecture": self.architecture, "os": self.os}
        if self.variant:
            document["variant"] = self.variant
        if self.os_version:
            document["os.version"] = self.os_version
        return document


def platform_from_json(document: Any) -> Platform:
    """Read the platform of an index entry or an image configuration. Raises `InvalidParameter` for another shape."""
    if not isinstance(document, dict):
        raise InvalidParameter("platform is not an object")
    keys = ("os", "architecture", "variant", "os.version")
    values = ["" if (value := document.get(key)) is None else value for key in keys]
    if not all(isinstance(value, str) for value in values):
        raise InvalidParameter("platform has a field that is not text")
    return normalise(Platform(*values))


def normalise(platform: Platform) -> Platform:
    """One spelling for each platform: `linux/aarch64/8` becomes `linux/arm64`."""
    architecture, variant = _normalise_architecture(platform.architecture, platform.variant)
    return Platform(_normalise_os(platform.os), architecture, variant, platform.os_version)


def parse_platform(text: str, *, host: Platform | None = None) -> Platform:
    """Parse what people give to `--platform`: `os`, `arch`, `os/arch` or `os/arch/variant`.

    What is left out is the host's. Raises `InvalidParameter` with containerd's message.
    """
    if "*" in text:
        raise InvalidParameter(f'"{text}": wildcards not yet supported: invalid argument')
    host = host or host_platform()
    parts = text.split("/")
    os_version = ""
    if len(parts) > 3:
        raise InvalidParameter(f'"{text}": cannot parse platform specifier: invalid argument')
    for number, part in enumerate(parts):
        if number == 0 and (match := _OS_VERSION.fullmatch(part)):
            parts[0], os_version = match[1], match[2] or ""
        elif not _COMPONENT.fullmatch(part):
            raise InvalidParameter(
                f'"{part}" is an invalid component of "{text}": platform specifier component must match '
                f'"{_COMPONENT_PATTERN}": invalid argument'
            )
    if len(parts) == 1:
        return _parse_single(parts[0], text, os_version, host)
    architecture, variant = _normalise_architecture(parts[1], parts[2] if len(parts) == 3 else "")
    if len(parts) == 2 and architecture == "arm" and variant == "v7":
        variant = ""
    if len(parts) == 3 and architecture == "arm64" and not variant:
        variant = "v8"
    return Platform(_normalise_os(parts[0]), architecture, variant, os_version)


def host_platform(machine: str | None = None) -> Platform:
    """The platform of this machine (or of the given `uname -m`)."""
    name = machine or os.uname().machine
    architecture, variant = _MACHINES.get(name, (name, ""))
    return Platform("linux", architecture, "" if architecture == "arm64" else variant)


@functools.cache
def maximum_platform() -> Platform:
    """The platform of this machine with the highest variant that its processor has: what it would like best."""
    platform = host_platform()
    if platform.architecture != "amd64":
        return platform
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return platform
    return platform._replace(variant=amd64_variant(frozenset(flags.partition(":")[2].split())))


def amd64_variant(flags: frozenset[str]) -> str:
    """The microarchitecture level (x86-64 psABI, "Micro-architecture levels") that a processor with these flags has."""
    level = 1
    for names in _AMD64_LEVELS:
        if not names <= flags:
            break
        level += 1
    return f"v{level}" if level > 1 else ""


def candidates(wanted: Platform) -> Sequence[Platform]:
    """What runs where `wanted` runs, best first, in normal form."""
    wanted = normalise(wanted)
    ranked = [wanted]
    number = wanted.variant.removeprefix("v")
    if wanted.architecture == "amd64":
        if number.isdecimal():
            ranked += [wanted._replace(variant=f"v{n}" if n > 1 else "") for n in range(int(number[:2]) - 1, 0, -1)]
        ranked.append(wanted._replace(architecture="386", variant=""))
    elif wanted.architecture == "arm" and number.isdecimal():
        ranked += [wanted._replace(variant=f"v{n}") for n in range(int(number[:2]) - 1, 4, -1)]
    elif wanted.architecture == "arm64":
        ranked += _older_arm64(wanted)
        ranked += [wanted._replace(architecture="arm", variant=f"v{n}") for n in range(8, 4, -1)]
    return ranked


def rank(offered: Platform, wanted: Platform) -> int | None:
    """How well `offered` serves `wanted`: 0 is exact, more is worse, None is not at all."""
    offered = normalise(offered)
    for number, candidate in enumerate(candidates(wanted)):
        if candidate[:3] == offered[:3] and (not wanted.os_version or wanted.os_version == offered.os_version):
            return number
    return None


def best_match(offered: Iterable[Platform], wanted: Platform) -> int | None:
    """The index of the offered platform that serves `wanted` best (the first among equals), or None."""
    ranks = [(rank(platform, wanted), number) for number, platform in enumerate(offered)]
    fitting = [(value, number) for value, number in ranks if value is not None]
    return min(fitting)[1] if fitting else None


def _older_arm64(wanted: Platform) -> list[Platform]:
    """arm64 v9.x runs v9.(x-1)… and v8.(x+5)…; v8.x runs v8.(x-1)…; all run the plain one."""
    match = re.fullmatch(r"v([89])(?:\.([0-9]))?", wanted.variant)
    if match is None:
        return []
    major, minor = int(match[1]), int(match[2] or 0)
    variants = [f"v{major}.{n}" if n else f"v{major}" for n in range(minor - 1, -1, -1)]
    if major == 9:
        variants += [f"v8.{n}" if n else "v8" for n in range(min(minor + 5, 9), -1, -1)]
    return [normalise(wanted._replace(variant=variant)) for variant in variants]


def _parse_single(part: str, text: str, os_version: str, host: Platform) -> Platform:
    if (system := _normalise_os(part)) in _KNOWN_OS:
        variant = host.variant if host.architecture == "arm" and host.variant != "v7" else ""
        return Platform(system, host.architecture, variant, os_version)
    architecture, variant = _normalise_architecture(part, "")
    if architecture == "arm" and variant == "v7":
        variant = ""
    if architecture in _KNOWN_ARCH:
        return Platform(host.os, architecture, variant)
    raise InvalidParameter(f'"{text}": unknown operating system or architecture: invalid argument')


def _normalise_os(name: str) -> str:
    name = name.lower() or "linux"
    return "darwin" if name == "macos" else name


def _normalise_architecture(architecture: str, variant: str) -> tuple[str, str]:
    architecture, variant = architecture.lower(), variant.lower()
    match architecture:
        case "i386":
            return "386", ""
        case "x86_64" | "x86-64" | "amd64":
            return "amd64", "" if variant == "v1" else variant
        case "aarch64" | "arm64":
            variant = {"8": "", "v8": "", "v8.0": "", "9": "v9", "9.0": "v9", "v9.0": "v9"}.get(variant, variant)
            return "arm64", variant
        case "armhf":
            return "arm", "v7"
        case "armel":
            return "arm", "v6"
        case "arm":
            return "arm", {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    return architecture, variant
