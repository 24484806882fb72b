"""What is served now: built-in resources, custom resources, and groups that other servers answer.

    (group, version, plural) ─▶ Resource            requests
    (group, kind)            ─▶ Resource            owners, scale targets, references by kind
    group                    ─▶ versions, preferred first    discovery

Custom resources and aggregated groups come and go while requests run; each change counts `generation` up, by which
discovery and OpenAPI documents know that they are out of date. Single-threaded: everything runs on the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from windlass.kube.api.resource import Resource

Listener = Callable[[Resource, bool], None]
"""Called with a resource and whether it appeared (or went)."""

_STABILITY = {"": 2, "beta": 1, "alpha": 0}


def version_priority(version: str) -> tuple[int, int, int]:
    """The order of versions, the best the largest: v2, v1, v2beta1, v1beta1, v1alpha1, then others.

    Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/
    """
    text = version.removeprefix("v")
    for name in ("alpha", "beta"):
        major, found, minor = text.partition(name)
        if found and major.isdigit() and minor.isdigit():
            return (_STABILITY[name], int(major), int(minor))
    return (2, int(text), 0) if text.isdigit() and version.startswith("v") else (-1, 0, 0)


class Registry:
    """The served resources."""

    def __init__(self) -> None:
        self.generation = 0
        self._resources: dict[tuple[str, str, str], Resource] = {}
        self._groups: dict[str, list[str]] = {}
        self._group_order: list[str] = []
        self._listeners: list[Listener] = []
        self._preferred: dict[str, str] = {}

    def listen(self, listener: Listener) -> None:
        """Call `listener` for each change from now on."""
        self._listeners.append(listener)

    def add(self, resource: Resource) -> None:
        """Serve a resource, instead of what was served under its name."""
        key = (resource.group, resource.version, resource.plural)
        self._resources[key] = resource
        versions = self._groups.setdefault(resource.group, [])
        if resource.version not in versions:
            versions.append(resource.version)
            versions.sort(key=version_priority, reverse=True)
        self._changed(resource, True)

    def remove(self, resource: Resource) -> None:
        """Serve a resource no longer."""
        key = (resource.group, resource.version, resource.plural)
        if self._resources.pop(key, None) is None:
            return
        if not any(group == resource.group and version == resource.version for group, version, _ in self._resources):
            self._groups[resource.group].remove(resource.version)
            if not self._groups[resource.group]:
                del self._groups[resource.group]
        self._changed(resource, False)

    def get(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource of that name; None if it is not served."""
        return self._resources.get((group, version, plural))

    def preferred(self, group: str, plural: str) -> Resource | None:
        """The best version of a resource."""
        for version in self._groups.get(group, ()):
            found = self._resources.get((group, version, plural))
            if found is not None:
                return found
        return None

    def by_kind(self, group: str, version: str, kind: str) -> Resource | None:
        """The resource whose objects are of that kind; any version where `version` is ""."""
        for candidate in self._groups.get(group, ()):
            if version in ("", candidate):
                for resource in self.resources(group, candidate):
                    if resource.kind == kind:
                        return resource
        return None

    def groups(self) -> list[str]:
        """The groups served, the core group ("") first, then in the order in which they came."""
        return list(self._groups)

    def versions(self, group: str) -> list[str]:
        """The versions of a group, the preferred one first."""
        return list(self._groups.get(group, ()))

    def resources(self, group: str, version: str) -> Iterator[Resource]:
        """The resources of one group and version, by name."""
        for key in sorted(key for key in self._resources if key[0] == group and key[1] == version):
            yield self._resources[key]

    def all(self) -> Iterable[Resource]:
        """Every served version of every resource."""
        return list(self._resources.values())

    def storages(self) -> list[Resource]:
        """One resource for each storage: the version that is stored, or else the preferred one."""
        found: dict[bytes, Resource] = {}
        for resource in sorted(self._resources.values(), key=lambda item: not item.is_stored_version):
            found.setdefault(resource.storage.prefix, resource)
        return list(found.values())

    def _changed(self, resource: Resource, appeared: bool) -> None:
        self.generation += 1
        for listener in self._listeners:
            listener(resource, appeared)
