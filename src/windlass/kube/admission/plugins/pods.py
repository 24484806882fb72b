"""What is set in pods: priority, tolerations, runtime overhead, pull policies."""

from __future__ import annotations

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.admission.chain import Plugin
from windlass.kube.api import status
from windlass.kube.api.reader import Object, Reader

_UNTOLERATED_SECONDS = 300
_NOT_READY, _UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"


class _NewPods(Plugin):
    """Looks at new pods."""

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """See `Plugin.handles`."""
        return (group, resource, subresource, operation) == ("", "pods", "", "CREATE")


class Priority(Plugin):
    """A pod's priority class becomes its number; one class may be the default.

    Source: https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
    """

    name = "Priority"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """New pods, and priority classes."""
        if subresource:
            return False
        if (group, resource) == ("", "pods"):
            return operation == "CREATE"
        return (group, resource) == ("scheduling.k8s.io", "priorityclasses") and operation in ("CREATE", "UPDATE")

    def mutate(self, request: AdmissionRequest) -> None:
        """Set a pod's priority."""
        if request.resource.plural != "pods":
            return
        spec = request.target["spec"]
        name = spec.get("priorityClassName") or ""
        value, policy = 0, "PreemptLowerPriority"
        if name:
            found = self._reader.get("scheduling.k8s.io", "priorityclasses", "", name)
            if found is None:
                raise status.forbidden("pods", "", request.name, f"no PriorityClass with name {name} was found")
            value, policy = found.get("value", 0), found.get("preemptionPolicy") or policy
        elif (found := self._default()) is not None:
            spec["priorityClassName"] = found["metadata"]["name"]
            value, policy = found.get("value", 0), found.get("preemptionPolicy") or policy
        if spec.get("priority") not in (None, value):
            why = (
                f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; priority "
                f"admission controller computed {value} from the given PriorityClass name"
            )
            raise status.forbidden("pods", "", request.name, why)
        if spec.get("preemptionPolicy") not in (None, policy):
            why = (
                f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod spec; "
                f"priority admission controller computed {policy} from the given PriorityClass name"
            )
            raise status.forbidden("pods", "", request.name, why)
        spec["priority"], spec["preemptionPolicy"] = value, policy

    def validate(self, request: AdmissionRequest) -> None:
        """One default class at most."""
        if request.resource.plural != "priorityclasses" or not request.target.get("globalDefault"):
            return
        found = self._default()
        if found is not None and found["metadata"]["name"] != request.name:
            why = f"PriorityClass {found['metadata']['name']} is already marked as default. Only one default can exist"
            raise status.forbidden("priorityclasses", "scheduling.k8s.io", request.name, why)

    def _default(self) -> Object | None:
        found = [
            each for each in self._reader.list("scheduling.k8s.io", "priorityclasses") if each.get("globalDefault")
        ]
        return min(found, key=lambda each: each.get("value", 0)) if found else None


class DefaultTolerationSeconds(_NewPods):
    """A pod tolerates a node that is not ready, or not reachable, for five minutes."""

    name = "DefaultTolerationSeconds"

    def mutate(self, request: AdmissionRequest) -> None:
        """Add the tolerations that are not there."""
        spec = request.target["spec"]
        tolerations = spec.get("tolerations") or []
        for key in (_NOT_READY, _UNREACHABLE):
            if not any(
                each.get("key") in (key, None, "") and each.get("effect") in ("NoExecute", None, "")
                for each in tolerations
            ):
                tolerations.append(
                    {
                        "key": key,
                        "operator": "Exists",
                        "effect": "NoExecute",
                        "tolerationSeconds": _UNTOLERATED_SECONDS,
                    }
                )
        if tolerations:
            spec["tolerations"] = tolerations


class RuntimeClass(_NewPods):
    """A pod's runtime class says what it costs beside its containers, and where it may run."""

    name = "RuntimeClass"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def mutate(self, request: AdmissionRequest) -> None:
        """Set overhead and placement."""
        spec = request.target["spec"]
        found = self._class(request)
        if found is None:
            return
        if (overhead := (found.get("overhead") or {}).get("podFixed")) is not None:
            if spec.get("overhead") not in (None, overhead):
                why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
                raise status.forbidden("pods", "", request.name, why)
            spec["overhead"] = dict(overhead)
        scheduling = found.get("scheduling") or {}
        selector = spec.get("nodeSelector") or {}
        for key, value in (scheduling.get("nodeSelector") or {}).items():
            if selector.get(key, value) != value:
                why = f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}"
                raise status.forbidden("pods", "", request.name, why)
            selector[key] = value
        if selector:
            spec["nodeSelector"] = selector
        if added := [
            each for each in scheduling.get("tolerations") or () if each not in (spec.get("tolerations") or [])
        ]:
            spec["tolerations"] = [*(spec.get("tolerations") or []), *added]

    def validate(self, request: AdmissionRequest) -> None:
        """Overhead comes from a class alone."""
        if self._class(request) is None and request.target["spec"].get("overhead"):
            why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise status.forbidden("pods", "", request.name, why)

    def _class(self, request: AdmissionRequest) -> Object | None:
        name = request.target["spec"].get("runtimeClassName")
        if not name:
            return None
        found = self._reader.get("node.k8s.io", "runtimeclasses", "", name)
        if found is None:
            raise status.forbidden("pods", "", request.name, f'pod rejected: RuntimeClass "{name}" not found')
        return found


class AlwaysPullImages(_NewPods):
    """Nobody uses an image that they could not pull themselves."""

    name = "AlwaysPullImages"

    def mutate(self, request: AdmissionRequest) -> None:
        """Set every container's pull policy."""
        spec = request.target["spec"]
        for kind in ("initContainers", "containers", "ephemeralContainers"):
            for container in spec.get(kind) or ():
                container["imagePullPolicy"] = "Always"
