"""What all rooms of the engine share: the neighbours, the containers, the events, the clock, and who owns tasks."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from windlass.engine.container import Container
from windlass.engine.events import Events
from windlass.engine.host import HostFacts
from windlass.engine.runtimes import Runtimes
from windlass.engine.sandboxes import Sandboxes
from windlass.engine.settings import EngineSettings
from windlass.engine.store import ContainerStore
from windlass.engine.tasks import Tasks
from windlass.images import Images
from windlass.kernel import cgroups
from windlass.networks import Networks
from windlass.runtime.client import Launcher
from windlass.volumes import Volumes

log = logging.getLogger("windlass.engine")

DEFAULT_EXEC_ROOT: Final = Path("/run/windlass")


def default_cgroup_parent(exec_root: Path) -> str:
    """The control group above those of the containers; engines with different roots do not meet."""
    if exec_root == DEFAULT_EXEC_ROOT:
        return "/windlass"
    return f"/windlass-{hashlib.sha256(str(exec_root).encode()).hexdigest()[:8]}"


class Core:
    """The shared part of an engine."""

    def __init__(
        self,
        *,
        settings: EngineSettings,
        images: Images,
        networks: Networks,
        volumes: Volumes,
        launcher: Launcher,
        host: HostFacts,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.settings = settings
        self.images = images
        self.networks = networks
        self.volumes = volumes
        self.launcher = launcher
        self.host = host
        self.clock = clock
        self.hierarchy = cgroups.detect()
        self.runtimes = Runtimes(settings)
        self.store = ContainerStore(Path(settings.data_root) / "containers")
        self.run_root = Path(settings.exec_root) / "containers"
        self.events = Events(clock=clock)
        self.tasks = Tasks()
        self.sandboxes = Sandboxes(self)
        self.stopping = False

    def run_directory(self, container: Container) -> str:
        """Where the files of a container's run are."""
        return f"{self.run_root}/{container.id}"

    def cgroup_path(self, container: Container) -> str:
        """A container's control group."""
        parent = container.host_config["CgroupParent"] or self.settings.cgroup_parent
        return f"{parent or default_cgroup_parent(Path(self.settings.exec_root))}/{container.id}"

    def open_cgroup(self, container: Container) -> cgroups.Cgroup:
        """A running container's control group."""
        return cgroups.open_cgroup(self.cgroup_path(container), self.hierarchy)

    def container_event(self, container: Container, action: str, **attributes: Any) -> None:
        """Publish what happened to a container."""
        described = container.event_attributes()
        described.update({name: str(value) for name, value in attributes.items()})
        self.events.publish("container", action, container.id, described)

    def save(self, container: Container) -> None:
        """Write a container's record; a failure is logged where the state has changed already and stays true."""
        try:
            self.store.save(container)
        except Exception:
            log.exception("cannot write the record of container %s", container.id)
