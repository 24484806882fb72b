"""The engine as its clients see it: one method for each operation of the Engine API, and a life.

Engine ── operations ── parts (the rooms of this package) ── core (neighbours, containers, events)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from pathlib import Path
from typing import Final

from windlass.engine import host
from windlass.engine.core import Core, default_cgroup_parent, log
from windlass.engine.operations.containers import ContainerOperations
from windlass.engine.operations.images import ImageOperations
from windlass.engine.operations.networks import NetworkOperations
from windlass.engine.operations.parts import Parts
from windlass.engine.operations.system import SystemOperations
from windlass.engine.operations.volumes import VolumeOperations
from windlass.engine.restore import Restore
from windlass.engine.runtimes import Runtimes
from windlass.engine.settings import EngineSettings
from windlass.images import Images
from windlass.kernel import cgroups
from windlass.networks import Networks
from windlass.runtime.client import Launcher
from windlass.volumes import Volumes

_ID_FILE: Final = "engine-id"


class Engine(ContainerOperations, ImageOperations, NetworkOperations, VolumeOperations, SystemOperations):
    """`start`, then any operations at once, then `stop`. The neighbours are open from before until after."""

    def __init__(
        self, *, settings: EngineSettings, images: Images, networks: Networks, volumes: Volumes, launcher: Launcher
    ) -> None:
        self._settings = settings
        self._images = images
        self._networks = networks
        self._volumes = volumes
        self._launcher = launcher
        self._core: Core | None = None

    async def start(self) -> None:
        """Find what an earlier engine left and go on with it. Raises `WindlassError`, `OSError`."""
        facts, engine_id = await asyncio.gather(
            asyncio.to_thread(host.look, cgroups.detect()),
            asyncio.to_thread(read_engine_id, Path(self._settings.data_root)),
        )
        core = self._core = Core(
            settings=self._settings,
            images=self._images,
            networks=self._networks,
            volumes=self._volumes,
            launcher=self._launcher,
            host=facts,
        )
        parts = self.parts = Parts(core, engine_id)
        await Restore(core, parts.lifecycle, parts.preparation, parts.removal).run()

    async def stop(self) -> None:
        """Let go of everything; containers go on, and what happens to them is found by the next start."""
        core = self._core
        if core is None:
            return
        core.stopping = True
        await self.parts.stats.close()
        core.events.close()
        await core.tasks.close()
        await self.parts.images.transfers.close()
        monitors = [container.monitor for container in core.store if container.monitor is not None]
        await asyncio.gather(*(monitor.close() for monitor in monitors), return_exceptions=True)
        await core.store.close()
        if not monitors:
            await asyncio.to_thread(_discard_control_group, core)
        self._core = None

    def reload(self, settings: EngineSettings) -> None:
        """Use other settings from now on. Raises `InvalidParameter`; then the old ones stay."""
        core = self.parts.core
        runtimes = Runtimes(settings)
        self._settings = core.settings = settings
        core.runtimes = runtimes
        self.parts.images.reload()
        core.events.publish("daemon", "reload", self.parts.information.engine_id, {"name": core.host.hostname})


def read_engine_id(root: Path) -> str:
    """The engine's own name, made at its first start. Blocking."""
    path = root / _ID_FILE
    with contextlib.suppress(FileNotFoundError, ValueError):
        return str(uuid.UUID(path.read_text().strip()))
    made = str(uuid.uuid4())
    draft = path.with_name(f".{_ID_FILE}")
    draft.write_text(made + "\n")
    os.replace(draft, path)
    return made


def _discard_control_group(core: Core) -> None:
    """Remove our own control group, which is empty when nothing runs. Blocking."""
    if core.settings.cgroup_parent:
        return
    try:
        cgroups.open_cgroup(default_cgroup_parent(Path(core.settings.exec_root)), core.hierarchy).discard()
    except OSError as error:
        log.debug("cannot remove the control group: %s", error)
