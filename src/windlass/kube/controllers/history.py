"""Revisions of DaemonSets and StatefulSets: their templates, kept as ControllerRevisions.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/controller-revision-v1/
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from windlass.kube.api import objects
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import APIClient
from windlass.kube.controllers.deployment.revisions import template_hash
from windlass.kube.controllers.ownership import owner_reference

HASH: Final = "controller-revision-hash"
_GROUP, _PLURAL = "apps", "controllerrevisions"


def data_of(owner: Object) -> Object:
    """What a revision keeps: a patch that brings the template back."""
    template: Object = objects.copy(owner["spec"]["template"])
    (template.get("metadata") or {}).pop("creationTimestamp", None)
    return {"spec": {"template": {"$patch": "replace", **template}}}


def restored(owner: Object, revision: Object) -> Object:
    """The owner with the template of a revision."""
    found: Object = objects.copy(owner)
    template = objects.copy(revision["data"]["spec"]["template"])
    template.pop("$patch", None)
    found["spec"]["template"] = template
    return found


def name_of(revision: Object) -> str:
    """The value of the label by which pods name their revision."""
    return str((revision["metadata"].get("labels") or {}).get(HASH) or revision["metadata"]["name"])


def in_order(revisions: Iterable[Object]) -> list[Object]:
    """The oldest first."""
    return sorted(revisions, key=lambda each: (each["revision"], each["metadata"]["name"]))


async def present(
    client: APIClient, owner: Object, revisions: Sequence[Object], collisions: int | None
) -> tuple[Object, bool]:
    """The revision of the owner's template, made where it is new, and the latest of all; whether a name was taken.

    Raises:
        StatusError: AlreadyExists where another template has the name: `collisions` has to grow.
    """
    data = data_of(owner)
    ordered = in_order(revisions)
    number = ordered[-1]["revision"] + 1 if ordered else 1
    found = next((each for each in reversed(ordered) if objects.same(each["data"], data)), None)
    namespace = owner["metadata"]["namespace"]
    if found is not None:
        if found is ordered[-1]:
            return found, False

        def renumber(live: Object) -> None:
            live["revision"] = number

        return await client.update(_GROUP, _PLURAL, namespace, found["metadata"]["name"], renumber), False
    short = template_hash(data, collisions)
    name = f"{owner['metadata']['name']}-{short}"
    labels = {**((owner["spec"]["template"].get("metadata") or {}).get("labels") or {})}
    value = name if owner["kind"] == "StatefulSet" else short
    made: Object = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels | {HASH: value, "controller.kubernetes.io/hash": short},
            "annotations": dict(owner["metadata"].get("annotations") or {}),
            "ownerReferences": [owner_reference(owner)],
        },
        "data": data,
        "revision": number,
    }
    try:
        return await client.create(_GROUP, _PLURAL, made), False
    except StatusError as error:
        if error.reason != "AlreadyExists":
            raise
        there = await client.get(_GROUP, _PLURAL, namespace, name)
        return there, not objects.same(there["data"], data)


async def forget(client: APIClient, owner: Object, revisions: Sequence[Object], used: Collection[str]) -> None:
    """Delete the oldest revisions beyond the limit, but none in `used` (values of the label). Raises StatusError."""
    limit = int(owner["spec"].get("revisionHistoryLimit", 10))
    old = [each for each in in_order(revisions) if name_of(each) not in used]
    for each in old[: max(len(old) - limit, 0)]:
        metadata = each["metadata"]
        await client.delete(_GROUP, _PLURAL, metadata["namespace"], metadata["name"], uid=metadata["uid"])
