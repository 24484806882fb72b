"""Every built-in resource of v1.37: what is stable, and what is served by default.

A row says group and version (from its heading), kind, plural, scope, short names, categories, subresources. Schemas
come from the published definitions, columns from printers/, defaults and rules from strategies/.

Source: `kubectl api-resources` of a v1.37 cluster; https://kubernetes.io/docs/reference/kubernetes-api/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from windlass.kube.api.conversion import events, horizontal_autoscalers
from windlass.kube.api.printers import core as core_printers
from windlass.kube.api.printers import others as other_printers
from windlass.kube.api.printers import workloads as workload_printers
from windlass.kube.api.resource import (
    ALL_VERBS,
    SCALE,
    Converter,
    Resource,
    ScalePaths,
    Storage,
    Subresource,
    status_subresource,
)
from windlass.kube.api.strategies.table import strategy_for
from windlass.kube.schema import Schema
from windlass.kube.schema.catalogue import Catalogue

_CREATE = ("create",)
_READ = ("get", "list")
_STREAM = ("create", "get")
_PROXY = ("create", "delete", "get", "patch", "update")


class Row(NamedTuple):
    """One resource. `parts` are its subresources; "-" before a scope's letter is not needed: "N" or "C"."""

    kind: str
    plural: str
    scope: str = "N"
    short: str = ""
    categories: str = ""
    parts: str = ""
    verbs: tuple[str, ...] = ALL_VERBS


