"""What live runtime tests run: a root file system of one static busybox, and a bundle around a command."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

APPLETS = (
    *("sh", "true", "false", "cat", "sleep", "echo", "stty", "id", "kill", "seq", "dd", "yes", "ps", "head", "env"),
    *("test", "touch", "ls", "tty", "wc", "readlink", "tail", "sync", "mkdir", "rm", "printf", "hostname"),
)
NAMESPACES = ("pid", "ipc", "uts", "mount", "cgroup")
CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_KILL"]


def make_rootfs(path: Path) -> Path:
    """A directory with /bin/busybox and its applets."""
    for folder in ("bin", "proc", "sys", "dev", "tmp", "etc"):
        (path / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", path / "bin" / "busybox")
    for applet in APPLETS:
        (path / "bin" / applet).symlink_to("busybox")
    (path / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    return path


def oci_config(args: list[str], *, terminal: bool = False, cgroup: str = "", rootfs: str = "rootfs") -> dict[str, Any]:
    """An OCI runtime config that runs `args`."""
    capabilities = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": terminal,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": capabilities,
            "noNewPrivileges": True,
        },
        "root": {"path": rootfs, "readonly": False},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
        ],
        "linux": {
            "namespaces": [{"type": name} for name in NAMESPACES],
            "cgroupsPath": cgroup,
            "resources": {"devices": [{"allow": True, "access": "rwm"}]},
        },
    }


class Bundle:
    """One container's directory under a private exec-root."""

    def __init__(self, exec_root: Path, rootfs: Path, *, runtime: str | None = None) -> None:
        self.id = secrets.token_hex(32)
        self.directory = exec_root / "containers" / self.id
        self.directory.mkdir(parents=True)
        self.cgroup = f"/windlass-test-{os.getpid()}/{self.id}"
        self.log = exec_root / f"{self.id}.log"
        self._rootfs = rootfs
        self._runtime = runtime

    def write(self, args: list[str], *, config: dict[str, Any] | None = None, **launch: Any) -> Path:
        """Write config.json and launch.json for a command; returns the directory."""
        terminal = bool(launch.get("terminal"))
        document = config or oci_config(args, terminal=terminal, cgroup=self.cgroup)
        settings: dict[str, Any] = {
            "id": self.id,
            "rootfs": [["bind", str(self._rootfs), [], []]],
            "terminal": terminal,
            "consoleSize": None,
            "openStdin": False,
            "stdinOnce": False,
            "log": {"driver": "json-file", "options": {}, "path": str(self.log), "attrs": {}},
            "seccompFilter": None,
            "cgroup": self.cgroup,
            "runtime": None,
        }
        if self._runtime:
            settings["runtime"] = {
                "name": self._runtime,
                "path": self._runtime,
                "args": [],
                "root": str(self.directory.parent.parent / "foreign"),
            }
        settings.update(launch)
        if settings["consoleSize"]:
            height, width = settings["consoleSize"]
            document["process"]["consoleSize"] = {"height": height, "width": width}
        (self.directory / "config.json").write_text(json.dumps(document))
        (self.directory / "launch.json").write_text(json.dumps(settings))
        return self.directory

    def logged(self) -> list[tuple[str, str]]:
        """(stream, text) of each record of its log."""
        if not self.log.exists():
            return []
        records = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [(record["stream"], record["log"]) for record in records]
