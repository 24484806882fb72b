"""Containers made by our own runtime; implements `monitor.runtimes.Runtime`.

Everything belongs to the container's namespaces and ends with them, so there is little to release: the hooks that are
to run afterwards.
"""

from __future__ import annotations

import os

from windlass.kernel.mounts import Mount
from windlass.runtime import hooks, plan
from windlass.runtime.container import create_process, exec_process
from windlass.runtime.monitor.runtimes import Started, read_filter
from windlass.runtime.monitor.stdio import owner_of
from windlass.runtime.wire import LaunchFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from windlass.kernel.cgroups import Cgroup, Hierarchy
    from windlass.runtime.container import Process
    from windlass.runtime.monitor.runtimes import Size, Stdio


class OwnRuntime:
    """One container.

    Args:
        config: OCI runtime config.
        launch: `rootfs` (mounts, or None where `root.path` is ready) and `seccompFilter` are read here.
        directory: the bundle, and the place where the root is mounted in the container's namespace.
    """

    def __init__(
        self,
        config: dict[str, Any],
        launch: dict[str, Any],
        *,
        directory: str,
        cgroup: Cgroup | None,
        hierarchy: Hierarchy,
    ) -> None:
        self._config = _with_absolute_root(config, directory)
        self._filter = launch.get("seccompFilter")
        self._directory = directory
        self._cgroup = cgroup
        self._hierarchy = hierarchy
        mounts = launch.get("rootfs")
        self._mounts = None if mounts is None else [to_mount(entry) for entry in mounts]
        self._optional_limits = tuple(launch.get("optionalRlimits") or ())
        self._state = {
            "ociVersion": str(config.get("ociVersion") or "1.0.2"),
            "id": str(launch["id"]),
            "bundle": directory,
            "annotations": config.get("annotations") or {},
        }

    def create(self, stdio: Stdio | None, size: Size | None) -> Started:
        """See `Runtime`."""
        process = create_process(
            self._config,
            rootfs=self._mounts,
            stdio=stdio,
            console_size=size,
            seccomp=self._read_filter(self._filter),
            cgroup=self._cgroup,
            hierarchy=self._hierarchy,
            state=self._state,
            optional_rlimits=self._optional_limits,
        )
        self._run_hooks("poststart", {"status": "running", "pid": process.pid})
        return _started(process)

    def execute(self, init: int, spec: dict[str, Any], stdio: Stdio | None, size: Size | None) -> Started:
        """See `Runtime`."""
        process = exec_process(
            init,
            spec["process"],
            self._config,
            stdio=stdio,
            console_size=size,
            seccomp=self._read_filter(spec.get("seccompFilter")),
            cgroup=self._cgroup,
            optional_rlimits=self._optional_limits,
        )
        return _started(process)

    def warm_up(self) -> None:
        """See `Runtime`."""
        plan.plan_container(self._config)

    def owner(self, process: dict[str, Any]) -> tuple[int, int]:
        """See `Runtime`."""
        return owner_of(process, self._config.get("linux") or {})

    @property
    def releases(self) -> bool:
        """See `Runtime`."""
        return bool((self._config.get("hooks") or {}).get("poststop"))

    def release(self) -> None:
        """See `Runtime`."""
        self._run_hooks("poststop", {"status": "stopped"})

    def _read_filter(self, path: str | None) -> bytes | None:
        try:
            return read_filter(path)
        except OSError as error:
            raise LaunchFailure("seccomp", f"read the filter: {error}", error.errno or 0) from None

    def _run_hooks(self, kind: str, change: dict[str, Any]) -> None:
        """Hooks whose failure the specification wants to be remarked only."""
        for entry in (self._config.get("hooks") or {}).get(kind) or ():
            try:
                hooks.run([entry], {**self._state, **change}, kind=kind)
            except LaunchFailure:
                continue


def to_mount(entry: dict[str, Any] | list[Any]) -> Mount:
    """A mount of launch.json: an object, or the array that a `Mount` becomes in JSON."""
    if isinstance(entry, dict):
        return Mount(entry["type"], entry["source"], tuple(entry.get("options") or ()), tuple(entry.get("lower") or ()))
    kind, source, options, *lower = entry
    return Mount(kind, source, tuple(options), tuple(lower[0] if lower else ()))


def _with_absolute_root(config: dict[str, Any], directory: str) -> dict[str, Any]:
    root = dict(config.get("root") or {})
    root["path"] = os.path.join(directory, str(root.get("path") or "rootfs"))
    return {**config, "root": root}


def _started(process: Process) -> Started:
    os.close(process.pidfd)
    return Started(process.pid, -1 if process.master is None else process.master)
