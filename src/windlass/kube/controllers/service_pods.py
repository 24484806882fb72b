"""Which pods a service leads to, and what of a pod's state decides that.

Source: https://kubernetes.io/docs/concepts/services-networking/service/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from windlass.kube.api.reader import Reader
from windlass.kube.api.resource import Object
from windlass.kube.controllers import pod_state

HEADLESS: Final = "service.kubernetes.io/headless"
TRIGGER: Final = "endpoints.kubernetes.io/last-change-trigger-time"

Key = tuple[str, ...]


def selects(service: Object) -> Mapping[str, str]:
    """The selector of a service whose endpoints a controller finds; empty where somebody else names them."""
    spec = service.get("spec") or {}
    return {} if spec.get("type") == "ExternalName" else spec.get("selector") or {}


def pods_of(cache: Reader, service: Object) -> list[Object]:
    """The pods that a service selects."""
    selector = selects(service).items()
    if not selector:
        return []
    found = cache.list("", "pods", service["metadata"]["namespace"])
    return [pod for pod in found if selector <= (pod["metadata"].get("labels") or {}).items()]


def is_headless(service: Object) -> bool:
    """Whether a service has no address of its own."""
    return (service.get("spec") or {}).get("clusterIP") in (None, "", "None")


def may_be_endpoint(pod: Object, *, terminating: bool) -> bool:
    """Whether a pod has an address and may still answer; `terminating`: also one that is being deleted."""
    status = pod.get("status") or {}
    if status.get("phase") in ("Failed", "Succeeded") or not (status.get("podIP") or status.get("podIPs")):
        return False
    return terminating or not pod["metadata"].get("deletionTimestamp")


def addresses_of(pod: Object) -> list[str]:
    """A pod's addresses, the primary one first."""
    status = pod.get("status") or {}
    found = [each.get("ip", "") for each in status.get("podIPs") or ()]
    return [each for each in found or [status.get("podIP", "")] if each]


def hostname_of(pod: Object, service: Object) -> str:
    """The name that a pod has below a headless service, "" if it has none."""
    spec = pod.get("spec") or {}
    return str(spec.get("hostname") or "") if spec.get("subdomain") == service["metadata"]["name"] else ""


def find_port(pod: Object, port: Mapping[str, Any]) -> int | None:
    """The number behind a service's port on a pod: its target, by number or by a container's name for it."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    spec = pod.get("spec") or {}
    sidecars = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for each in container.get("ports") or ():
            if each.get("name") == target and each.get("protocol", "TCP") == port.get("protocol", "TCP"):
                return int(each["containerPort"])
    return None


def last_ready_change(pods: Iterable[Object]) -> str:
    """When one of some pods became ready, or stopped to be, last."""
    return max(
        (
            each.get("lastTransitionTime") or ""
            for pod in pods
            for each in (pod.get("status") or {}).get("conditions") or ()
            if each.get("type") == "Ready"
        ),
        default="",
    )


class ServicesOfPods:
    """The services that a change of a pod concerns, also those that have just lost it.

    Changes that no service can see (a container's restart count, say) concern none.
    """

    def __init__(self, cache: Reader) -> None:
        self._cache = cache
        self._known: dict[Key, tuple[tuple[Any, ...], list[Key]]] = {}

    def __call__(self, pod: Object) -> Sequence[Key]:
        """The keys of services, for `Controller.watch`."""
        metadata, spec = pod["metadata"], pod.get("spec") or {}
        namespace, name = metadata["namespace"], metadata["name"]
        labels = metadata.get("labels") or {}
        visible = (
            metadata.get("uid"),
            labels,
            addresses_of(pod),
            pod_state.is_ready(pod),
            may_be_endpoint(pod, terminating=True),
            bool(metadata.get("deletionTimestamp")),
            (spec.get("nodeName"), spec.get("hostname"), spec.get("subdomain")),
        )
        before, lost = self._known.get((namespace, name), ((), []))
        is_gone = self._cache.get("", "pods", namespace, name) is None
        if visible == before and not is_gone:
            return ()
        services = self._cache.list("", "services", namespace)
        found: list[Key] = [
            (namespace, each["metadata"]["name"])
            for each in services
            if (selector := selects(each)) and selector.items() <= labels.items()
        ]
        if is_gone:
            self._known.pop((namespace, name), None)
        else:
            self._known[(namespace, name)] = (visible, found)
        return [*found, *lost]
