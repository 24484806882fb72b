"""The defaults of a pod's spec, wherever one stands.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]

_DEFAULT_MODE = 0o644
_GRACE_SECONDS = 30
_TOKEN_SECONDS = 3600


def default_pod_spec(spec: Spec) -> None:
    """Fill in what a template and a pod share."""
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("restartPolicy", "Always")
    host_network = spec.get("hostNetwork", False)
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", _GRACE_SECONDS)
    spec.setdefault("schedulerName", "default-scheduler")
    if account := spec.get("serviceAccountName"):
        spec["serviceAccount"] = account
    elif account := spec.get("serviceAccount"):
        spec["serviceAccountName"] = account
    for volume in spec.get("volumes") or ():
        _default_volume(volume)
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            default_container(container)
            if host_network:
                for port in container.get("ports") or ():
                    if "hostPort" not in port and "containerPort" in port:
                        port["hostPort"] = port["containerPort"]


def default_pod(spec: Spec) -> None:
    """Fill in what only a pod itself gets."""
    spec.setdefault("enableServiceLinks", True)
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            resources = container.get("resources")
            limits = resources.get("limits") if resources else None
            if limits:
                requests = resources.setdefault("requests", {})
                for name, value in limits.items():
                    requests.setdefault(name, value)
    if (resources := spec.get("resources")) and (limits := resources.get("limits")):
        requests = resources.setdefault("requests", {})
        for name, value in limits.items():
            requests.setdefault(name, value)


def default_container(container: Spec) -> None:
    """Fill in one container."""
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("resources", {})
    if "imagePullPolicy" not in container:
        container["imagePullPolicy"] = "Always" if _is_latest(container.get("image", "")) else "IfNotPresent"
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
    for variable in container.get("env") or ():
        source = variable.get("valueFrom")
        if source and (reference := source.get("fieldRef")):
            reference.setdefault("apiVersion", "v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe := container.get(name):
            probe.setdefault("timeoutSeconds", 1)
            probe.setdefault("periodSeconds", 10)
            probe.setdefault("successThreshold", 1)
            probe.setdefault("failureThreshold", 3)
            _default_action(probe)
    if lifecycle := container.get("lifecycle"):
        for handler in lifecycle.values():
            if isinstance(handler, dict):
                _default_action(handler)


def _default_action(handler: Spec) -> None:
    if (action := handler.get("httpGet")) is not None:
        action.setdefault("path", "/")
        action.setdefault("scheme", "HTTP")
    if (action := handler.get("grpc")) is not None:
        action.setdefault("service", "")


def _is_latest(image: str) -> bool:
    """Whether an image's reference names no tag, or the tag that moves."""
    if "@" in image:
        return False
    tag = image.rpartition("/")[2].partition(":")[2]
    return tag in ("", "latest")


def _default_volume(volume: Spec) -> None:
    if len(volume) <= 1:
        volume["emptyDir"] = {}
    for name in ("secret", "configMap", "downwardAPI", "projected"):
        if (source := volume.get(name)) is not None:
            source.setdefault("defaultMode", _DEFAULT_MODE)
    if (source := volume.get("downwardAPI")) is not None:
        _default_items(source.get("items"))
    if (source := volume.get("projected")) is not None:
        for each in source.get("sources") or ():
            if (token := each.get("serviceAccountToken")) is not None:
                token.setdefault("expirationSeconds", _TOKEN_SECONDS)
            if (downward := each.get("downwardAPI")) is not None:
                _default_items(downward.get("items"))
    if (source := volume.get("hostPath")) is not None:
        source.setdefault("type", "")
    if (source := volume.get("ephemeral")) is not None:
        claim = (source.get("volumeClaimTemplate") or {}).get("spec")
        if claim is not None:
            claim.setdefault("volumeMode", "Filesystem")
    if (source := volume.get("image")) is not None and "pullPolicy" not in source:
        source["pullPolicy"] = "Always" if _is_latest(source.get("reference", "")) else "IfNotPresent"


def _default_items(items: Any) -> None:
    for item in items or ():
        if reference := item.get("fieldRef"):
            reference.setdefault("apiVersion", "v1")
