"""ephemeral-volume-controller: claims that pods bring along and that go with them.

Source: https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#generic-ephemeral-volumes
"""

from __future__ import annotations

from windlass.kube.api import objects
from windlass.kube.client import Client
from windlass.kube.controllers import pod_state
from windlass.kube.controllers.events import WARNING, EventRecorder
from windlass.kube.controllers.ownership import controller_of, owner_reference
from windlass.kube.controllers.runner import Controller, Key


class EphemeralVolumeController(Controller):
    """See the module. Keys are pods."""

    name = "ephemeral-volume-controller"

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._recorder = EventRecorder(self.client, "ephemeral_volume")

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch("", "pods")

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        pod = self.cache.get("", "pods", *key)
        if pod is None or not pod_state.is_active(pod):
            return None
        for volume in pod["spec"].get("volumes") or ():
            template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
            if template is None:
                continue
            name = f"{key[1]}-{volume['name']}"
            there = await self.client.find("", "persistentvolumeclaims", key[0], name)
            if there is not None:
                if (controller_of(there) or {}).get("uid") != pod["metadata"]["uid"]:
                    message = f'PVC "{key[0]}/{name}" was not created for pod "{key[0]}/{key[1]}" (pod is not owner)'
                    self._recorder.event(pod, WARNING, "FailedToCreatePersistentVolumeClaim", message)
                continue
            metadata = template.get("metadata") or {}
            claim = {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": name,
                    "namespace": key[0],
                    "labels": dict(metadata.get("labels") or {}),
                    "annotations": dict(metadata.get("annotations") or {}),
                    "ownerReferences": [owner_reference(pod)],
                },
                "spec": objects.copy(template["spec"]),
            }
            await self.client.create("", "persistentvolumeclaims", claim)
        return None
