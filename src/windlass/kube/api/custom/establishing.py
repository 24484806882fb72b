"""Accepts the names of CustomResourceDefinitions and serves what it accepted, deletes the objects of those that go.

    names in conflict ─▶ NamesAccepted=False           nothing is served
    accepted          ─▶ NamesAccepted, Established     versions appear in the registry, discovery and OpenAPI follow
    deleted           ─▶ Terminating: no new objects, the old ones go, then the definition

Serving follows the cache at once, in this process; the conditions follow when they are written.
"""

from __future__ import annotations

from typing import Any

from windlass.kube.api import objects
from windlass.kube.api.custom.conversion import Conversion
from windlass.kube.api.custom.definition import FINALIZER
from windlass.kube.api.custom.resources import of_definition, storage_prefix
from windlass.kube.api.operations.reading import prefix_end
from windlass.kube.api.registry import Registry
from windlass.kube.api.resource import Object, Resource
from windlass.kube.api.status import StatusError
from windlass.kube.api.webhooks import WebhookCaller
from windlass.kube.client import Client
from windlass.kube.controllers.runner import Controller, Key
from windlass.kube.schema.catalogue import Catalogue

GROUP, PLURAL = "apiextensions.k8s.io", "customresourcedefinitions"
_AGAIN = 0.2


def condition(obj: Object, type: str) -> dict[str, Any] | None:
    """A condition of a definition."""
    for each in (obj.get("status") or {}).get("conditions") or ():
        if each.get("type") == type:
            found: dict[str, Any] = each
            return found
    return None


class Server:
    """Keeps the registry's custom resources as the definitions say."""

    def __init__(self, registry: Registry, catalogue: Catalogue, caller: WebhookCaller) -> None:
        self._registry = registry
        self._catalogue = catalogue
        self._caller = caller
        self._served: dict[str, tuple[Any, list[Resource]]] = {}

    def changed(self, event: str, definition: Object) -> None:
        """A definition came, changed or went."""
        name = definition["metadata"]["name"]
        established = condition(definition, "Established")
        if event == "DELETED" or established is None or established.get("status") != "True":
            self._withdraw(name)
            return
        known = self._served.get(name)
        ending = bool(definition["metadata"].get("deletionTimestamp"))
        key = (definition["spec"], ending)
        if known is not None and known[0] == key:
            return
        conversion = Conversion(definition["spec"], self._caller)
        fresh = of_definition(definition, self._catalogue, conversion)
        if ending:
            for resource in fresh:
                resource.verbs = tuple(verb for verb in resource.verbs if verb != "create")
        versions = {resource.version for resource in fresh}
        if known is not None:
            for resource in known[1]:
                if resource.version not in versions:
                    self._registry.remove(resource)
        for resource in fresh:
            self._registry.add(resource)
        self._served[name] = (key, fresh)

    def _withdraw(self, name: str) -> None:
        known = self._served.pop(name, None)
        if known is not None:
            for resource in known[1]:
                self._registry.remove(resource)


class EstablishingController(Controller):
    """Writes the conditions, and empties what goes."""

    name = "crd-controller"
    workers = 2

    def __init__(self, client: Client) -> None:
        super().__init__(client)

    def subscribe(self) -> None:
        """Definitions."""
        self.watch(GROUP, PLURAL)

    async def reconcile(self, key: Key) -> float | None:
        """Accept, establish, or take down."""
        definition = self.cache.get(GROUP, PLURAL, "", key[1])
        if definition is None:
            return None
        if definition["metadata"].get("deletionTimestamp"):
            return await self._take_down(definition)
        if FINALIZER not in (definition["metadata"].get("finalizers") or ()):

            def add(live: Object) -> None:
                finalizers = live["metadata"].setdefault("finalizers", [])
                if FINALIZER not in finalizers:
                    finalizers.append(FINALIZER)

            await self.client.update(GROUP, PLURAL, "", key[1], add, check=False)
        conflict = self._conflict(definition)
        now = self.client.env.timestamp()

        def change(live: Object) -> None:
            status = dict(live.get("status") or {})
            conditions = list(status.get("conditions") or [])
            if conflict:
                _set(conditions, "NamesAccepted", "False", conflict[0], conflict[1], now)
                if condition(live, "Established") is None:
                    _set(conditions, "Established", "False", "NotAccepted", "not all names are accepted", now)
            else:
                _set(conditions, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now)
                _set(
                    conditions,
                    "Established",
                    "True",
                    "InitialNamesAccepted",
                    "the initial names have been accepted",
                    now,
                )
                status["acceptedNames"] = live["spec"]["names"]
            status["conditions"] = conditions
            status.setdefault("storedVersions", [])
            live["status"] = status

        await self.client.update(GROUP, PLURAL, "", key[1], change, subresource="status")
        return None

    def _conflict(self, definition: Object) -> tuple[str, str] | None:
        """Who of the same group has one of the names already."""
        spec, names = definition["spec"], definition["spec"]["names"]
        plurals = {names["plural"], names.get("singular"), *(names.get("shortNames") or ())}
        kinds = {names["kind"], names.get("listKind")}
        for other in self.cache.list(GROUP, PLURAL):
            if other["spec"]["group"] != spec["group"] or other["metadata"]["name"] == definition["metadata"]["name"]:
                continue
            accepted = (other.get("status") or {}).get("acceptedNames") or {}
            taken = {accepted.get("plural"), accepted.get("singular"), *(accepted.get("shortNames") or ())} - {None, ""}
            if found := plurals & taken:
                reason = "PluralConflict" if names["plural"] in found else "ShortNamesConflict"
                return reason, f'"{sorted(map(str, found))[0]}" is already in use'
            if found := kinds & ({accepted.get("kind"), accepted.get("listKind")} - {None, ""}):
                return "KindConflict", f'"{sorted(map(str, found))[0]}" is already in use'
        return None

    async def _take_down(self, definition: Object) -> float | None:
        name = definition["metadata"]["name"]
        if FINALIZER not in (definition["metadata"].get("finalizers") or ()):
            return None
        store = self.client.env.store
        prefix = storage_prefix(definition)
        records = store.range(prefix, prefix_end(prefix)).records
        group, plural = definition["spec"]["group"], definition["spec"]["names"]["plural"]
        if records and self.client.env.registry.preferred(group, plural) is not None:
            for record in records:
                obj = objects.decode(record.value)
                if not obj["metadata"].get("deletionTimestamp"):
                    try:
                        await self.client.delete(group, plural, objects.namespace_of(obj), objects.name_of(obj))
                    except StatusError as error:
                        if error.code >= 500:
                            raise
            return _AGAIN
        for record in records:  # nobody serves them, so nobody can delete them
            await store.commit(record.key, None)

        def change(live: Object) -> None:
            live["metadata"]["finalizers"] = [
                each for each in live["metadata"].get("finalizers") or () if each != FINALIZER
            ]

        await self.client.update(GROUP, PLURAL, "", name, change, check=False)
        return None


def _set(conditions: list[dict[str, Any]], type: str, value: str, reason: str, message: str, now: str) -> None:
    for each in conditions:
        if each.get("type") == type:
            if each.get("status") != value:
                each["lastTransitionTime"] = now
            each.update(status=value, reason=reason, message=message)
            return
    conditions.append({"type": type, "status": value, "lastTransitionTime": now, "reason": reason, "message": message})
