"""Taking images away, by dockerd's rules and in its words.

A name goes, and with the last name the image, if nothing forbids it; then its parents that were only kept for it. What
an image or its names are to others decides, in two strengths (what `force` does not overcome, and what it does):

    hard   images were made from it; a running container stands on it
    soft   it has other names; a stopped container stands on it

The rules are pure: they turn one state of the records into the next, or raise. Layers and blobs go by the collector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from windlass.errors import Conflict, WindlassError
from windlass.images.catalog import Catalog
from windlass.images.collector import Collector
from windlass.images.filters import (
    Filters,
    created_ns,
    is_labelled,
    parse_flag,
    parse_until,
    repository_of,
)
from windlass.images.image import Image, familiar
from windlass.images.records import Records, Snapshot
from windlass.oci.reference import Reference

_CHILD, _RUNNING, _NAMED, _STOPPED = 1, 2, 4, 8
_HARD: Final = _CHILD | _RUNNING
_SOFT: Final = _NAMED | _STOPPED


class InUse(NamedTuple):
    """A container that stands on an image."""

    container: str
    running: bool


Containers = Mapping[str, Sequence[InUse]]
Entry = dict[str, str]


class _Obstacle(NamedTuple):
    hard: bool
    used: bool
    reason: str


class Plan:
    """The next state of the records, and what is to be told of the way there."""

    def __init__(self, state: Snapshot, in_use: Containers) -> None:
        self.state = state
        self.done: list[Entry] = []
        self._in_use = in_use

    def remove(self, image_id: str, reference: str | None, asked: str, *, force: bool, prune: bool) -> None:
        """Remove what was asked for: a name (`reference`) or, without one, the image. Raises Conflict."""
        names = self.names(image_id)
        named = reference is not None
        if reference is not None:
            if not force and _is_single(names):
                self._refuse_used_name(image_id, asked)
            self._untag(reference)
            repository = repository_of(reference)
            left = self.names(image_id)
            if "@" not in reference and not any("@" not in n and repository_of(n) == repository for n in left):
                # The last tag of a repository takes its digests along.
                for name in left:
                    if repository_of(name) == repository:
                        self._untag(name)
            if self.names(image_id):
                return
        elif _is_single(names):
            self._refuse(image_id, _HARD if force else _HARD | _STOPPED)
            for name in names:
                self._untag(name)
        self._delete(image_id, force=force, prune=prune, quiet=named)

    def names(self, image_id: str) -> list[str]:
        """The names of an image, tags before digests."""
        found = [name for name, target in self.state.names.items() if target == image_id]
        return sorted(found, key=lambda name: ("@" in name, name))

    def children(self, image_id: str) -> bool:
        """Whether images were made from it."""
        return any(record.parent == image_id for record in self.state.images.values())

    def _untag(self, name: str) -> None:
        self.state = self.state.without_name(name)
        self.done.append({"Untagged": familiar(name)})

    def _delete(self, image_id: str, *, force: bool, prune: bool, quiet: bool) -> None:
        """Delete an image with all its names, then its parents; `quiet`: leave it where that is only half wanted."""
        while True:
            obstacle = self._obstacle(image_id, _HARD if force else _HARD | _SOFT)
            if obstacle is not None:
                dangling = not self.names(image_id) and not self.children(image_id)
                if quiet and (not dangling or obstacle.used):
                    return
                raise _conflict(image_id, obstacle)
            for name in self.names(image_id):
                self._untag(name)
            parent = self.state.images[image_id].parent
            self.state = self.state.without_image(image_id)
            self.done.append({"Deleted": image_id})
            if not prune or parent not in self.state.images:
                return
            image_id, force, quiet = parent, False, True

    def _refuse_used_name(self, image_id: str, asked: str) -> None:
        for user in self._in_use.get(image_id, ()):
            raise Conflict(
                f'conflict: unable to remove repository reference "{asked}" (must force) - '
                f"container {user.container[:12]} is using its referenced image {_short(image_id)}"
            )

    def _refuse(self, image_id: str, kinds: int) -> None:
        obstacle = self._obstacle(image_id, kinds)
        if obstacle is not None:
            raise _conflict(image_id, obstacle)

    def _obstacle(self, image_id: str, kinds: int) -> _Obstacle | None:
        users = self._in_use.get(image_id, ())
        if kinds & _CHILD and self.children(image_id):
            return _Obstacle(True, False, "image has dependent child images")
        if kinds & _RUNNING:
            for user in users:
                if user.running:
                    return _Obstacle(True, True, f"image is being used by running container {user.container[:12]}")
        if kinds & _NAMED and self.names(image_id):
            return _Obstacle(False, False, "image is referenced in multiple repositories")
        if kinds & _STOPPED:
            for user in users:
                if not user.running:
                    return _Obstacle(False, True, f"image is being used by stopped container {user.container[:12]}")
        return None


def _is_single(names: Sequence[str]) -> bool:
    """Whether names are one tag at most, and digests of the same repository."""
    tags = [name for name in names if "@" not in name]
    if len(names) <= 1:
        return True
    if len(tags) > 1:
        return False
    first = tags[0] if tags else names[0]
    return {repository_of(name) for name in names if "@" in name} == {repository_of(first)}


def _conflict(image_id: str, obstacle: _Obstacle) -> Conflict:
    strength = "cannot be forced" if obstacle.hard else "must be forced"
    return Conflict(f"conflict: unable to delete {_short(image_id)} ({strength}) - {obstacle.reason}")


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]


class Removal:
    """Carries removals out. Its methods block and may be called from any thread."""

    def __init__(self, records: Records, catalog: Catalog, collector: Collector) -> None:
        self._records = records
        self._catalog = catalog
        self._collector = collector

    def remove(self, text: str, *, force: bool, noprune: bool, in_use: Containers) -> list[Entry]:
        """See `Images.remove`."""
        image_id, reference = self._catalog.find(text)
        done = self._carry_out(image_id, reference, text, force=force, prune=not noprune, in_use=in_use)
        return done + [{"Deleted": str(chain_id)} for chain_id in self._collector.collect()]

    def _carry_out(
        self, image_id: str, reference: Reference | None, asked: str, *, force: bool, prune: bool, in_use: Containers
    ) -> list[Entry]:
        plan: Plan | None = None

        def change(now: Snapshot) -> Snapshot:
            nonlocal plan
            plan = Plan(now, in_use)
            name = None if reference is None else self._name(now, image_id, reference)
            plan.remove(image_id, name, asked, force=force, prune=prune)
            return plan.state

        self._records.update(change)
        assert plan is not None
        return plan.done

    @staticmethod
    def _name(now: Snapshot, image_id: str, reference: Reference) -> str | None:
        """The name in the records that a reference means (one with tag and digest means the digest)."""
        spellings = [str(reference)]
        if reference.digest is not None:
            spellings.append(str(reference.with_digest(reference.digest)))
        return next((name for name in spellings if now.names.get(name) == image_id), None)

    def prune(self, filters: Filters, in_use: Containers) -> dict[str, Any]:
        """See `Images.prune`."""
        dangling = parse_flag(filters, "dangling", True)
        until = parse_until(filters)
        sizes = {str(layer.chain_id): layer.size for r in self._records.now.images.values() for layer in r.layers}
        done: list[Entry] = []
        for image in self._catalog.all():
            if (until is not None and created_ns(image) >= until) or not is_labelled(image, filters):
                continue
            done += self._prune_one(image, in_use, dangling=dangling)
        layers = [str(chain_id) for chain_id in self._collector.collect()]
        done += [{"Deleted": chain_id} for chain_id in layers]
        return {"ImagesDeleted": done or None, "SpaceReclaimed": sum(sizes.get(chain_id, 0) for chain_id in layers)}

    def _prune_one(self, image: Image, in_use: Containers, *, dangling: bool) -> list[Entry]:
        """Remove an image that the filters let through; where something forbids it, it stays."""
        now = self._records.now
        plan = Plan(now, in_use)
        names = plan.names(image.id)
        if image.id not in now.images or (not names and plan.children(image.id)):
            return []
        if dangling and any("@" not in name for name in names):
            return []
        done: list[Entry] = []
        for name in names or [""]:
            if name and self._records.now.names.get(name) != image.id:
                continue  # it went along with another one
            try:
                reference = self._catalog.find(name)[1] if name else None
                asked = familiar(name) if name else image.id.removeprefix("sha256:")
                done += self._carry_out(image.id, reference, asked, force=False, prune=True, in_use=in_use)
            except WindlassError:
                continue
        return done
