"""spec, features: the documents that this runtime writes about itself."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from windlass import __version__
from windlass.kernel import capabilities, mount_options, namespaces
from windlass.runtime.command.parser import SPEC_VERSION
from windlass.runtime.command.store import CommandError, Store

_DEFAULT_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_MASKED = [
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
]
_READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
ACTIONS = [
    f"SCMP_ACT_{name}" for name in ("ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "LOG", "TRACE", "TRAP")
]
OPERATORS = [f"SCMP_CMP_{name}" for name in ("EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE")]
ARCHITECTURES = [f"SCMP_ARCH_{name}" for name in ("AARCH64", "ARM", "RISCV64", "X86", "X86_64")]
_HOOKS = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]


def spec(store: Store, options: argparse.Namespace) -> int:
    """`spec [--bundle DIR] [--rootless]`: write an example config.json."""
    path = Path(options.bundle or ".") / "config.json"
    document = example_rootless(os.geteuid(), os.getegid()) if options.rootless else example()
    try:
        with open(path, "x", encoding="utf-8") as file:
            json.dump(document, file, indent="\t")
            file.write("\n")
    except FileExistsError:
        raise CommandError(f"File {path} exists. Remove it first") from None
    return 0


def example() -> dict[str, Any]:
    """A configuration that runs a shell in `rootfs`, as little privileged as is usual."""
    flags = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _DEFAULT_CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "windlass",
        "mounts": [
            _mount("/proc", "proc", "proc"),
            _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            _mount(
                "/dev/pts",
                "devpts",
                "devpts",
                ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            _mount("/dev/" + "shm", "tmpfs", "shm", [*flags, "mode=1777", "size=65536k"]),
            _mount("/dev/mqueue", "mqueue", "mqueue", flags),
            _mount("/sys", "sysfs", "sysfs", [*flags, "ro"]),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*flags, "relatime", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": _MASKED,
            "readonlyPaths": _READONLY,
        },
    }


def example_rootless(uid: int, gid: int) -> dict[str, Any]:
    """The same in a user namespace in which `uid` and `gid` of the host are root."""
    document = example()
    linux = document["linux"]
    del linux["resources"]
    linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != "network"] + [{"type": "user"}]
    linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
    mounts = []
    for mount in document["mounts"]:
        if mount["destination"] == "/sys":
            # sysfs belongs to a network namespace, which is the host's here.
            mount = _mount("/sys", "none", "/sys", ["rbind", "nosuid", "noexec", "nodev", "ro"])
        elif mount["destination"] == "/sys/fs/cgroup":
            continue
        mount["options"] = [option for option in mount.get("options", []) if not option.startswith(("gid=", "uid="))]
        mounts.append(mount)
    document["mounts"] = mounts
    return document


def features(store: Store, options: argparse.Namespace) -> int:
    """`features`: what this runtime can do, as the runtime specification's features document."""
    print(json.dumps(features_document(), indent=4))  # noqa: T201
    return 0


def features_document() -> dict[str, Any]:
    """runtime-spec, features.md."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": _HOOKS,
        "mountOptions": mount_option_names(),
        "linux": {
            "namespaces": sorted(namespaces.FLAGS),
            "capabilities": capabilities.names_of((1 << (capabilities.last_capability() + 1)) - 1),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": ACTIONS,
                "operators": OPERATORS,
                "archs": ARCHITECTURES,
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
        "annotations": {"org.windlass.version": __version__},
        "potentiallyUnsafeConfigAnnotations": [],
    }


def mount_option_names() -> list[str]:
    """The options that are ours to carry out; all others are the file system's."""
    attributes = mount_options.ATTRIBUTES
    modes = ("bind", "rbind", "idmap", "ridmap", "tmpcopyup", "defaults")
    return sorted({*attributes, *("r" + name for name in attributes), *mount_options.PROPAGATIONS, *modes})


def _mount(destination: str, kind: str, source: str, options: list[str] | None = None) -> dict[str, Any]:
    mount: dict[str, Any] = {"destination": destination, "type": kind, "source": source}
    if options is not None:
        mount["options"] = list(options)
    return mount
