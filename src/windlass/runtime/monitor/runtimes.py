"""How a monitor makes processes: by our own runtime, or by another's command line. One face for both."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from windlass.kernel.cgroups import Cgroup, Hierarchy

    Stdio = tuple[int, int, int]
    Size = tuple[int, int]

    class Runtime(Protocol):
        """Makes the processes of one container. All methods block, for milliseconds."""

        def create(self, stdio: Stdio | None, size: Size | None) -> Started:
            """Make the container and run its process, with these descriptors or else on a new terminal.

            Raises:
                LaunchFailure: nothing is left of it.
            """

        def execute(self, init: int, spec: dict[str, Any], stdio: Stdio | None, size: Size | None) -> Started:
            """Run a further process (see `ExecSpec`) in the container whose init has the pid `init`.

            Raises:
                LaunchFailure: it could not be started.
            """

        def warm_up(self) -> None:
            """Touch what `create` will touch, without effect."""

        def owner(self, process: dict[str, Any]) -> tuple[int, int]:
            """The host's uid and gid for the user of a process document."""

        @property
        def releases(self) -> bool:
            """Whether `release` has anything to do."""

        def release(self) -> None:
            """Let go of everything but the cgroup: the container has ended, or did not come to be."""


class Started:
    """A process that runs.

    Attributes:
        pid: on the host; a child of this process.
        master: its terminal's master, -1 if it has none.
    """

    __slots__ = ("master", "pid")

    def __init__(self, pid: int, master: int = -1) -> None:
        self.pid = pid
        self.master = master


def open_runtime(
    config: dict[str, Any], launch: dict[str, Any], *, directory: str, cgroup: Cgroup | None, hierarchy: Hierarchy
) -> Runtime:
    """The runtime that launch.json asks for.

    Args:
        config: OCI runtime config.
        launch: the monitor's settings.
        directory: the container's, which is also its bundle.
        cgroup: made, and limited by us.
    """
    if launch.get("runtime"):
        from windlass.runtime.foreign import ForeignRuntime

        return ForeignRuntime(config, launch, directory=directory, cgroup=cgroup)
    from windlass.runtime.own import OwnRuntime

    return OwnRuntime(config, launch, directory=directory, cgroup=cgroup, hierarchy=hierarchy)


def read_filter(path: str | None) -> bytes | None:
    """A compiled seccomp filter, None where no filter is wanted.

    Raises:
        OSError: it cannot be read.
    """
    if not path:
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 1 << 20)
    finally:
        os.close(descriptor)
