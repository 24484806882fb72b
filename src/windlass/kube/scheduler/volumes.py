"""VolumeBinding, VolumeZone, VolumeRestrictions: pods go where their volumes are, or can be made.

A claim of a class with WaitForFirstConsumer waits for its pod: the scheduler names the node in the claim's annotation,
a provisioner makes the volume there, and then the pod is bound.

Source: https://kubernetes.io/docs/concepts/storage/storage-classes/#volume-binding-mode
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from windlass.kube.api.reader import Reader
from windlass.kube.client import APIClient
from windlass.kube.scheduler import filters
from windlass.kube.scheduler.filters import Refusal
from windlass.kube.scheduler.podinfo import PodInfo
from windlass.kube.scheduler.table import NodeTable

Object = dict[str, Any]

SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
_WAIT_SECONDS = 600.0
_ONE_POD = "ReadWriteOncePod"


class NotBound(Exception):
    """A claim did not get its volume in time."""


def missing_claim(cache: Reader, info: PodInfo) -> str:
    """What is wrong with the pod's claims on any node; "" if nothing is."""
    for name in info.claims:
        claim = cache.get("", "persistentvolumeclaims", info.namespace, name)
        if claim is None:
            return f'persistentvolumeclaim "{name}" not found'
        if claim["metadata"].get("deletionTimestamp"):
            return f'persistentvolumeclaim "{name}" is being deleted'
        if (claim.get("status") or {}).get("phase") == "Lost":
            return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume'
        if not _is_bound(claim) and not _waits(cache, claim):
            return "pod has unbound immediate PersistentVolumeClaims"
    return ""


def _is_bound(claim: Object) -> bool:
    return bool((claim.get("spec") or {}).get("volumeName")) and (claim.get("status") or {}).get("phase") == "Bound"


def _waits(cache: Reader, claim: Object) -> bool:
    name = (claim.get("spec") or {}).get("storageClassName") or ""
    found = cache.get("storage.k8s.io", "storageclasses", "", name) if name else None
    return found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"


def run(table: NodeTable, cache: Reader, info: PodInfo) -> Sequence[Refusal]:
    """The filters of volumes."""
    found = []
    for name in info.claims:
        claim = cache.get("", "persistentvolumeclaims", info.namespace, name)
        if claim is None:
            continue
        if _ONE_POD in ((claim.get("spec") or {}).get("accessModes") or ()) and _in_use(table, info, name):
            reason = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
            found.append(Refusal("VolumeRestrictions", table.valid, reason))
        if _is_bound(claim):
            volume = cache.get("", "persistentvolumes", "", claim["spec"]["volumeName"])
            required = ((volume or {}).get("spec", {}).get("nodeAffinity") or {}).get("required")
            if required:
                mask = ~filters.matches_terms(table, required["nodeSelectorTerms"])
                found.append(
                    Refusal("VolumeBinding", mask, "node(s) didn't match PersistentVolume's node affinity", False)
                )
            continue
        selected = (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE, "")
        if (row := table.rows.get(selected)) is not None:
            # A volume is being made there already.
            mask = np.ones(len(table.names), dtype=np.bool_)
            mask[row] = False
            found.append(Refusal("VolumeBinding", mask, "node(s) didn't find available persistent volumes to bind"))
    return found


def _in_use(table: NodeTable, info: PodInfo, claim: str) -> bool:
    return any(
        claim in each.claims and each.namespace == info.namespace and each.uid != info.uid
        for row in table.rows.values()
        for each in table.pods[row].values()
        if each.claims
    )


async def reserve(client: APIClient, info: PodInfo, node: Object | None) -> None:
    """Have the pod's claims bound, on this node where they wait for one.

    Raises:
        NotBound, StatusError
    """
    if node is None:
        raise NotBound("the node is gone")
    name_of_node = node["metadata"]["name"]
    waiting = []
    for name in info.claims:
        claim = client.cache.get("", "persistentvolumeclaims", info.namespace, name)
        if claim is None or _is_bound(claim):
            continue

        def select(live: Object) -> None:
            live["metadata"].setdefault("annotations", {}).setdefault(SELECTED_NODE, name_of_node)

        await client.update("", "persistentvolumeclaims", info.namespace, name, select)
        waiting.append(name)
    if waiting:
        await _until_bound(client, info.namespace, waiting)


async def _until_bound(client: APIClient, namespace: str, names: Sequence[str]) -> None:
    changed = asyncio.Event()

    def heard(event: str, claim: Object) -> None:
        del event
        if claim["metadata"]["namespace"] == namespace and claim["metadata"]["name"] in names:
            changed.set()

    client.cache.subscribe("", "persistentvolumeclaims", heard)
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            while True:
                claims = [client.cache.get("", "persistentvolumeclaims", namespace, name) for name in names]
                if all(claim is not None and _is_bound(claim) for claim in claims):
                    return
                changed.clear()
                await changed.wait()
    except TimeoutError:
        raise NotBound(f"binding volumes: context deadline exceeded after {_WAIT_SECONDS:g} s") from None
    finally:
        client.cache.unsubscribe("", "persistentvolumeclaims", heard)
