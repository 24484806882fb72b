"""`docker ps`: which containers, in which order. The newest first; filters as dockerd matches them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from windlass.engine import filters as match
from windlass.engine.container import Container
from windlass.engine.core import Core
from windlass.engine.filters import Filters
from windlass.engine.inspection import Inspection
from windlass.engine.ports import parse_range
from windlass.engine.state import STATUSES
from windlass.errors import InvalidParameter, NotFound, WindlassError

Document = dict[str, Any]

_HEALTHS: Final = ("none", "starting", "healthy", "unhealthy")


def _check_values(filters: Filters) -> None:
    """Raises `InvalidParameter` for a value that cannot be."""
    for value in filters.get("exited") or ():
        try:
            int(value)
        except ValueError:
            raise InvalidParameter(
                f"invalid filter 'exited={value}': strconv.Atoi: parsing \"{value}\": invalid syntax"
            ) from None
    for name, allowed, what in (("status", STATUSES, "state"), ("health", _HEALTHS, "health")):
        for value in filters.get(name) or ():
            if value not in allowed:
                raise InvalidParameter(
                    f"invalid filter '{name}={value}': invalid value for {what} ({value}): "
                    f"must be one of {', '.join(allowed)}"
                )


def _ports(filters: Filters, name: str) -> frozenset[str]:
    wanted: set[str] = set()
    for value in filters.get(name) or ():
        if ":" in value:
            raise InvalidParameter(f"filter for '{name}' should not contain ':': {value}")
        try:
            wanted.update(parse_range(value).ports())
        except ValueError as error:
            raise InvalidParameter(f"error while looking up for {name} {value}: {error}") from None
    return frozenset(wanted)


class Listing:
    """Lists containers."""

    def __init__(self, core: Core, inspection: Inspection) -> None:
        self._core = core
        self._inspection = inspection

    async def summaries(self, *, all: bool, limit: int, size: bool, filters: Filters) -> list[Document]:
        """`GET /containers/json`. Raises `InvalidParameter`, `NotFound`."""
        chosen = self.choose(all=all, limit=limit, filters=filters)
        summaries = []
        for container in chosen:
            summary = self._inspection.summary(container)
            if size:
                try:
                    sizes = await self._inspection.sizes(container)
                    summary |= {name: value for name, value in sizes.items() if value}
                except (WindlassError, OSError):
                    continue  # it has just been removed
            summaries.append(summary)
            if len(summaries) % 100 == 0:
                await asyncio.sleep(0)
        return summaries

    def choose(self, *, all: bool, limit: int, filters: Filters) -> list[Container]:
        """The containers that pass, the newest first."""
        _check_values(filters)
        ports = _ports(filters, "publish"), _ports(filters, "expose")
        everything = all or limit > 0 or bool(filters.get("status"))
        ordered = sorted(self._core.store, key=lambda container: container.created, reverse=True)
        ordered = self._between(ordered, filters)
        images = self._ancestors(filters)
        chosen: list[Container] = []
        for container in ordered:
            if not everything and not container.state.running:
                continue
            if not self._passes(container, filters, images, ports):
                continue
            chosen.append(container)
            if limit > 0 and len(chosen) == limit:
                break
        return chosen

    def _between(self, ordered: Sequence[Container], filters: Filters) -> list[Container]:
        """The part of the list that is older than `before` and newer than `since`."""
        result = list(ordered)
        for value in filters.get("before") or ():
            named = self._named(value)
            result = result[result.index(named) + 1 :] if named in result else []
        for value in filters.get("since") or ():
            named = self._named(value)
            result = result[: result.index(named)] if named in result else result
        return result

    def _named(self, value: str) -> Container:
        store = self._core.store
        found = store.get(value)
        if found is None and (owner := store.names.owner(value)) is not None:
            found = store.get(owner)
        if found is None:
            raise NotFound(f"No such container: {value}")
        return found

    def _ancestors(self, filters: Filters) -> frozenset[str] | None:
        """The images whose containers are wanted; None if that does not matter."""
        if "ancestor" not in filters:
            return None
        found: set[str] = set()
        for value in filters["ancestor"]:
            try:
                image = self._core.images.resolve(value)
            except WindlassError:
                continue
            found.add(image.id)
            found |= _descendants(image.id, self._core.images.list())
        return frozenset(found)

    def _passes(
        self,
        container: Container,
        filters: Filters,
        images: frozenset[str] | None,
        ports: tuple[frozenset[str], frozenset[str]],
    ) -> bool:
        state = container.state
        if not filters:
            return True
        name = container.name
        if not (match.pattern(filters, "name", f"/{name}") or match.pattern(filters, "name", name)):
            return False
        if not match.fuzzy(filters, "id", container.id):
            return False
        if "is-task" in filters and match.boolean(filters, "is-task", default=False):
            return False
        if not match.labels(filters, "label", container.labels):
            return False
        if not match.pattern(filters, "isolation", container.host_config["Isolation"]):
            return False
        if codes := filters.get("exited"):
            wanted = {int(code) for code in codes}
            if state.running or not state.started_at or state.exit_code not in wanted:
                return False
        if not match.exact(filters, "status", state.status):
            return False
        health = container.health["Status"] if container.health is not None else "none"
        if not match.exact(filters, "health", health):
            return False
        if not self._has_volume(container, filters) or (images is not None and container.image_id not in images):
            return False
        return self._has_network(container, filters) and self._has_port(container, *ports)

    @staticmethod
    def _has_volume(container: Container, filters: Filters) -> bool:
        wanted = filters.get("volume")
        if not wanted:
            return True
        names = {
            name
            for point in container.mount_points.values()
            for name in (point.name or point.source, point.destination)
        }
        return any(value in names for value in wanted)

    def _has_network(self, container: Container, filters: Filters) -> bool:
        wanted = filters.get("network")
        if not wanted:
            return True
        networks = self._inspection.network_settings(container)["Networks"]
        return any(
            value in networks
            or any((endpoint.get("NetworkID") or "").startswith(value) for endpoint in networks.values())
            for value in wanted
        )

    def _has_port(self, container: Container, publish: frozenset[str], expose: frozenset[str]) -> bool:
        if not publish and not expose:
            return True
        ports = self._inspection.network_settings(container)["Ports"]
        for port, bindings in ports.items():
            if port in expose:
                return True
            protocol = port.partition("/")[2]
            if any(f"{binding['HostPort']}/{protocol}" in publish for binding in bindings or ()):
                return True
        return False


def _descendants(image_id: str, images: Iterable[Any]) -> set[str]:
    """The images that were made from this one, directly or not."""
    children: dict[str, list[str]] = {}
    for image in images:
        if image.parent:
            children.setdefault(image.parent, []).append(image.id)
    found: set[str] = set()
    pending = [image_id]
    while pending:
        for child in children.get(pending.pop(), ()):
            if child not in found:
                found.add(child)
                pending.append(child)
    return found
