"""The constants of dockerd's default container: mounts, masked and read-only paths, device rules, environment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

Document = dict[str, Any]

OCI_VERSION: Final = "1.0.2"  # the newest that all installed runtimes accept: crun before 1.9 refuses later ones
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MOUNTS: Final = (
    ("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    ("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ),
    ("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
    ("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "nosuid", "noexec", "nodev")),
    ("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    ("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777")),  # noqa: S108 - in the container
)

_MASKED: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_READONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# Character devices 1:3 null, 1:5 zero, 1:8 random, 1:9 urandom, 5:0 tty, 5:1 console; not 10:229 fuse. 10:200 is TUN,
# which runc allows to all: programs make the node themselves and count on it.
DEVICE_RULES: Final[tuple[tuple[bool, str | None, int | None, int | None], ...]] = (
    (False, None, None, None),
    (True, "c", 1, 5),
    (True, "c", 1, 3),
    (True, "c", 1, 9),
    (True, "c", 1, 8),
    (True, "c", 5, 0),
    (True, "c", 5, 1),
    (True, "c", 10, 200),
    (False, "c", 10, 229),
)


def default_masked_paths(thermal_throttle: Iterable[str] = ()) -> list[str]:
    """What a container must not read; `thermal_throttle` are this host's per-CPU files that tell of neighbours."""
    return [*_MASKED, *thermal_throttle]


def default_readonly_paths() -> list[str]:
    """What a container must not write."""
    return list(_READONLY)


def device_rules() -> list[Document]:
    """The device control group's first rules."""
    rules = []
    for allow, kind, major, minor in DEVICE_RULES:
        rule: Document = {"allow": allow, "access": "rwm"}
        if kind is not None:
            rule |= {"type": kind, "major": major, "minor": minor}
        rules.append(rule)
    return rules
