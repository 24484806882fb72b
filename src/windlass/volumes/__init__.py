"""Named volumes: directories, or file systems, that outlive containers.

volumes = await Volumes.open(root)
await volumes.create("data", labels={"tier": "db"})
volumes.refer("data", container_id)              # until release: it cannot be removed
path = await volumes.mount("data", container_id)
await volumes.populate("data", image_dir_fd)     # the first container brings its image's files

store       the engine's volumes and their users            records   how they are on disk
names, options, selection   what clients may ask, pure      local     mounting a volume's own file system
copyup      filling a volume from an image                  trees     sizes and removal, by descriptor
subpath     a place inside a volume
"""

from __future__ import annotations

from windlass.volumes.copyup import copy_up
from windlass.volumes.names import ANONYMOUS_LABEL
from windlass.volumes.store import Volumes
from windlass.volumes.subpath import open_subpath

__all__ = ["ANONYMOUS_LABEL", "Volumes", "copy_up", "open_subpath"]
