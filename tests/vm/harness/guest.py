"""Process 1 of the guest: mounts, the one command, its result, the end. Standard library only.

Three serial lines lead out: ttyS0 has the kernel's messages, ttyS1 the command's output as it comes, ttyS2 one JSON
object at the end: {"exit_code", "seconds", "files": {path: base64}}.

    /proc/cmdline   …  windlass.job=/job.json
    /job.json       {"command", "environment", "directory", "cgroup": "v1"|"v2", "collect": [paths],
                    "modules": [names], "time"}
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import subprocess
import sys
import time
import traceback
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_BIND, _MOVE = 4096, 8192
_POWER_OFF = 0x4321FEDC
_V1 = ("cpuset", "cpu,cpuacct", "blkio", "memory", "devices", "freezer", "net_cls,net_prio", "perf_event", "hugetlb")


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, options: str = "") -> None:
    os.makedirs(target, exist_ok=True)
    result = _LIBC.mount(
        source.encode(), target.encode(), kind.encode() if kind else None, ctypes.c_ulong(flags), options.encode()
    )
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def leave_the_first_root() -> None:
    """pivot_root(2) refuses to work from the first root file system, which has no parent: stand on a mount of it."""
    mount("/", "/.root", None, _BIND)
    os.chdir("/.root")
    result = _LIBC.mount(b".", b"/", None, ctypes.c_ulong(_MOVE), None)
    if result:
        raise OSError(ctypes.get_errno(), "moving the root")
    os.chroot(".")
    os.chdir("/")


def mount_all(cgroup: str) -> None:
    mount("proc", "/proc", "proc")
    mount("sys", "/sys", "sysfs")
    mount("dev", "/dev", "devtmpfs")
    mount("pts", "/dev/pts", "devpts", options="mode=620,ptmxmode=666")
    mount("shm", "/dev/shm", "tmpfs")
    mount("mqueue", "/dev/mqueue", "mqueue")
    mount("run", "/run", "tmpfs")
    mount("securityfs", "/sys/kernel/security", "securityfs")
    mount("bpf", "/sys/fs/bpf", "bpf")
    if cgroup == "v2":
        mount("cgroup", "/sys/fs/cgroup", "cgroup2", options="nsdelegate,memory_recursiveprot")
        return
    mount("cgroup", "/sys/fs/cgroup", "tmpfs", options="mode=755")
    for controllers in (*_V1, "pids", "rdma"):
        mount("cgroup", f"/sys/fs/cgroup/{controllers}", "cgroup", options=controllers)
    mount("cgroup", "/sys/fs/cgroup/systemd", "cgroup", options="none,name=systemd")


def prepare(modules: list[str]) -> None:
    busybox = "/usr/bin/busybox"
    subprocess.run([busybox, "ip", "link", "set", "lo", "up"], check=True)
    if modules:
        subprocess.run([busybox, "modprobe", "-a", *modules], check=True)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """The command's end as the host is told it."""
    started = time.monotonic()
    with open("/dev/ttyS1", "wb", buffering=0) as line:
        process = subprocess.Popen(
            job["command"],
            stdin=subprocess.DEVNULL,
            stdout=line,
            stderr=line,
            cwd=job["directory"],
            env=job["environment"],
            start_new_session=True,
        )
        while True:  # also reaps what has lost its parent
            pid, status = os.wait()
            if pid == process.pid:
                break
    files = {}
    for path in job["collect"]:
        try:
            with open(path, "rb") as file:
                files[path] = base64.b64encode(file.read()).decode()
        except OSError:
            continue
    code = os.waitstatus_to_exitcode(status)
    return {"exit_code": code if code >= 0 else 128 - code, "seconds": time.monotonic() - started, "files": files}


def main() -> None:
    try:
        leave_the_first_root()
        with open("/job.json") as file:
            job = json.load(file)
        mount_all(job["cgroup"])
        time.clock_settime(time.CLOCK_REALTIME, job["time"])
        prepare(job["modules"])
        result = run(job)
    except BaseException:
        result = {"exit_code": 255, "seconds": 0, "files": {}, "error": traceback.format_exc()}
    with open("/dev/ttyS2", "wb") as line:
        line.write(json.dumps(result).encode() + b"\n")
    os.sync()
    sys.stdout.flush()
    _LIBC.reboot(ctypes.c_int(_POWER_OFF))


if __name__ == "__main__":
    main()
