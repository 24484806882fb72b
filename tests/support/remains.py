"""What one engine left behind, told apart from what other engines on the machine have."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Protocol

from support import leaks


class HasRoots(Protocol):
    """An engine, or a cluster with one."""

    @property
    def root(self) -> Path: ...

    @property
    def exec_root(self) -> Path: ...


def left_of(engine: HasRoots, before: leaks.Traces, patience: float = 10.0) -> list[str]:
    """What carries the name of this engine and stands after its end: other engines on the machine are not its fault."""
    digest = hashlib.sha256(str(engine.exec_root).encode()).hexdigest()[:8]
    names = (digest, str(engine.root))
    deadline = time.monotonic() + patience
    while True:
        left = [line for line in leaks.look().minus(before) if any(name in line for name in names)]
        left += [line for pid in os.listdir("/proc") if pid.isdigit() and (line := _of_engine(pid, names))]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _of_engine(pid: str, names: tuple[str, ...]) -> str:
    """A process is the engine's when its command, its roots or its control group say so."""
    if int(pid) == os.getpid():
        return ""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        text = command + Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""
    return f"process {pid} {command}" if any(name in text for name in names) else ""
