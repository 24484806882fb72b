"""EndpointSlices as two controllers write them: endpoints stay in the slice that they are in, slices are filled up.

    wanted endpoints ─┬ in a slice already ──▶ they stay there, renewed
                      └ new ──▶ the slices that change anyway ─▶ one that they just fill ─▶ new slices

So a change of one endpoint is a change of one slice, whatever the service's size.

Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#distribution-of-endpointslices
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from windlass.kube.api.endpointslices import GROUP as GROUP
from windlass.kube.api.endpointslices import PLURAL as PLURAL
from windlass.kube.api.endpointslices import SERVICE_NAME as SERVICE_NAME
from windlass.kube.api.resource import Object
from windlass.kube.client import APIClient

MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"

PortsKey = tuple[Any, ...]


@dataclass
class Plan:
    """What has to be done with the slices of one address type and one set of ports."""

    create: list[list[Object]] = field(default_factory=list)
    update: dict[str, list[Object]] = field(default_factory=dict)
    delete: list[str] = field(default_factory=list)


def ports_key(ports: Sequence[Mapping[str, Any]] | None) -> PortsKey:
    """Equal for the same ports in any order."""
    return tuple(
        sorted(
            (each.get("name") or "", each.get("protocol", "TCP"), each.get("port") or 0, each.get("appProtocol") or "")
            for each in ports or ()
        )
    )


def _identity(endpoint: Object) -> tuple[Any, ...]:
    reference = endpoint.get("targetRef") or {}
    return (reference.get("uid", ""), *endpoint.get("addresses", ()))


def plan(existing: Sequence[Object], wanted: Sequence[Object], most: int) -> Plan:
    """Distribute endpoints over the existing slices, and new ones, of at most `most`."""
    found = Plan()
    left = {_identity(each): each for each in wanted}
    contents: dict[str, list[Object]] = {}
    for each in existing:
        name, before = each["metadata"]["name"], each.get("endpoints") or []
        kept = [left.pop(key) for key in map(_identity, before) if key in left]
        contents[name] = kept
        if kept != before:
            found.update[name] = kept
    rest = list(left.values())
    for name in sorted(found.update, key=lambda name: -len(contents[name])):
        room = max(most - len(contents[name]), 0)
        contents[name] += rest[:room]
        del rest[:room]
    while rest:
        part = rest[:most]
        fitting = [name for name, inside in contents.items() if name not in found.update]
        fitting = [name for name in fitting if len(contents[name]) + len(part) <= most]
        if fitting and len(part) == len(rest):
            name = max(fitting, key=lambda name: len(contents[name]))
            contents[name] += part
            found.update[name] = contents[name]
        else:
            found.create.append(part)
        del rest[:most]
    for name, inside in contents.items():
        if not inside:
            found.update.pop(name, None)
            found.delete.append(name)
    return found


@dataclass(frozen=True)
class SliceSet:
    """All slices that a controller keeps for one object of a service.

    Attributes:
        groups: for each address type and set of ports, the ports and their endpoints.
        placeholders: address types of which there must be a slice even where there is no endpoint.
    """

    namespace: str
    service: str
    managed_by: str
    owner: Object
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    groups: Mapping[tuple[str, PortsKey], tuple[Sequence[Object], Sequence[Object]]]
    placeholders: Sequence[str] = ()
    most: int = 100


def existing_slices(client: APIClient, namespace: str, service: str, managed_by: str) -> list[Object]:
    """The slices of a service that one controller has made."""
    return [
        each
        for each in client.cache.list(GROUP, PLURAL, namespace)
        if (labels := each["metadata"].get("labels") or {}).get(SERVICE_NAME) == service
        and labels.get(MANAGED_BY) == managed_by
    ]


async def write(client: APIClient, wanted: SliceSet) -> None:
    """Make the slices what they should be. Raises StatusError."""
    existing = existing_slices(client, wanted.namespace, wanted.service, wanted.managed_by)
    owner = wanted.owner["uid"]
    by_group: dict[tuple[str, PortsKey], list[Object]] = {}
    delete: list[str] = []
    for each in existing:
        metadata = each["metadata"]
        if metadata.get("deletionTimestamp"):
            continue
        if not any(reference.get("uid") == owner for reference in metadata.get("ownerReferences") or ()):
            delete.append(metadata["name"])
            continue
        by_group.setdefault((each["addressType"], ports_key(each.get("ports"))), []).append(each)
    groups = {key: group for key, group in wanted.groups.items() if group[1]}
    for kind in wanted.placeholders:
        if not any(key[0] == kind for key in groups):
            groups[(kind, ())] = ([], [])
    for (kind, key), (ports, endpoints) in groups.items():
        slices = by_group.pop((kind, key), [])
        todo = plan(slices, endpoints, wanted.most)
        if not endpoints:
            # The placeholder: one empty slice.
            keep, *others = [each["metadata"]["name"] for each in slices] or [""]
            todo = Plan(create=[] if keep else [[]], update={keep: []} if keep else {}, delete=others)
        for inside in todo.create:
            await client.create(GROUP, PLURAL, _document(wanted, kind, ports, inside), wanted.namespace)
        for each in slices:
            name = each["metadata"]["name"]
            if name not in todo.delete and (name in todo.update or not _is_labelled(each, wanted)):
                await _update(client, wanted, name, todo.update.get(name))
        delete += todo.delete
    delete += [each["metadata"]["name"] for rest in by_group.values() for each in rest]
    for name in delete:
        await client.delete(GROUP, PLURAL, wanted.namespace, name)


def _labels(wanted: SliceSet) -> dict[str, str]:
    return {**wanted.labels, SERVICE_NAME: wanted.service, MANAGED_BY: wanted.managed_by}


def _is_labelled(each: Object, wanted: SliceSet) -> bool:
    return (each["metadata"].get("labels") or {}) == _labels(wanted)


def _document(wanted: SliceSet, kind: str, ports: Sequence[Object], endpoints: list[Object]) -> Object:
    metadata: Object = {
        "generateName": f"{wanted.service}-",
        "namespace": wanted.namespace,
        "labels": _labels(wanted),
        "ownerReferences": [wanted.owner],
    }
    if wanted.annotations:
        metadata["annotations"] = dict(wanted.annotations)
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": kind,
        "endpoints": endpoints,
        "ports": list(ports),
    }


async def _update(client: APIClient, wanted: SliceSet, name: str, endpoints: list[Object] | None) -> None:
    def change(live: Object) -> None:
        live["metadata"]["labels"] = _labels(wanted)
        if endpoints is not None and endpoints != live.get("endpoints"):
            live["endpoints"] = endpoints
            if wanted.annotations:
                live["metadata"]["annotations"] = dict(wanted.annotations)

    await client.update(GROUP, PLURAL, wanted.namespace, name, change)
