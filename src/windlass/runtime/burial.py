"""What a container leaves: its exit record and, where its monitor died first, the rest of it, to be cleared away."""

from __future__ import annotations

import json
import os
import time

from windlass.kernel.cgroups import open_cgroup
from windlass.runtime import records
from windlass.runtime.records import ExitStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

KILLED = 137


def read_exit(directory: Path) -> ExitStatus | None:
    """How the container in `directory` ended, None if it has not (or never ran)."""
    try:
        return records.exit_from_json(json.loads((directory / records.EXIT).read_bytes()))
    except FileNotFoundError:
        return None


def read_exec_exit(directory: Path, identifier: str) -> ExitStatus | None:
    """How an exec in the container of `directory` ended, None if it has not (or its monitor died)."""
    try:
        value = json.loads((directory / records.EXECS / f"{identifier}.json").read_bytes())
    except FileNotFoundError:
        return None
    return ExitStatus(exit_code=int(value["exitCode"]), oom_killed=False, exited_at_ns=int(value["exitedAt"]))


def bury(directory: str | Path, reason: str) -> bool:
    """Settle what a dead monitor has left: kill the processes, remove the cgroup, record the end. Blocking.

    Args:
        reason: stands in the exit record as its error.

    Returns:
        False if a monitor is alive (perhaps one that is just beginning, or ending): nothing was done.

    Raises:
        OSError: the cgroup cannot be cleared.
    """
    try:
        descriptor = records.open_directory(str(directory))
    except FileNotFoundError:
        return True
    try:
        if not records.try_lock(descriptor):
            return False
        # With the lock in hand. Whoever was sent to launch and has not begun finds nothing to launch.
        launch = records.read(descriptor, records.LAUNCH) or {}
        state = records.read(descriptor, records.STATE)
        records.remove(descriptor, records.LAUNCH)
        path = str(launch.get("cgroup") or (state or {}).get("cgroup") or "")
        if path:
            cgroup = open_cgroup(path)
            cgroup.kill()
            cgroup.remove()
        if launch.get("runtime"):  # what its `delete` would remove; no program can be run from here
            root = launch["runtime"].get("root") or os.path.join(directory, "runtime")
            import shutil

            shutil.rmtree(os.path.join(root, str(launch["id"])), ignore_errors=True)
        if state is not None and records.read(descriptor, records.EXIT) is None:
            status = ExitStatus(KILLED, False, time.time_ns(), reason)
            records.write(descriptor, records.EXIT, records.exit_to_json(status))
        records.remove(descriptor, records.SOCKET)
        return True
    finally:
        os.close(descriptor)
