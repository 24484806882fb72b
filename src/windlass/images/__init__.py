"""Content store, layers and snapshots, archives, registry client. `Images` is the front of it all."""

from windlass.images.image import Image
from windlass.images.removal import InUse
from windlass.images.store import Images

__all__ = ["Image", "Images", "InUse"]
