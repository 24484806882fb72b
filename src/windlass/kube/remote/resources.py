"""Where a resource is served: its version, path and kind, learned from the server's discovery documents.

The preferred version of a group counts; a resource that it lacks is looked for in the group's other versions.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import quote

from windlass.kube.api.status import StatusError
from windlass.kube.remote.transport import Transport


@dataclass(frozen=True, slots=True)
class Place:
    """A resource of a server. `root` is the path of its group and version."""

    root: str
    api_version: str
    kind: str
    plural: str
    namespaced: bool

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of a collection or an object."""
        parts = [self.root]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


class Resources:
    """What a server serves, asked for once."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: dict[tuple[str, str], Place] = {}
        self._lock = asyncio.Lock()

    async def find(self, group: str, plural: str) -> Place:
        """Where a resource is. Raises StatusError: 404, 503."""
        found = self._known.get((group, plural))
        if found is None:
            async with self._lock:
                if (group, plural) not in self._known:
                    await self._learn(group, plural)
            found = self._known[group, plural]
        return found

    async def _learn(self, group: str, plural: str) -> None:
        for version in await self._versions(group):
            root = f"/apis/{group}/{version}" if group else f"/api/{version}"
            listed = await self._transport.request("GET", root)
            for each in listed.get("resources") or ():
                if "/" in each["name"]:
                    continue
                api_version = f"{group}/{version}" if group else version
                place = Place(root, api_version, each["kind"], each["name"], bool(each.get("namespaced")))
                self._known.setdefault((group, each["name"]), place)
            if (group, plural) in self._known:
                return
        raise StatusError(404, "NotFound", f"the server has no resource {plural} in group {group!r}")

    async def _versions(self, group: str) -> list[str]:
        if not group:
            return ["v1"]
        found = await self._transport.request("GET", f"/apis/{quote(group, safe='')}")
        preferred = str((found.get("preferredVersion") or {}).get("version") or "")
        others = [str(each["version"]) for each in found.get("versions") or ()]
        return list(dict.fromkeys([preferred, *others] if preferred else others))
