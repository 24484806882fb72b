"""One image, as the engine sees it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from windlass.images.records import ImageRecord
from windlass.oci.digest import Digest
from windlass.oci.image import Descriptor, ImageConfig, image_platform
from windlass.oci.platform import Platform
from windlass.oci.reference import parse_reference


@dataclass(frozen=True)
class Image:
    """An image that is here, at the moment of asking.

    Attributes:
        id: digest of its configuration, as Docker has it.
        config: the configuration document.
        record: where its parts are.
        references: the full names that mean it.
    """

    id: str
    config: ImageConfig
    record: ImageRecord
    references: tuple[str, ...] = ()

    @property
    def manifest(self) -> Descriptor:
        """Descriptor of its manifest."""
        return self.record.manifest

    @property
    def repo_tags(self) -> list[str]:
        """Its tags in the short form, sorted."""
        return sorted(familiar(name) for name in self.references if "@" not in name)

    @property
    def repo_digests(self) -> list[str]:
        """Its names by digest in the short form, sorted."""
        return sorted(familiar(name) for name in self.references if "@" in name)

    @property
    def size(self) -> int:
        """Bytes of its files, all layers together."""
        return sum(layer.size for layer in self.record.layers)

    @property
    def created(self) -> str:
        """RFC 3339, or "" where the configuration does not say."""
        return self.config.get("created") or ""

    @property
    def diff_ids(self) -> list[Digest]:
        """Digests of its uncompressed layers, lowest first."""
        return [layer.diff_id for layer in self.record.layers]

    @property
    def chain(self) -> list[Digest]:
        """Chain IDs of its layers, lowest first."""
        return [layer.chain_id for layer in self.record.layers]

    @property
    def chain_id(self) -> Digest | None:
        """Chain ID of the whole."""
        return self.record.layers[-1].chain_id if self.record.layers else None

    @property
    def parent(self) -> str:
        """ID of the image that it was made from here, or ""."""
        return self.record.parent

    @cached_property
    def platform(self) -> Platform:
        """What it runs on."""
        return image_platform(self.config)

    @property
    def execution(self) -> dict[str, Any]:
        """`config.config`: command, environment, user and so on."""
        return dict(self.config.get("config") or {})


@lru_cache(4096)
def familiar(name: str) -> str:
    """A full reference as people write it: `docker.io/library/debian:12` is `debian:12`."""
    return parse_reference(name).familiar()
