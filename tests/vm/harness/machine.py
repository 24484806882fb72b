"""Start QEMU with a kernel and an initramfs, pass on what the guest prints, and bring back how it ended."""

from __future__ import annotations

import base64
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from harness import guest, packages, tree

CACHE = tree.REPOSITORY / "build" / "vm"
_KEPT_VARIABLES = ("HYPOTHESIS_PROFILE", "COLUMNS")


class VmResult(NamedTuple):
    """`exit_code` of the command (128 + signal as a shell has it; 255: the guest's process 1 failed), its `output`,
    the `files` that were asked for, seconds until the command started (`boot`) and while it ran, the kernel's words."""

    exit_code: int
    output: str
    files: dict[str, bytes]
    boot_seconds: float
    seconds: float
    console: str


class VmFailed(Exception):
    """The machine ended without a result, or had to be ended."""


def _init() -> bytes:
    """The kernel starts a script of the guest's Python: it cannot pass arguments, so the script names the file."""
    return f"#!{Path(sys.executable).resolve()} -IS\n".encode() + Path(guest.__file__).read_bytes()


def _environment(extra: dict[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {
        "PATH": path,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **kept,
        **extra,
    }


def _initramfs(directory: Path, base: Path, job: dict[str, object], extra: Iterable[Path]) -> Path:
    """One file of two archives: the kept base and what is new. The job is in the second."""
    target = directory / "initramfs"
    sources = directory / "sources"
    tree.pack_sources(sources, extra=extra, init=_init(), job=json.dumps(job).encode())
    with target.open("wb") as out:
        for part in (base, sources):
            with part.open("rb") as data:
                shutil.copyfileobj(data, out, 1 << 22)
    sources.unlink()
    return target


def _command(
    kernel: Path, initramfs: Path, directory: Path, *, memory_mib: int, cpus: int, arguments: str
) -> list[str]:
    return [
        "qemu-system-x86_64",
        *("-machine", "q35", "-accel", f"tcg,thread=multi,tb-size={512}", "-cpu", "max,la57=off"),
        *("-smp", str(cpus), "-m", str(memory_mib)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", str(kernel), "-initrd", str(initramfs)),
        *("-append", f"console=ttyS0 quiet panic=-1 mitigations=off nokaslr random.trust_cpu=1 {arguments}"),
        *("-serial", f"file:{directory}/console"),
        *("-serial", "stdio"),
        *("-serial", f"file:{directory}/result"),
    ]


def _pump(
    process: subprocess.Popen[bytes], deadline: float, sink: Callable[[bytes], None]
) -> tuple[bytes, float | None]:
    """Everything that the command prints, also handed to `sink` as it comes; and when the first of it came."""
    assert process.stdout is not None
    output, first = bytearray(), None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise VmFailed(f"the machine did not end in time; it printed:\n{output.decode(errors='replace')}")
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                return bytes(output), first
            first = first or time.monotonic()
            output += data
            sink(data)


def run_in_vm(
    command: Sequence[str],
    timeout: float = 180.0,
    *,
    cgroup: str = "v2",
    files: Iterable[Path] = (),
    programs: Iterable[str] = (),
    collect: Iterable[str] = (),
    environment: dict[str, str] | None = None,
    directory: Path = tree.REPOSITORY,
    memory_mib: int = 2048,
    cpus: int = 2,
    modules: Iterable[str] = ("loop",),
    kernel_arguments: str = "lsm=landlock,yama,apparmor,bpf apparmor=1",
    sink: Callable[[bytes], None] = lambda data: None,
) -> VmResult:
    """Run `command` as root in a fresh machine with this host's Python and our sources at the same paths as here.

    `files` are further files or directories of this host to take along, `programs` further programs by name with what
    libraries they need, `collect` paths in the guest to bring back,
    `cgroup` "v2" or "v1" (controllers mounted in pairs, as systemd does), `modules` kernel modules to load
    first (others load when they are asked for). Raises `VmFailed` when the machine does not come up, or is not done
    after `timeout` seconds; RuntimeError when a package cannot be had.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    unpacked = packages.unpack(CACHE)
    base = tree.build_base(CACHE, unpacked)
    job = {
        "command": list(command),
        "environment": _environment(environment or {}),
        "directory": str(directory),
        "cgroup": cgroup,
        "collect": list(collect),
        "modules": list(modules),
        "time": time.time(),
    }
    with tempfile.TemporaryDirectory(prefix="windlass-vm-") as name:
        work = Path(name)
        initramfs = _initramfs(work, base, job, [*files, *tree.program_files(programs)])
        line = _command(unpacked.kernel, initramfs, work, memory_mib=memory_mib, cpus=cpus, arguments=kernel_arguments)
        started = time.monotonic()
        with subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            try:
                output, first = _pump(process, started + timeout, sink)
                process.wait(max(1.0, started + timeout - time.monotonic()))
            finally:
                process.kill()
        took = time.monotonic() - started
        console = (work / "console").read_text(errors="replace") if (work / "console").exists() else ""
        text = (work / "result").read_text() if (work / "result").exists() else ""
    return _result(
        text, output.decode(errors="replace").replace("\r\n", "\n"), console, took, first and first - started
    )


def _result(text: str, output: str, console: str, took: float, first: float | None) -> VmResult:
    try:
        found = json.loads(text)
    except ValueError:
        raise VmFailed(
            f"the machine ended without a result; it printed:\n{output}\nits kernel said:\n{console}"
        ) from None
    if "error" in found:
        output += found["error"]
    return VmResult(
        exit_code=found["exit_code"],
        output=output,
        files={path: base64.b64decode(data) for path, data in found["files"].items()},
        boot_seconds=took - found["seconds"],
        seconds=found["seconds"],
        console=console,
    )
