"""Which image is meant: names, tags, digests, IDs and their beginnings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from windlass.errors import InvalidParameter, NotFound
from windlass.images.content import ContentStore
from windlass.images.image import Image
from windlass.images.records import Records, Snapshot
from windlass.oci.digest import Digest, is_digest
from windlass.oci.image import ImageConfig, parse_image_config
from windlass.oci.platform import Platform, host_platform, maximum_platform, parse_platform, rank
from windlass.oci.reference import Reference, parse_reference

_ID: Final = re.compile(r"^(sha256:)?[0-9a-f]{1,64}$")


class Catalog:
    """Looks images up in the records; configurations are parsed once and kept."""

    def __init__(self, content: ContentStore, records: Records) -> None:
        self._content = content
        self._records = records
        self._configs: dict[str, ImageConfig] = {}
        self._names: tuple[Snapshot | None, dict[str, tuple[str, ...]]] = (None, {})
        self.host_platform = host_platform()

    def config(self, image_id: str) -> ImageConfig:
        """The configuration of an image that is here."""
        if image_id not in self._configs:
            self._configs[image_id] = parse_image_config(self._content.read(Digest(image_id)))
        return self._configs[image_id]

    def known(self) -> Iterable[str]:
        """IDs whose configuration is kept in memory."""
        return self._configs.keys()

    def forget(self, image_ids: Iterable[str]) -> None:
        """These are gone."""
        for image_id in image_ids:
            self._configs.pop(image_id, None)

    def _references(self, image_id: str) -> tuple[str, ...]:
        """Names of an image; the table is made again when the records have changed."""
        now = self._records.now
        if self._names[0] is not now:
            table: dict[str, list[str]] = {}
            for name, target in now.names.items():
                table.setdefault(target, []).append(name)
            self._names = (now, {target: tuple(names) for target, names in table.items()})
        return self._names[1].get(image_id, ())

    def get(self, image_id: str) -> Image:
        """The image of a whole ID. Raises NotFound."""
        record = self._records.now.images.get(image_id)
        if record is None:
            raise NotFound(f"No such image: {image_id}")
        return Image(image_id, self.config(image_id), record, self._references(image_id))

    def all(self) -> list[Image]:
        """All of them, the youngest first."""
        found = [self.get(image_id) for image_id in self._records.now.images]
        return sorted(found, key=lambda image: image.created, reverse=True)

    def find(self, text: str) -> tuple[str, Reference | None]:
        """(image ID, the reference if `text` was one). Raises NotFound in dockerd's words, InvalidParameter."""
        now = self._records.now
        if _ID.match(text) and (exact := text if is_digest(text) else f"sha256:{text}") in now.images:
            return exact, None
        try:
            reference = parse_reference(text).with_default_tag()
        except InvalidParameter:
            reference = None
        if reference is not None:
            for name in self._spellings(reference):
                if name in now.names:
                    return now.names[name], reference
        if _ID.match(text):
            beginning = text.removeprefix("sha256:")
            matches = {i for i in now.images if i.removeprefix("sha256:").startswith(beginning)}
            if len(matches) == 1:
                return matches.pop(), None
            if len(matches) > 1:
                raise InvalidParameter(f"image ID prefix {text} is ambiguous")
        if reference is None:
            parse_reference(text)
        raise NotFound(f"No such image: {text if reference is None else reference.familiar()}")

    @staticmethod
    def _spellings(reference: Reference) -> list[str]:
        """A reference with a tag and a digest means the digest."""
        if reference.digest is not None:
            return [str(Reference(reference.domain, reference.path, None, reference.digest))]
        return [str(reference)]

    def resolve(self, text: str, *, platform: str | Platform | None = None) -> Image:
        """The image that a name, a digest, an ID or its beginning means. Raises NotFound, InvalidParameter."""
        image = self.get(self.find(text)[0])
        if platform:
            wanted = parse_platform(platform) if isinstance(platform, str) else platform
            if rank(image.platform, wanted) is None:
                raise NotFound(
                    f"image with reference {text} was found but its platform ({image.platform}) does not match "
                    f"the specified platform ({wanted})"
                )
        return image

    def runs_here(self, image: Image) -> bool:
        """Whether this machine can execute it without emulation."""
        return rank(image.platform, maximum_platform()) is not None
