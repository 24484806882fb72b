"""What the operations work with: the rooms of the engine, put together."""

from __future__ import annotations

from windlass.engine.commits import Commits
from windlass.engine.connections import Connections
from windlass.engine.containerfiles import ContainerFiles
from windlass.engine.core import Core
from windlass.engine.creation import Creation
from windlass.engine.execs import Execs
from windlass.engine.images import ImageWork
from windlass.engine.info import SystemInformation
from windlass.engine.inspection import Inspection
from windlass.engine.lifecycle import Lifecycle
from windlass.engine.listing import Listing
from windlass.engine.preparation import Preparation
from windlass.engine.removal import Removal
from windlass.engine.stats import Stats
from windlass.engine.updating import Updating


class Parts:
    """The rooms, each made once."""

    def __init__(self, core: Core, engine_id: str) -> None:
        self.core = core
        self.connections = Connections(core)
        self.preparation = Preparation(core, self.connections)
        self.lifecycle = Lifecycle(core, self.preparation)
        self.removal = Removal(core, self.lifecycle)
        self.creation = Creation(core, self.preparation, self.connections, self.removal)
        self.execs = Execs(core, self.preparation)
        self.inspection = Inspection(core)
        self.listing = Listing(core, self.inspection)
        self.updating = Updating(core)
        self.stats = Stats(core)
        self.files = ContainerFiles(core)
        self.commits = Commits(core, self.lifecycle)
        self.images = ImageWork(core)
        self.information = SystemInformation(core, engine_id)
        # The circle: an end may remove or probe.
        self.lifecycle.remove = self.removal.auto
        self.lifecycle.probe = self.execs.probe
        self.lifecycle.forget_execs = self.execs.forget
