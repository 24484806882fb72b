"""Who controls what: owner references, an index by owner, and taking in and letting go of objects by a selector.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from windlass.kube.api import selectors
from windlass.kube.api.reader import Reader
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import APIClient

Matches = Callable[[Mapping[str, str]], bool]
_GONE: Final = (404, 409)


def plain_reference(owner: Object) -> Object:
    """The reference by which an object goes with its owner, and nothing more."""
    metadata = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


def owner_reference(owner: Object) -> Object:
    """The reference by which an object is controlled and goes with its owner."""
    return plain_reference(owner) | {"controller": True, "blockOwnerDeletion": True}


def controller_of(obj: Object) -> Object | None:
    """The reference of an object's controller."""
    references = obj["metadata"].get("ownerReferences") or ()
    return next((each for each in references if each.get("controller")), None)


class OwnedIndex:
    """Objects of one resource by the uid of their controller, and those that nobody controls by namespace.

    `touched` is called with an object and the reference of whoever has to look at it: its controller, and one that it
    had until now; None where it has no controller.
    """

    def __init__(self, touched: Callable[[Object | None, Object], None]) -> None:
        self._touched = touched
        self._owned: dict[str, dict[str, Object]] = {}
        self._orphans: dict[str, dict[str, Object]] = {}
        self._places: dict[str, Object | None] = {}

    def changed(self, event: str, obj: Object) -> None:
        """A listener of the resource."""
        uid = obj["metadata"]["uid"]
        owner = controller_of(obj)
        before = self._places.pop(uid, None)
        if before is not None and (owner is None or owner["uid"] != before["uid"]):
            self._drop(self._owned, before["uid"], uid)
            self._touched(before, obj)
        if event == "DELETED":
            if owner is not None:
                self._drop(self._owned, owner["uid"], uid)
            self._drop(self._orphans, obj["metadata"].get("namespace", ""), uid)
        else:
            self._places[uid] = owner
            if owner is not None:
                self._owned.setdefault(owner["uid"], {})[uid] = obj
                self._drop(self._orphans, obj["metadata"].get("namespace", ""), uid)
            else:
                self._orphans.setdefault(obj["metadata"].get("namespace", ""), {})[uid] = obj
        self._touched(owner, obj)

    @staticmethod
    def _drop(places: dict[str, dict[str, Object]], place: str, uid: str) -> None:
        found = places.get(place)
        if found is not None:
            found.pop(uid, None)
            if not found:
                del places[place]

    def owned(self, uid: str) -> list[Object]:
        """What a controller has."""
        return list(self._owned.get(uid, {}).values())

    def orphans(self, namespace: str) -> list[Object]:
        """What nobody controls."""
        return list(self._orphans.get(namespace, {}).values())


async def claim(
    client: APIClient, group: str, plural: str, owner: Object, owner_plural: str, matches: Matches, index: OwnedIndex
) -> list[Object]:
    """The objects that belong to a controller: those that match its selector and are its own, or nobody's until now.

    What is its own and matches no longer is let go. An owner that is being deleted takes nothing in.

    Raises:
        StatusError: an object cannot be taken in or let go; it will be tried again.
    """
    uid = owner["metadata"]["uid"]
    found, adopt, release = [], [], []
    for obj in index.owned(uid):
        if matches(obj["metadata"].get("labels") or {}):
            found.append(obj)
        elif not owner["metadata"].get("deletionTimestamp"):
            release.append(obj)
    if not owner["metadata"].get("deletionTimestamp"):
        adopt = [
            obj
            for obj in index.orphans(owner["metadata"]["namespace"])
            if not obj["metadata"].get("deletionTimestamp") and matches(obj["metadata"].get("labels") or {})
        ]
    if adopt and not await _is_alive(client, owner, owner_plural):
        adopt = []
    taken = await asyncio.gather(*(_adopt(client, group, plural, obj, owner) for obj in adopt))
    await asyncio.gather(*(_release(client, group, plural, obj, uid) for obj in release))
    return [*found, *(each for each in taken if each is not None)]


async def _is_alive(client: APIClient, owner: Object, plural: str) -> bool:
    """Whether the owner is really there: what is kept in memory may be late."""
    group = owner["apiVersion"].rpartition("/")[0]
    live = await client.find(group, plural, owner["metadata"]["namespace"], owner["metadata"]["name"])
    return (
        live is not None
        and live["metadata"]["uid"] == owner["metadata"]["uid"]
        and not live["metadata"].get("deletionTimestamp")
    )


async def _adopt(client: APIClient, group: str, plural: str, obj: Object, owner: Object) -> Object | None:
    metadata = obj["metadata"]
    reference = owner_reference(owner)

    def change(live: Object) -> Object | None:
        if live["metadata"]["uid"] != metadata["uid"] or controller_of(live) is not None:
            return None
        references = [each for each in live["metadata"].get("ownerReferences") or () if each["uid"] != reference["uid"]]
        live["metadata"]["ownerReferences"] = [*references, reference]
        return live

    try:
        taken = await client.update(group, plural, metadata["namespace"], metadata["name"], change)
    except StatusError as error:
        if error.code in _GONE:
            return None
        raise
    mine = controller_of(taken)
    return taken if mine is not None and mine["uid"] == reference["uid"] else None


async def _release(client: APIClient, group: str, plural: str, obj: Object, uid: str) -> None:
    metadata = obj["metadata"]

    def change(live: Object) -> Object | None:
        references = live["metadata"].get("ownerReferences") or []
        live["metadata"]["ownerReferences"] = [each for each in references if each["uid"] != uid]
        return live

    try:
        await client.update(group, plural, metadata["namespace"], metadata["name"], change)
    except StatusError as error:
        if error.code not in (*_GONE, 422):
            raise


def selector_of(owner: Object) -> Matches:
    """A function of labels: whether a controller's selector means them. One that asks for nothing means nobody."""
    selector = owner["spec"].get("selector") or {}
    if owner["kind"] == "ReplicationController":
        selector = {"matchLabels": selector}
    requirements = selectors.from_label_selector(selector)
    return selectors.label_matcher(requirements) if requirements else lambda labels: False


def takers(cache: Reader, group: str, plural: str, orphan: Object) -> list[tuple[str, str]]:
    """The keys of the controllers that could take in what nobody controls."""
    namespace, labels = orphan["metadata"]["namespace"], orphan["metadata"].get("labels") or {}
    return [
        (namespace, each["metadata"]["name"])
        for each in cache.list(group, plural, namespace)
        if selector_of(each)(labels)
    ]