_TABLE: Mapping[tuple[str, str], tuple[Row, ...]] = {
    ("", "v1"): (
        Row("Binding", "bindings", verbs=_CREATE),
        Row("ComponentStatus", "componentstatuses", "C", "cs", verbs=_READ),
        Row("ConfigMap", "configmaps", short="cm"),
        Row("Endpoints", "endpoints", short="ep"),
        Row("Event", "events", short="ev"),
        Row("LimitRange", "limitranges", short="limits"),
        Row("Namespace", "namespaces", "C", "ns", parts="status finalize"),
        Row("Node", "nodes", "C", "no", parts="status proxy"),
        Row("PersistentVolumeClaim", "persistentvolumeclaims", short="pvc", parts="status"),
        Row("PersistentVolume", "persistentvolumes", "C", "pv", parts="status"),
        Row(
            "Pod",
            "pods",
            short="po",
            categories="all",
            parts="status binding eviction ephemeralcontainers resize log exec attach portforward proxy",
        ),
        Row("PodTemplate", "podtemplates"),
        Row("ReplicationController", "replicationcontrollers", short="rc", categories="all", parts="status scale"),
        Row("ResourceQuota", "resourcequotas", short="quota", parts="status"),
        Row("Secret", "secrets"),
        Row("ServiceAccount", "serviceaccounts", short="sa", parts="token"),
        Row("Service", "services", short="svc", categories="all", parts="status proxy"),
    ),
    ("apiregistration.k8s.io", "v1"): (
        Row("APIService", "apiservices", "C", categories="api-extensions", parts="status"),
    ),
    ("apps", "v1"): (
        Row("ControllerRevision", "controllerrevisions"),
        Row("DaemonSet", "daemonsets", short="ds", categories="all", parts="status"),
        Row("Deployment", "deployments", short="deploy", categories="all", parts="status scale"),
        Row("ReplicaSet", "replicasets", short="rs", categories="all", parts="status scale"),
        Row("StatefulSet", "statefulsets", short="sts", categories="all", parts="status scale"),
    ),
    ("events.k8s.io", "v1"): (Row("Event", "events", short="ev"),),
    ("authentication.k8s.io", "v1"): (
        Row("SelfSubjectReview", "selfsubjectreviews", "C", verbs=_CREATE),
        Row("TokenReview", "tokenreviews", "C", verbs=_CREATE),
    ),
    ("authorization.k8s.io", "v1"): (
        Row("LocalSubjectAccessReview", "localsubjectaccessreviews", verbs=_CREATE),
        Row("SelfSubjectAccessReview", "selfsubjectaccessreviews", "C", verbs=_CREATE),
        Row("SelfSubjectRulesReview", "selfsubjectrulesreviews", "C", verbs=_CREATE),
        Row("SubjectAccessReview", "subjectaccessreviews", "C", verbs=_CREATE),
    ),
    ("autoscaling", "v2"): (
        Row("HorizontalPodAutoscaler", "horizontalpodautoscalers", short="hpa", categories="all", parts="status"),
    ),
    ("autoscaling", "v1"): (
        Row("HorizontalPodAutoscaler", "horizontalpodautoscalers", short="hpa", categories="all", parts="status"),
    ),
    ("batch", "v1"): (
        Row("CronJob", "cronjobs", short="cj", categories="all", parts="status"),
        Row("Job", "jobs", categories="all", parts="status"),
    ),
    ("certificates.k8s.io", "v1"): (
        Row("CertificateSigningRequest", "certificatesigningrequests", "C", "csr", parts="status approval"),
    ),
    ("networking.k8s.io", "v1"): (
        Row("IngressClass", "ingressclasses", "C"),
        Row("Ingress", "ingresses", short="ing", parts="status"),
        Row("IPAddress", "ipaddresses", "C", "ip"),
        Row("NetworkPolicy", "networkpolicies", short="netpol"),
        Row("ServiceCIDR", "servicecidrs", "C", parts="status"),
    ),
    ("policy", "v1"): (Row("PodDisruptionBudget", "poddisruptionbudgets", short="pdb", parts="status"),),
    ("rbac.authorization.k8s.io", "v1"): (
        Row("ClusterRoleBinding", "clusterrolebindings", "C"),
        Row("ClusterRole", "clusterroles", "C"),
        Row("RoleBinding", "rolebindings"),
        Row("Role", "roles"),
    ),
    ("storage.k8s.io", "v1"): (
        Row("CSIDriver", "csidrivers", "C"),
        Row("CSINode", "csinodes", "C"),
        Row("CSIStorageCapacity", "csistoragecapacities"),
        Row("StorageClass", "storageclasses", "C", "sc"),
        Row("VolumeAttachment", "volumeattachments", "C", parts="status"),
        Row("VolumeAttributesClass", "volumeattributesclasses", "C", "vac"),
    ),
    ("admissionregistration.k8s.io", "v1"): (
        Row("MutatingAdmissionPolicy", "mutatingadmissionpolicies", "C", categories="api-extensions"),
        Row("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", "C", categories="api-extensions"),
        Row("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "C", categories="api-extensions"),
        Row(
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            "C",
            categories="api-extensions",
            parts="status",
        ),
        Row("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", "C", categories="api-extensions"),
        Row("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "C", categories="api-extensions"),
    ),
    ("apiextensions.k8s.io", "v1"): (
        Row(
            "CustomResourceDefinition",
            "customresourcedefinitions",
            "C",
            "crd crds",
            "api-extensions",
            parts="status",
        ),
    ),
    ("scheduling.k8s.io", "v1"): (Row("PriorityClass", "priorityclasses", "C", "pc"),),
    ("coordination.k8s.io", "v1"): (Row("Lease", "leases"),),
    ("node.k8s.io", "v1"): (Row("RuntimeClass", "runtimeclasses", "C"),),
    ("discovery.k8s.io", "v1"): (Row("EndpointSlice", "endpointslices"),),
    ("flowcontrol.apiserver.k8s.io", "v1"): (
        Row("FlowSchema", "flowschemas", "C", parts="status"),
        Row("PriorityLevelConfiguration", "prioritylevelconfigurations", "C", parts="status"),
    ),
    ("resource.k8s.io", "v1"): (
        Row("DeviceClass", "deviceclasses", "C"),
        Row("ResourceClaim", "resourceclaims", parts="status"),
        Row("ResourceClaimTemplate", "resourceclaimtemplates"),
        Row("ResourceSlice", "resourceslices", "C"),
    ),
}

_SPECIAL_PARTS: Mapping[str, Subresource] = {
    "binding": Subresource("binding", _CREATE, ("", "v1", "Binding")),
    "eviction": Subresource("eviction", _CREATE, ("policy", "v1", "Eviction")),
    "ephemeralcontainers": Subresource("ephemeralcontainers", ("get", "patch", "update"), ("", "v1", "Pod")),
    "resize": Subresource("resize", ("get", "patch", "update"), ("", "v1", "Pod")),
    "log": Subresource("log", ("get",), ("", "v1", "Pod")),
    "exec": Subresource("exec", _STREAM, ("", "v1", "PodExecOptions")),
    "attach": Subresource("attach", _STREAM, ("", "v1", "PodAttachOptions")),
    "portforward": Subresource("portforward", _STREAM, ("", "v1", "PodPortForwardOptions")),
    "finalize": Subresource("finalize", ("update",), ("", "v1", "Namespace")),
    "token": Subresource("token", _CREATE, ("authentication.k8s.io", "v1", "TokenRequest")),
    "approval": Subresource(
        "approval", ("get", "patch", "update"), ("certificates.k8s.io", "v1", "CertificateSigningRequest")
    ),
    "scale": SCALE,
}
_PROXY_KINDS = {"pods": "PodProxyOptions", "services": "ServiceProxyOptions", "nodes": "NodeProxyOptions"}
_STORAGE: Mapping[tuple[str, str], Storage] = {
    ("events.k8s.io", "events"): Storage(b"/registry/events/", "", "v1", "Event"),
    ("autoscaling", "horizontalpodautoscalers"): Storage(
        b"/registry/horizontalpodautoscalers.autoscaling/", "autoscaling", "v2", "HorizontalPodAutoscaler"
    ),
}
_CONVERTERS: Mapping[str, Converter] = {
    "events": events.convert,
    "horizontalpodautoscalers": horizontal_autoscalers.convert,
}
_PATHS: Mapping[str, ScalePaths] = {
    "replicationcontrollers": ScalePaths(),
    "deployments": ScalePaths(),
    "replicasets": ScalePaths(),
    "statefulsets": ScalePaths(),
}
_RESET_STATUS = (("status",),)
_PRINTERS = {**core_printers.PRINTERS, **workload_printers.PRINTERS, **other_printers.PRINTERS}


def builtin(catalogue: Catalogue) -> list[Resource]:
    """All built-in resources, the groups in upstream's order."""
    return [_resource(group, version, row, catalogue) for (group, version), rows in _TABLE.items() for row in rows]


def _resource(group: str, version: str, row: Row, catalogue: Catalogue) -> Resource:
    def load_schema() -> Schema:
        return catalogue.schema(catalogue.kinds()[(group, version, row.kind)])

    resource = Resource(
        group=group,
        version=version,
        kind=row.kind,
        plural=row.plural,
        namespaced=row.scope == "N",
        short_names=tuple(row.short.split()),
        categories=tuple(row.categories.split()),
        verbs=row.verbs,
        strategy=strategy_for(group, version, row.kind),
        definition=catalogue.kinds()[(group, version, row.kind)],
        printer=_PRINTERS.get(row.kind),
        stored_as=_STORAGE.get((group, row.plural)),
        load_schema=load_schema,
        convert=_CONVERTERS.get(row.plural),
        reset_fields={"": _RESET_STATUS} if "status" in row.parts.split() else {},
        scale=_PATHS.get(row.plural),
    )
    for part in row.parts.split():
        if part == "status":
            resource.subresources[part] = status_subresource(resource)
        elif part == "proxy":
            resource.subresources[part] = Subresource("proxy", _PROXY, ("", "v1", _PROXY_KINDS[row.plural]))
        else:
            resource.subresources[part] = _SPECIAL_PARTS[part]
    return resource
