"""Taking images away: names, images, and the layers and blobs that nothing refers to then.

Mark and sweep: what images, roots of containers and holders refer to stays, in one pass over the records; the rest
goes. A pass is made after a removal, after the last hold ends, and at start. dockerd's rules and words for refusals.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from windlass.errors import Conflict, InvalidParameter
from windlass.images.catalog import Catalog
from windlass.images.content import ContentStore
from windlass.images.image import Image, familiar
from windlass.images.records import Records, Snapshot
from windlass.images.roots import is_init_layer
from windlass.images.snapshots import Driver, layer_name
from windlass.oci.digest import Digest
from windlass.oci.reference import Reference

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


class InUse(NamedTuple):
    """A container that stands on an image."""

    container: str
    running: bool


Containers = Mapping[str, Sequence[InUse]]


class Removal:
    """Removes and collects. Its methods block and may be called from any thread."""

    def __init__(
        self,
        content: ContentStore,
        records: Records,
        driver: Driver,
        catalog: Catalog,
        *,
        changed: Callable[[], None],
    ) -> None:
        self._content = content
        self._records = records
        self._driver = driver
        self._catalog = catalog
        self._changed = changed
        self._lock = threading.Lock()
        self._holds = 0

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Nothing is collected meanwhile."""
        with self._lock:
            self._holds += 1
        try:
            yield
        finally:
            with self._lock:
                self._holds -= 1

    # Removing

    def remove(self, text: str, *, force: bool, noprune: bool, in_use: Containers) -> list[dict[str, str]]:
        """See `Images.remove`."""
        image_id, reference = self._catalog.find(text)
        image = self._catalog.get(image_id)
        if reference is not None and len(image.references) > 1:
            return self._untag(image, str(self._named(image, reference)))
        done: list[dict[str, str]] = []
        if reference is None:
            self._refuse_shared(image, text, force=force)
            self._refuse_used(image, in_use, force=force)
        else:
            self._refuse_named(image, reference, in_use, force=force)
        for name in sorted(image.references, key=lambda name: "@" in name):
            done.append({"Untagged": familiar(name)})
        return done + self._delete(image, noprune=noprune)

    @staticmethod
    def _named(image: Image, reference: Reference) -> str:
        wanted = str(reference)
        if wanted in image.references:
            return wanted
        return next(name for name in image.references if name.endswith(f"@{reference.digest}"))

    def _untag(self, image: Image, name: str) -> list[dict[str, str]]:
        done = [{"Untagged": familiar(name)}]
        remaining = [one for one in image.references if one != name]
        removed = [name]
        repository = re.split(r"[:@](?=[^/]*$)", name)[0]
        tagged = [one for one in remaining if "@" not in one]
        if "@" not in name and not any(one.startswith(f"{repository}:") for one in tagged):
            # The last tag of a repository takes its digest names with it.
            for one in remaining:
                if one.startswith(f"{repository}@"):
                    done.append({"Untagged": familiar(one)})
                    removed.append(one)
        if len(removed) == len(image.references):
            return done + self._delete(image, noprune=False)

        def change(now: Snapshot) -> Snapshot:
            for one in removed:
                now = now.without_name(one)
            return now

        self._records.update(change)
        self._changed()
        return done

    @staticmethod
    def _refuse_shared(image: Image, text: str, *, force: bool) -> None:
        repositories = {re.split(r"[:@](?=[^/]*$)", name)[0] for name in image.references}
        if len(repositories) > 1 and not force:
            raise Conflict(
                f"conflict: unable to delete {_short(image.id)} (must be forced) - "
                "image is referenced in multiple repositories"
            )

    def _refuse_used(self, image: Image, in_use: Containers, *, force: bool) -> None:
        users = in_use.get(image.id, ())
        for user in users:
            if user.running:
                raise Conflict(
                    f"conflict: unable to delete {_short(image.id)} (cannot be forced) - "
                    f"image is being used by running container {user.container[:12]}"
                )
        if force:
            return
        for user in users:
            raise Conflict(
                f"conflict: unable to delete {_short(image.id)} (must be forced) - "
                f"image is being used by stopped container {user.container[:12]}"
            )
        if self._children(image):
            raise Conflict(
                f"conflict: unable to delete {_short(image.id)} (cannot be forced) - image has dependent child images"
            )

    def _refuse_named(self, image: Image, reference: Reference, in_use: Containers, *, force: bool) -> None:
        users = in_use.get(image.id, ())
        if users and not force:
            raise Conflict(
                f'conflict: unable to remove repository reference "{reference.familiar()}" (must force) - '
                f"container {users[0].container[:12]} is using its referenced image {_short(image.id)}"
            )
        for user in users:
            if user.running:
                raise Conflict(
                    f'conflict: unable to remove repository reference "{reference.familiar()}" (cannot be forced) - '
                    f"container {user.container[:12]} is using its referenced image {_short(image.id)}"
                )

    def _children(self, image: Image) -> list[str]:
        return [key for key, record in self._records.now.images.items() if record.parent == image.id]

    def _delete(self, image: Image, *, noprune: bool) -> list[dict[str, str]]:
        if self._children(image):
            # Its layers are needed; it only loses its names.
            self._records.update(lambda now: _without_names(now, image.id))
            self._changed()
            return []
        self._records.update(lambda now: now.without_image(image.id))
        self._changed()
        done = [{"Deleted": image.id}]
        parent = image.parent
        while parent and not noprune:
            record = self._records.now.images.get(parent)
            if record is None or self._catalog.get(parent).references or self._children(self._catalog.get(parent)):
                break
            done.append({"Deleted": parent})
            following = record.parent
            self._records.update(lambda now, gone=parent: now.without_image(gone))  # type: ignore[misc]
            parent = following
        done += [{"Deleted": str(chain_id)} for chain_id in self.collect()]
        return done

    def prune(self, filters: Mapping[str, Sequence[str]], in_use: Containers) -> dict[str, Any]:
        """See `Images.prune`."""
        dangling = _flag(filters.get("dangling", ["true"])[0])
        before = [_moment(value) for value in filters.get("until", ())]
        size = self._disk_usage()
        done: list[dict[str, str]] = []
        for image in self._catalog.all():
            if in_use.get(image.id) or (dangling and image.references) or self._children(image):
                continue
            if before and _created(image) >= min(before):
                continue
            if not _labelled(image, filters):
                continue
            done += [{"Untagged": familiar(name)} for name in sorted(image.references)]
            done += self._delete(image, noprune=False)
        return {"ImagesDeleted": done or None, "SpaceReclaimed": max(size - self._disk_usage(), 0)}

    def _disk_usage(self) -> int:
        sizes = {layer.chain_id: layer.size for r in self._records.now.images.values() for layer in r.layers}
        return sum(sizes.values())

    # Collecting

    def collect(self) -> list[Digest]:
        """Remove layers and blobs that nothing refers to; returns the chain IDs of the layers, topmost first."""
        with self._lock:
            if self._holds:
                return []
            now = self._records.now
            gone = self._sweep_layers({layer.chain_id for record in now.images.values() for layer in record.layers})
            referenced = set()
            for image_id, record in now.images.items():
                referenced |= {Digest(image_id), Digest(record.manifest["digest"]), Digest(record.target["digest"])}
                referenced.update(layer.blob for layer in record.layers)
            self._content.remove_unreferenced(referenced)
            self._catalog.forget([known for known in list(self._catalog.known()) if known not in now.images])
            return gone

    def _sweep_layers(self, wanted: set[Digest]) -> list[Digest]:
        """Remove layers that belong to no image and that no root stands on, topmost first."""
        names = {layer_name(chain_id) for chain_id in wanted}
        gone: list[Digest] = []
        while True:
            infos = list(self._driver.walk())
            needed = {info.parent for info in infos}
            # The mount points of an image's containers stay as long as the image does.
            free = [
                info.name
                for info in infos
                if info.is_layer
                and info.name not in needed
                and info.name not in names
                and not (is_init_layer(info.name) and (info.parent in names or info.parent is None))
            ]
            if not free:
                return gone
            for name in free:
                self._driver.remove(name)
                if not is_init_layer(name):
                    gone.append(Digest(f"sha256:{name}"))


def _without_names(now: Snapshot, image_id: str) -> Snapshot:
    for name in [name for name, target in now.names.items() if target == image_id]:
        now = now.without_name(name)
    return now


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]


def _flag(text: str) -> bool:
    if text.lower() in {"1", "t", "true"}:
        return True
    if text.lower() in {"0", "f", "false"}:
        return False
    raise InvalidParameter(f"invalid filter 'dangling=[{text}]'")


def _moment(text: str) -> float:
    """A duration back from now, a Unix time or an RFC 3339 time, in seconds since the epoch."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        factors = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
        return time.time() - sum(float(number) * factors[unit] for number, unit in parts)
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise InvalidParameter(f'failed to parse value as time or duration: "{text}"') from None


def _created(image: Image) -> float:
    try:
        return datetime.fromisoformat(image.created).timestamp()
    except ValueError:
        return 0.0


def _labelled(image: Image, filters: Mapping[str, Sequence[str]]) -> bool:
    labels = image.execution.get("Labels") or {}

    def has(text: str) -> bool:
        key, equals, value = text.partition("=")
        return key in labels and (not equals or labels[key] == value)

    return all(has(text) for text in filters.get("label", ())) and not any(has(t) for t in filters.get("label!", ()))
