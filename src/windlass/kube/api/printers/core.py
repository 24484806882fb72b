"""The core group: pods first of all, whose status is a story told in one word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from windlass.kube.api import times
from windlass.kube.api.printers.cells import (
    AGE,
    NAME,
    NONE,
    UNKNOWN,
    UNSET,
    age,
    column,
    containers,
    get,
    name,
    number,
    pairs,
    printer,
    selector,
    since,
)
from windlass.kube.api.resource import Object, Printer

_UNREACHABLE = "NodeLost"


def _pod(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    statuses = status.get("containerStatuses") or ()
    sidecars = {
        each["name"]
        for each in spec.get("initContainers") or ()
        if each.get("restartPolicy") == "Always" and "name" in each
    }
    total = len(spec.get("containers") or ()) + len(sidecars)
    ready, restarts, last = 0, 0, 0.0
    reason = status.get("reason") or status.get("phase") or ""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"
    initializing = False
    for index, each in enumerate(status.get("initContainerStatuses") or ()):
        restarts += each.get("restartCount") or 0
        last = max(last, _finished(each))
        is_sidecar = each.get("name") in sidecars
        state = each.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if is_sidecar and each.get("ready"):
            ready += 1
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if is_sidecar and each.get("started"):
            continue
        if initializing:
            continue
        initializing = True
        if terminated is not None:
            reason = "Init:" + (terminated.get("reason") or _exit(terminated))
        elif waiting and waiting.get("reason") and waiting["reason"] != "PodInitializing":
            reason = f"Init:{waiting['reason']}"
        else:
            reason = f"Init:{index}/{len(spec.get('initContainers') or ())}"
    initialized = any(
        each.get("type") == "Initialized" and each.get("status") == "True" for each in status.get("conditions") or ()
    )
    if not initializing or initialized:
        has_running = False
        for each in reversed(statuses):
            restarts += each.get("restartCount") or 0
            last = max(last, _finished(each))
            state = each.get("state") or {}
            terminated, waiting = state.get("terminated"), state.get("waiting")
            if waiting and waiting.get("reason"):
                reason = waiting["reason"]
            elif terminated is not None:
                reason = terminated.get("reason") or _exit(terminated)
            elif each.get("ready") and state.get("running") is not None:
                has_running = True
                ready += 1
        if reason == "Completed" and has_running:
            is_ready = any(
                each.get("type") == "Ready" and each.get("status") == "True" for each in status.get("conditions") or ()
            )
            reason = "Running" if is_ready else "NotReady"
    else:
        for each in statuses:
            restarts += each.get("restartCount") or 0
    if obj["metadata"].get("deletionTimestamp"):
        if status.get("reason") == _UNREACHABLE:
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    shown = f"{restarts} ({times.human_duration(now - last)} ago)" if restarts and last else str(restarts)
    ips = status.get("podIPs") or ()
    gates = spec.get("readinessGates") or ()
    conditions = {each.get("type"): each.get("status") for each in status.get("conditions") or ()}
    met = sum(conditions.get(gate.get("conditionType")) == "True" for gate in gates)
    return [
        name(obj),
        f"{ready}/{total}",
        reason,
        shown,
        age(obj, now),
        ips[0].get("ip", NONE) if ips else status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        f"{met}/{len(gates)}" if gates else NONE,
    ]


def _exit(terminated: Mapping[str, Any]) -> str:
    return f"Signal:{terminated['signal']}" if terminated.get("signal") else f"ExitCode:{terminated.get('exitCode', 0)}"


def _finished(container: Mapping[str, Any]) -> float:
    text = get(container, "lastState", "terminated", "finishedAt")
    try:
        return times.parse_time(text) if text else 0.0
    except ValueError:
        return 0.0


POD = printer(
    [
        NAME,
        column("Ready", description="The aggregate readiness state of this pod for accepting traffic."),
        column("Status", description="The aggregate status of the containers in this pod."),
        column("Restarts", description="The number of times the containers in this pod have been restarted."),
        AGE,
        column("IP", wide=True),
        column("Node", wide=True),
        column("Nominated Node", wide=True),
        column("Readiness Gates", wide=True),
    ],
    _pod,
)


def _pod_template(obj: Object, now: float) -> list[Any]:
    names, images = containers(get(obj, "template", "spec"))
    return [name(obj), names, images, pairs(get(obj, "template", "metadata", "labels"))]


def _replication_controller(obj: Object, now: float) -> list[Any]:
    names, images = containers(get(obj, "spec", "template", "spec"))
    return [
        name(obj),
        number(obj, "spec", "replicas"),
        number(obj, "status", "replicas"),
        number(obj, "status", "readyReplicas"),
        age(obj, now),
        names,
        images,
        selector(get(obj, "spec", "selector")),
    ]


def _service(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    kind = spec.get("type") or "ClusterIP"
    addresses = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    ports = []
    for port in spec.get("ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        ports.append(f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}")
    return [
        name(obj),
        kind,
        addresses[0] if addresses else NONE,
        _external(obj, spec, kind),
        ",".join(ports) or NONE,
        age(obj, now),
        pairs(spec.get("selector")),
    ]


def _external(obj: Object, spec: Mapping[str, Any], kind: str) -> str:
    if kind == "ExternalName":
        return spec.get("externalName") or ""
    own = list(spec.get("externalIPs") or ())
    if kind != "LoadBalancer":
        return ",".join(own) or NONE
    found = [each.get("ip") or each.get("hostname") for each in get(obj, "status", "loadBalancer", "ingress") or ()]
    return ",".join([each for each in found if each] + own) or "<pending>"


def endpoints(subsets: Any) -> str:
    """The first few addresses of an Endpoints object."""
    found: list[str] = []
    for subset in subsets or ():
        addresses = [each.get("ip", "") for each in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        if not ports:
            found += addresses
        for port in ports:
            found += [f"[{ip}]:{port['port']}" if ":" in ip else f"{ip}:{port['port']}" for ip in addresses]
    if len(found) > 3:
        return f"{','.join(found[:3])} + {len(found) - 3} more..."
    return ",".join(found) or NONE


def _node(obj: Object, now: float) -> list[Any]:
    conditions = {each.get("type"): each.get("status") for each in get(obj, "status", "conditions") or ()}
    words = []
    if "Ready" in conditions:
        words.append({"True": "Ready", "Unknown": "NotReady"}.get(conditions["Ready"], "NotReady"))
    else:
        words.append("Unknown")
    if get(obj, "spec", "unschedulable"):
        words.append("SchedulingDisabled")
    roles = set()
    for label, value in (obj["metadata"].get("labels") or {}).items():
        if label.startswith("node-role.kubernetes.io/") and len(label) > 24:
            roles.add(label[24:])
        elif label == "kubernetes.io/role" and value:
            roles.add(value)
    addresses = {each.get("type"): each.get("address") for each in get(obj, "status", "addresses") or ()}
    info = get(obj, "status", "nodeInfo") or {}
    return [
        name(obj),
        ",".join(words),
        ",".join(sorted(roles)) or NONE,
        age(obj, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP") or NONE,
        addresses.get("ExternalIP") or NONE,
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _persistent_volume(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    claim = spec.get("claimRef")
    phase = "Terminating" if obj["metadata"].get("deletionTimestamp") else get(obj, "status", "phase") or ""
    return [
        name(obj),
        get(spec, "capacity", "storage") or "0",
        modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy") or "",
        phase,
        f"{claim.get('namespace')}/{claim.get('name')}" if claim else "",
        spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or UNSET,
        get(obj, "status", "reason") or "",
        age(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def modes(found: Any) -> str:
    """Access modes in their short form."""
    return ",".join(short for mode, short in _MODES.items() if mode in (found or ()))


def _claim(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    phase = "Terminating" if obj["metadata"].get("deletionTimestamp") else status.get("phase") or ""
    is_bound = bool(spec.get("volumeName"))
    return [
        name(obj),
        phase,
        spec.get("volumeName") or "",
        (get(status, "capacity", "storage") or "") if is_bound else "",
        modes(status.get("accessModes")) if is_bound else "",
        spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or UNSET,
        age(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


def _event(obj: Object, now: float) -> list[Any]:
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    series = obj.get("series")
    first = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    last = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp") or first
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    if series:
        last, count = series.get("lastObservedTime") or last, series.get("count") or count
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    shown = f"{component}, {host}" if host else component
    target = (
        f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"
        if about.get("name")
        else (str(about.get("kind", "")).lower())
    )
    return [
        since(last, now),
        obj.get("type") or "",
        obj.get("reason") or "",
        target,
        about.get("fieldPath") or "",
        shown,
        str(obj.get("message") or obj.get("note") or "").strip(),
        since(first, now),
        count,
        name(obj),
    ]


EVENT = printer(
    [
        "Last Seen",
        "Type",
        "Reason",
        "Object",
        column("Subobject", wide=True),
        column("Source", wide=True),
        "Message",
        column("First Seen", wide=True),
        column("Count", "integer", wide=True),
        column("Name", wide=True),
    ],
    _event,
)


def _quota(obj: Object, now: float) -> list[Any]:
    hard, used = get(obj, "status", "hard") or get(obj, "spec", "hard") or {}, get(obj, "status", "used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for resource in sorted(hard):
        text = f"{resource}: {used.get(resource, '0')}/{hard[resource]}"
        (limits if resource.startswith("limits.") else requests).append(text)
    return [name(obj), ", ".join(requests), ", ".join(limits), age(obj, now)]


def _component_status(obj: Object, now: float) -> list[Any]:
    found = (obj.get("conditions") or [{}])[0]
    healthy = "Healthy" if found.get("status") == "True" else "Unhealthy"
    return [name(obj), healthy, found.get("message", ""), found.get("error", "")]


def _phase(obj: Object, now: float) -> list[Any]:
    return [name(obj), get(obj, "status", "phase") or "", age(obj, now)]


def _secrets_of(obj: Object, now: float) -> list[Any]:
    return [name(obj), len(obj.get("secrets") or ()), age(obj, now)]


PRINTERS: Mapping[str, Printer] = {
    "Pod": POD,
    "PodTemplate": printer([NAME, "Containers", "Images", "Pod Labels"], _pod_template),
    "ReplicationController": printer(
        [
            NAME,
            column("Desired", "integer"),
            column("Current", "integer"),
            column("Ready", "integer"),
            AGE,
            column("Containers", wide=True),
            column("Images", wide=True),
            column("Selector", wide=True),
        ],
        _replication_controller,
    ),
    "Service": printer(
        [NAME, "Type", "Cluster-IP", "External-IP", "Port(s)", AGE, column("Selector", wide=True)], _service
    ),
    "Endpoints": printer(
        [NAME, "Endpoints", AGE], lambda obj, now: [name(obj), endpoints(obj.get("subsets")), age(obj, now)]
    ),
    "Node": printer(
        [
            NAME,
            "Status",
            "Roles",
            AGE,
            "Version",
            *(
                column(each, wide=True)
                for each in ("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime")
            ),
        ],
        _node,
    ),
    "Namespace": printer([NAME, "Status", AGE], _phase),
    "Secret": printer(
        [NAME, "Type", column("Data", "integer"), AGE],
        lambda obj, now: [name(obj), obj.get("type", ""), len(obj.get("data") or ()), age(obj, now)],
    ),
    "ConfigMap": printer(
        [NAME, column("Data", "integer"), AGE],
        lambda obj, now: [name(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), age(obj, now)],
    ),
    "ServiceAccount": printer([NAME, column("Secrets", "integer"), AGE], _secrets_of),
    "PersistentVolume": printer(
        [
            NAME,
            "Capacity",
            "Access Modes",
            "Reclaim Policy",
            "Status",
            "Claim",
            "StorageClass",
            "VolumeAttributesClass",
            "Reason",
            AGE,
            column("VolumeMode", wide=True),
        ],
        _persistent_volume,
    ),
    "PersistentVolumeClaim": printer(
        [
            NAME,
            "Status",
            "Volume",
            "Capacity",
            "Access Modes",
            "StorageClass",
            "VolumeAttributesClass",
            AGE,
            column("VolumeMode", wide=True),
        ],
        _claim,
    ),
    "Event": EVENT,
    "ResourceQuota": printer([NAME, "Request", "Limit", AGE], _quota),
    "LimitRange": printer(
        [NAME, column("Created At")], lambda obj, now: [name(obj), obj["metadata"].get("creationTimestamp")]
    ),
    "ComponentStatus": printer([NAME, "Status", "Message", "Error"], _component_status),
}
