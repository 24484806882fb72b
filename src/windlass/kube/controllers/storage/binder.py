"""persistentvolume-binder: claims get their volumes, made where that is needed; volumes whose claim is gone go, too.

    claim ─▶ a volume that suits, or one that is made: a directory below the data of the node on which the pod will be
    volume ─▶ Available ─▶ Bound ─▶ Released ─▶ deleted, where its policy says so

The directory is made by the node's agent when a pod first uses it, and removed by it when the volume is deleted.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#lifecycle-of-a-volume-and-claim
"""

from __future__ import annotations

from typing import Final

from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import Client
from windlass.kube.controllers.events import NORMAL, WARNING, EventRecorder
from windlass.kube.controllers.runner import Controller, Key
from windlass.kube.controllers.storage import matching
from windlass.kube.node.storage import NODE, PROVISIONED_BY, PROVISIONER, STORAGE_PATH

_CLAIMS, _VOLUMES = "persistentvolumeclaims", "persistentvolumes"
_SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
_BOUND: Final = "pv.kubernetes.io/bound-by-controller"
_COMPLETED: Final = "pv.kubernetes.io/bind-completed"
_WAITS: Final = "WaitForFirstConsumer"


class PersistentVolumeBinder(Controller):
    """See the module. Keys are ("claim", namespace, name) and ("volume", name)."""

    name = "persistent-volume-binder"

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._recorder = EventRecorder(self.client, "persistentvolume-controller")

    def subscribe(self) -> None:
        """See `Controller`."""
        self.listen("", _CLAIMS, self._claim_changed)
        self.listen("", _VOLUMES, self._volume_changed)
        self.watch("storage.k8s.io", "storageclasses", lambda _: self._pending())

    def _claim_changed(self, event: str, claim: Object) -> None:
        del event
        metadata = claim["metadata"]
        self.queue.add(("claim", metadata["namespace"], metadata["name"]))
        if volume := claim["spec"].get("volumeName"):
            self.queue.add(("volume", volume))

    def _volume_changed(self, event: str, volume: Object) -> None:
        del event
        self.queue.add(("volume", volume["metadata"]["name"]))
        reference = volume["spec"].get("claimRef")
        if reference is not None:
            self.queue.add(("claim", reference["namespace"], reference["name"]))
        else:
            for key in self._pending():
                self.queue.add(key)

    def _pending(self) -> list[Key]:
        """Claims that wait for a volume."""
        return [
            ("claim", each["metadata"]["namespace"], each["metadata"]["name"])
            for each in self.cache.list("", _CLAIMS)
            if (each.get("status") or {}).get("phase") != "Bound"
        ]

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        if key[0] == "volume":
            volume = self.cache.get("", _VOLUMES, "", key[1])
            if volume is not None:
                await self._look_after(volume)
            return None
        claim = self.cache.get("", _CLAIMS, key[1], key[2])
        if claim is not None and not claim["metadata"].get("deletionTimestamp"):
            await self._serve(claim)
        return None

    # Claims ----------------------------------------------------------------------------------------------------------

    async def _serve(self, claim: Object) -> None:
        name = claim["spec"].get("volumeName")
        if name:
            await self._complete(claim, name)
            return
        node, waits = self._node_of(claim)
        found = matching.find(claim, self.cache.list("", _VOLUMES), node)
        if found is not None and (not waits or node is not None or matching.is_for(found, claim)):
            await self._bind(found, claim)
        elif waits and node is None:
            message = "waiting for first consumer to be created before binding"
            self._recorder.event(claim, NORMAL, _WAITS, message)
        else:
            await self._provision(claim, node)

    def _node_of(self, claim: Object) -> tuple[Object | None, bool]:
        """The node that the scheduler has chosen, and whether the claim waits for that."""
        selected = (claim["metadata"].get("annotations") or {}).get(_SELECTED_NODE, "")
        node = self.cache.get("", "nodes", "", selected) if selected else None
        storage_class = self._class_of(claim)
        return node, storage_class is not None and storage_class.get("volumeBindingMode") == _WAITS

    def _class_of(self, claim: Object) -> Object | None:
        name = matching.class_of(claim)
        return self.cache.get("storage.k8s.io", "storageclasses", "", name) if name else None

    async def _complete(self, claim: Object, name: str) -> None:
        """A claim names its volume: bind the other side, or say that it is lost."""
        volume = self.cache.get("", _VOLUMES, "", name)
        is_bound = _COMPLETED in (claim["metadata"].get("annotations") or {})
        if volume is not None and (volume["spec"].get("claimRef") is None or matching.is_for(volume, claim)):
            await self._bind(volume, claim)
        elif is_bound and (claim.get("status") or {}).get("phase") != "Lost":
            await self.write_status("", _CLAIMS, claim, {**(claim.get("status") or {}), "phase": "Lost"})
            message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
            self._recorder.event(claim, WARNING, "ClaimLost", message)

    async def _bind(self, volume: Object, claim: Object) -> None:
        """Both sides, the volume first: a crash in between is completed by the next look."""
        metadata = claim["metadata"]
        reference = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        if (volume["spec"].get("claimRef") or {}).get("uid") != metadata["uid"]:
            is_ours = volume["spec"].get("claimRef") is None

            def reserve(live: Object) -> None:
                if live["spec"].get("claimRef") is not None and not matching.is_for(live, claim):
                    return  # another claim was faster: seen at the next look
                live["spec"]["claimRef"] = reference
                if is_ours:
                    live["metadata"].setdefault("annotations", {})[_BOUND] = "yes"

            volume = await self.client.update("", _VOLUMES, "", volume["metadata"]["name"], reserve)
            if not matching.is_for(volume, claim):
                self.queue.add(("claim", metadata["namespace"], metadata["name"]))
                return
        await self._set_phase(volume, "Bound")
        annotations = metadata.get("annotations") or {}
        if claim["spec"].get("volumeName") != volume["metadata"]["name"] or _COMPLETED not in annotations:
            chosen_here = not claim["spec"].get("volumeName")

            def name(live: Object) -> None:
                live["spec"]["volumeName"] = volume["metadata"]["name"]
                live["metadata"].setdefault("annotations", {})[_COMPLETED] = "yes"
                if chosen_here:
                    live["metadata"]["annotations"][_BOUND] = "yes"

            claim = await self.client.update("", _CLAIMS, metadata["namespace"], metadata["name"], name)
        status = {
            **(claim.get("status") or {}),
            "phase": "Bound",
            "accessModes": volume["spec"].get("accessModes") or [],
            "capacity": volume["spec"].get("capacity") or {},
        }
        await self.write_status("", _CLAIMS, claim, status)

    async def _provision(self, claim: Object, node: Object | None) -> None:
        storage_class = self._class_of(claim)
        if storage_class is None:
            if matching.class_of(claim):
                message = f'storageclass.storage.k8s.io "{matching.class_of(claim)}" not found'
                self._recorder.event(claim, WARNING, "ProvisioningFailed", message)
            else:
                message = "no persistent volumes available for this claim and no storage class is set"
                self._recorder.event(claim, NORMAL, "FailedBinding", message)
            return
        provisioner = storage_class["provisioner"]
        if provisioner == "kubernetes.io/no-provisioner":
            message = "storageclass has no provisioner: a PersistentVolume that suits has to be made"
            self._recorder.event(claim, NORMAL, "FailedBinding", message)
            return
        if provisioner != PROVISIONER:
            await self._leave_to(provisioner, claim)
            return
        if node is None:
            message = "a directory of a node needs volumeBindingMode WaitForFirstConsumer"
            self._recorder.event(claim, WARNING, "ProvisioningFailed", message)
            return
        if strange := set(claim["spec"].get("accessModes") or ()) - {"ReadWriteOnce", "ReadWriteOncePod"}:
            message = f"a directory of a node cannot be {', '.join(sorted(strange))}: ReadWriteOnce is what it can"
            self._recorder.event(claim, WARNING, "ProvisioningFailed", message)
            return
        volume = _directory(claim, storage_class, node)
        try:
            made = await self.client.create("", _VOLUMES, volume)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                self._recorder.event(claim, WARNING, "ProvisioningFailed", error.message)
                raise
            made = await self.client.get("", _VOLUMES, "", volume["metadata"]["name"])
        message = f"Successfully provisioned volume {made['metadata']['name']}"
        self._recorder.event(claim, NORMAL, "ProvisioningSucceeded", message)
        await self._bind(made, claim)

    async def _leave_to(self, provisioner: str, claim: Object) -> None:
        """Somebody else makes volumes of this class: tell them."""
        metadata = claim["metadata"]

        def mark(live: Object) -> None:
            for name in ("volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"):
                live["metadata"].setdefault("annotations", {})[name] = provisioner

        await self.client.update("", _CLAIMS, metadata["namespace"], metadata["name"], mark)
        message = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by "
            "the system administrator. If volume creation is delayed, please verify that the provisioner is running "
            "and correctly registered."
        )
        self._recorder.event(claim, NORMAL, "ExternalProvisioning", message)

    # Volumes ---------------------------------------------------------------------------------------------------------

    async def _look_after(self, volume: Object) -> None:
        reference = volume["spec"].get("claimRef")
        if reference is None or not reference.get("uid"):
            if not volume["metadata"].get("deletionTimestamp"):
                await self._set_phase(volume, "Available")
            return
        claim = await self.client.find("", _CLAIMS, reference["namespace"], reference["name"])
        if claim is not None and claim["metadata"]["uid"] == reference["uid"]:
            return
        await self._set_phase(volume, "Released")
        if volume["spec"].get("persistentVolumeReclaimPolicy") != "Delete":
            return
        provisioner = (volume["metadata"].get("annotations") or {}).get(PROVISIONED_BY)
        if provisioner == PROVISIONER and not volume["metadata"].get("deletionTimestamp"):
            metadata = volume["metadata"]
            await self.client.delete("", _VOLUMES, "", metadata["name"], uid=metadata["uid"])

    async def _set_phase(self, volume: Object, phase: str) -> None:
        await self.write_status("", _VOLUMES, volume, {**(volume.get("status") or {}), "phase": phase})


def _directory(claim: Object, storage_class: Object, node: Object) -> Object:
    """A volume that is a directory of a node."""
    metadata = claim["metadata"]
    name = f"pvc-{metadata['uid']}"
    root = (node["metadata"].get("annotations") or {}).get(STORAGE_PATH, "/var/lib/windlass/agent/storage")
    hostname = (node["metadata"].get("labels") or {}).get("kubernetes.io/hostname", node["metadata"]["name"])
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [hostname]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {PROVISIONED_BY: PROVISIONER, NODE: node["metadata"]["name"]},
        },
        "spec": {
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
            "storageClassName": storage_class["metadata"]["name"],
            "volumeMode": claim["spec"].get("volumeMode") or "Filesystem",
            "hostPath": {
                "path": f"{root}/{name}_{metadata['namespace']}_{metadata['name']}",
                "type": "DirectoryOrCreate",
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        },
    }
