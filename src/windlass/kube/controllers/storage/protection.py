"""Claims and volumes that are in use do not go before they are not.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.controllers import pod_state
from windlass.kube.controllers.runner import Controller, Key

_CLAIM_FINALIZER: Final = "kubernetes.io/pvc-protection"
_VOLUME_FINALIZER: Final = "kubernetes.io/pv-protection"


class _Protection(Controller):
    plural = ""
    finalizer = ""

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        obj = self.cache.get("", self.plural, *key)
        if (
            obj is None
            or not obj["metadata"].get("deletionTimestamp")
            or self.finalizer not in (obj["metadata"].get("finalizers") or ())
            or self.is_used(obj)
        ):
            return None

        def release(live: Object) -> None:
            finalizers = live["metadata"].get("finalizers") or ()
            live["metadata"]["finalizers"] = [each for each in finalizers if each != self.finalizer]

        try:
            await self.client.update("", self.plural, key[0], key[1], release)
        except StatusError as error:
            if error.code != 404:
                raise
        return None

    def is_used(self, obj: Object) -> bool:
        """Whether it must not go yet."""
        raise NotImplementedError


class ClaimProtectionController(_Protection):
    """See the module."""

    name = "pvc-protection-controller"
    plural = "persistentvolumeclaims"
    finalizer = _CLAIM_FINALIZER

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch("", self.plural)
        self.watch("", "pods", _claims_as_keys)

    def is_used(self, obj: Object) -> bool:
        """See `_Protection`."""
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        return any(
            not pod_state.is_over(pod) and pod["spec"].get("nodeName") and name in pod_state.claims_of(pod)
            for pod in self.cache.list("", "pods", namespace)
        )


class VolumeProtectionController(_Protection):
    """See the module."""

    name = "pv-protection-controller"
    plural = "persistentvolumes"
    finalizer = _VOLUME_FINALIZER

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch("", self.plural)

    def is_used(self, obj: Object) -> bool:
        """See `_Protection`."""
        return (obj.get("status") or {}).get("phase") == "Bound"


def _claims_as_keys(pod: Object) -> Iterable[Key]:
    return [(pod["metadata"]["namespace"], name) for name in pod_state.claims_of(pod)]
