"""The groups of configuration: networking, storage, rbac, scheduling, extension and the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from windlass.kube.api.printers.cells import (
    AGE,
    CREATED_AT,
    NAME,
    NONE,
    UNSET,
    age,
    column,
    condition,
    get,
    joined,
    name,
    printer,
    selector,
)
from windlass.kube.api.printers.core import EVENT
from windlass.kube.api.resource import Object, Printer


def _ingress(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    hosts = [rule["host"] for rule in spec.get("rules") or () if rule.get("host")]
    shown = ",".join(hosts[:3]) + (f" + {len(hosts) - 3} more..." if len(hosts) > 3 else "") if hosts else "*"
    addresses = [each.get("ip") or each.get("hostname") for each in get(obj, "status", "loadBalancer", "ingress") or ()]
    ports = "80, 443" if spec.get("tls") else "80"
    return [
        name(obj),
        spec.get("ingressClassName") or NONE,
        shown,
        ",".join(each for each in addresses if each),
        ports,
        age(obj, now),
    ]


def _ingress_class(obj: Object, now: float) -> list[Any]:
    found = get(obj, "spec", "parameters")
    shown = NONE
    if found:
        group = f".{found['apiGroup']}" if found.get("apiGroup") else ""
        shown = f"{found.get('kind')}{group}/{found.get('name')}"
    return [name(obj), get(obj, "spec", "controller") or "", shown, age(obj, now)]


def _endpoint_slice(obj: Object, now: float) -> list[Any]:
    ports = []
    for each in obj.get("ports") or ():
        ports.append(str(each.get("port")) if each.get("port") is not None else each.get("name") or "*")
    addresses = [address for each in obj.get("endpoints") or () for address in each.get("addresses") or ()]
    shown = ",".join(addresses[:3]) + (f" + {len(addresses) - 3} more..." if len(addresses) > 3 else "")
    return [
        name(obj),
        obj.get("addressType", ""),
        ",".join(ports[:3]) if ports else UNSET,
        shown if addresses else UNSET,
        age(obj, now),
    ]


def _subjects(obj: Object, kind: str) -> str:
    found = []
    for each in obj.get("subjects") or ():
        if each.get("kind") == kind:
            found.append(f"{each.get('namespace')}/{each['name']}" if kind == "ServiceAccount" else each["name"])
    return ", ".join(found)


def _binding(obj: Object, now: float) -> list[Any]:
    reference = obj.get("roleRef") or {}
    return [
        name(obj),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        age(obj, now),
        _subjects(obj, "User"),
        _subjects(obj, "Group"),
        _subjects(obj, "ServiceAccount"),
    ]


_BINDING = printer(
    [
        NAME,
        "Role",
        AGE,
        column("Users", wide=True),
        column("Groups", wide=True),
        column("ServiceAccounts", wide=True),
    ],
    _binding,
)


def _storage_class(obj: Object, now: float) -> list[Any]:
    annotations = obj["metadata"].get("annotations") or {}
    default = any(
        annotations.get(f"storageclass.{prefix}kubernetes.io/is-default-class") == "true" for prefix in ("", "beta.")
    )
    return [
        name(obj) + (" (default)" if default else ""),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


def _csi_driver(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    tokens = [each.get("audience", "") for each in spec.get("tokenRequests") or ()]
    return [
        name(obj),
        spec.get("attachRequired", True),
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        ",".join(tokens) or UNSET,
        bool(spec.get("requiresRepublish")),
        joined(spec.get("volumeLifecycleModes")),
        age(obj, now),
    ]


def _attachment(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    return [
        name(obj),
        spec.get("attacher", ""),
        get(spec, "source", "persistentVolumeName") or "",
        spec.get("nodeName", ""),
        bool(get(obj, "status", "attached")),
        age(obj, now),
    ]


def _signing_request(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    seconds = spec.get("expirationSeconds")
    from windlass.kube.api.times import human_duration

    words = []
    if condition(obj, "Denied"):
        words.append("Denied")
    elif condition(obj, "Approved"):
        words.append("Approved")
    else:
        words.append("Pending")
    if condition(obj, "Failed"):
        words.append("Failed")
    if get(obj, "status", "certificate"):
        words.append("Issued")
    return [
        name(obj),
        age(obj, now),
        spec.get("signerName") or NONE,
        spec.get("username", ""),
        NONE if seconds is None else human_duration(seconds),
        ",".join(words),
    ]


def _lease(obj: Object, now: float) -> list[Any]:
    return [name(obj), get(obj, "spec", "holderIdentity") or "", age(obj, now)]


def _priority_class(obj: Object, now: float) -> list[Any]:
    return [
        name(obj),
        obj.get("value", 0),
        bool(obj.get("globalDefault")),
        age(obj, now),
        obj.get("preemptionPolicy") or "PreemptLowerPriority",
    ]


def _webhooks(obj: Object, now: float) -> list[Any]:
    return [name(obj), len(obj.get("webhooks") or ()), age(obj, now)]


def _flow_schema(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    dangling = condition(obj, "Dangling") or "?"
    return [
        name(obj),
        get(spec, "priorityLevelConfiguration", "name") or NONE,
        spec.get("matchingPrecedence", 0),
        get(spec, "distinguisherMethod", "type") or NONE,
        age(obj, now),
        dangling,
    ]


def _priority_level(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    limited = spec.get("limited") or {}
    queuing = get(limited, "limitResponse", "queuing") or {}
    shares = limited.get("nominalConcurrencyShares")
    return [
        name(obj),
        spec.get("type", ""),
        NONE if shares is None else str(shares),
        str(queuing.get("queues", NONE)),
        str(queuing.get("handSize", NONE)),
        str(queuing.get("queueLengthLimit", NONE)),
        age(obj, now),
    ]


def _admission_policy(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    kind = spec.get("paramKind")
    shown = f"{kind.get('apiVersion')}/{kind.get('kind')}" if kind else UNSET
    return [name(obj), len(spec.get("validations") or spec.get("mutations") or ()), shown, age(obj, now)]


def _admission_binding(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    reference = spec.get("paramRef")
    shown = UNSET
    if reference:
        prefix = f"{reference['namespace']}/" if reference.get("namespace") else ""
        shown = prefix + reference["name"] if reference.get("name") else "<selector>"
    return [name(obj), spec.get("policyName", ""), shown, age(obj, now)]


def _api_service(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    service = spec.get("service")
    available = next((each for each in get(obj, "status", "conditions") or () if each.get("type") == "Available"), None)
    shown = "Unknown"
    if available is not None:
        shown = available["status"]
        if shown != "True":
            shown = f"{shown} ({available.get('reason', '')})"
    return [name(obj), f"{service['namespace']}/{service['name']}" if service else "Local", shown, age(obj, now)]


def _ip_address(obj: Object, now: float) -> list[Any]:
    parent = get(obj, "spec", "parentRef") or {}
    group = f".{parent['group']}" if parent.get("group") else ""
    where = f"{parent['namespace']}/" if parent.get("namespace") else ""
    return [name(obj), f"{parent.get('resource', '')}{group}/{where}{parent.get('name', '')}"]


def _claim_state(obj: Object, now: float) -> list[Any]:
    states = []
    if obj["metadata"].get("deletionTimestamp"):
        states.append("deleted")
    if get(obj, "status", "allocation") is None:
        states.append("pending" if not states else "")
    else:
        states += ["allocated", "reserved"] if get(obj, "status", "reservedFor") else ["allocated"]
    return [name(obj), ",".join(each for each in states if each), age(obj, now)]


def _slice(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    return [
        name(obj),
        spec.get("nodeName") or NONE,
        spec.get("driver", ""),
        get(spec, "pool", "name") or "",
        age(obj, now),
    ]


PRINTERS: Mapping[str, Printer] = {
    "Ingress": printer([NAME, "Class", "Hosts", "Address", "Ports", AGE], _ingress),
    "IngressClass": printer([NAME, "Controller", "Parameters", AGE], _ingress_class),
    "NetworkPolicy": printer(
        [NAME, "Pod-Selector", AGE],
        lambda obj, now: [name(obj), selector(get(obj, "spec", "podSelector")), age(obj, now)],
    ),
    "EndpointSlice": printer([NAME, "AddressType", "Ports", "Endpoints", AGE], _endpoint_slice),
    "ServiceCIDR": printer(
        [NAME, "CIDRs", AGE], lambda obj, now: [name(obj), joined(get(obj, "spec", "cidrs")), age(obj, now)]
    ),
    "IPAddress": printer([NAME, "ParentRef"], _ip_address),
    "Role": CREATED_AT,
    "ClusterRole": CREATED_AT,
    "RoleBinding": _BINDING,
    "ClusterRoleBinding": _BINDING,
    "StorageClass": printer(
        [
            NAME,
            "Provisioner",
            "ReclaimPolicy",
            "VolumeBindingMode",
            column("AllowVolumeExpansion", "boolean"),
            AGE,
        ],
        _storage_class,
    ),
    "CSIDriver": printer(
        [
            NAME,
            column("AttachRequired", "boolean"),
            column("PodInfoOnMount", "boolean"),
            column("StorageCapacity", "boolean"),
            "TokenRequests",
            column("RequiresRepublish", "boolean"),
            "Modes",
            AGE,
        ],
        _csi_driver,
    ),
    "CSINode": printer(
        [NAME, column("Drivers", "integer"), AGE],
        lambda obj, now: [name(obj), len(get(obj, "spec", "drivers") or ()), age(obj, now)],
    ),
    "CSIStorageCapacity": printer(
        [NAME, "StorageClassName", "Capacity"],
        lambda obj, now: [name(obj), obj.get("storageClassName", ""), str(obj.get("capacity") or UNSET)],
    ),
    "VolumeAttachment": printer([NAME, "Attacher", "PV", "Node", column("Attached", "boolean"), AGE], _attachment),
    "VolumeAttributesClass": printer(
        [NAME, "DriverName", AGE], lambda obj, now: [name(obj), obj.get("driverName", ""), age(obj, now)]
    ),
    "CertificateSigningRequest": printer(
        [NAME, AGE, "SignerName", "Requestor", "RequestedDuration", "Condition"], _signing_request
    ),
    "ClusterTrustBundle": printer(
        [NAME, "SignerName"], lambda obj, now: [name(obj), get(obj, "spec", "signerName") or NONE]
    ),
    "Lease": printer([NAME, "Holder", AGE], _lease),
    "PriorityClass": printer(
        [NAME, column("Value", "integer"), column("Global-Default", "boolean"), AGE, "PreemptionPolicy"],
        _priority_class,
    ),
    "RuntimeClass": printer(
        [NAME, "Handler", AGE], lambda obj, now: [name(obj), obj.get("handler", ""), age(obj, now)]
    ),
    "MutatingWebhookConfiguration": printer([NAME, column("Webhooks", "integer"), AGE], _webhooks),
    "ValidatingWebhookConfiguration": printer([NAME, column("Webhooks", "integer"), AGE], _webhooks),
    "ValidatingAdmissionPolicy": printer([NAME, column("Validations", "integer"), "ParamKind", AGE], _admission_policy),
    "ValidatingAdmissionPolicyBinding": printer([NAME, "PolicyName", "ParamRef", AGE], _admission_binding),
    "MutatingAdmissionPolicy": printer([NAME, column("Mutations", "integer"), "ParamKind", AGE], _admission_policy),
    "MutatingAdmissionPolicyBinding": printer([NAME, "PolicyName", "ParamRef", AGE], _admission_binding),
    "FlowSchema": printer(
        [
            NAME,
            "PriorityLevel",
            column("MatchingPrecedence", "integer"),
            "DistinguisherMethod",
            AGE,
            "MissingPL",
        ],
        _flow_schema,
    ),
    "PriorityLevelConfiguration": printer(
        [NAME, "Type", "NominalConcurrencyShares", "Queues", "HandSize", "QueueLengthLimit", AGE], _priority_level
    ),
    "CustomResourceDefinition": CREATED_AT,
    "APIService": printer([NAME, "Service", "Available", AGE], _api_service),
    "Event": EVENT,
    "ResourceClaim": printer([NAME, "State", AGE], _claim_state),
    "ResourceSlice": printer([NAME, "Node", "Driver", "Pool", AGE], _slice),
}
