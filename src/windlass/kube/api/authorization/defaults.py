"""The roles and bindings that every cluster has, and their reconciliation at each start.

Each rule is one line: verbs, API groups, resources and, rarely, names; "core" is the group without a name and `READ`,
`WRITE` stand for their verbs. A line that begins with "get /" lists paths. `reconcile` adds what is missing to what is
stored; what an administrator added stays, and an object with the annotation
`rbac.authorization.kubernetes.io/autoupdate: "false"` is left alone. Names with `windlass:` are ours: who may join.

Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from windlass.kube.api.authorization.rbac import GROUP
from windlass.kube.api.authorization.rules import Rule, joined, uncovered
from windlass.kube.api.reader import Object

AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_LABEL = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_VERBS = {
    "READ": ("get", "list", "watch"),
    "WRITE": ("create", "delete", "deletecollection", "patch", "update"),
    "ALL": ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"),
    "FOLLOW": ("list", "watch"),
}
EVENTS = "create,patch,update core,events.k8s.io events"
_CSR = "certificates.k8s.io"
_SIGNERS = "kubernetes.io/"

CLUSTER_ROLES: Mapping[str, Sequence[str]] = {
    "cluster-admin": ("* * *", "* /*"),
    "system:discovery": (
        "get /api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
    ),
    "system:public-info-viewer": ("get /healthz /livez /readyz /version /version/",),
    "system:monitoring": (
        "get /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/* /statusz /flagz",
    ),
    "system:basic-user": (
        "create authorization.k8s.io selfsubjectaccessreviews,selfsubjectrulesreviews",
        "create authentication.k8s.io selfsubjectreviews",
    ),
    "system:service-account-issuer-discovery": (
        "get /.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
    ),
    "system:aggregate-to-view": (
        "READ core configmaps,endpoints,persistentvolumeclaims,persistentvolumeclaims/status,pods,"
        "replicationcontrollers,replicationcontrollers/scale,serviceaccounts,services,services/status",
        "READ core bindings,events,limitranges,namespaces/status,pods/log,pods/status,replicationcontrollers/status,"
        "resourcequotas,resourcequotas/status",
        "READ core namespaces",
        "READ discovery.k8s.io endpointslices",
        "READ apps controllerrevisions,daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status,"
        "replicasets,replicasets/scale,replicasets/status,statefulsets,statefulsets/scale,statefulsets/status",
        "READ autoscaling horizontalpodautoscalers,horizontalpodautoscalers/status",
        "READ batch cronjobs,cronjobs/status,jobs,jobs/status",
        "READ extensions daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status,ingresses,"
        "ingresses/status,networkpolicies,replicasets,replicasets/scale,replicasets/status,replicationcontrollers/scale",
        "READ policy poddisruptionbudgets,poddisruptionbudgets/status",
        "READ networking.k8s.io ingresses,ingresses/status,networkpolicies",
        "READ resource.k8s.io resourceclaims,resourceclaims/status,resourceclaimtemplates",
    ),
    "system:aggregate-to-edit": (
        "READ core pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy",
        "impersonate core serviceaccounts",
        "WRITE core pods,pods/attach,pods/exec,pods/portforward,pods/proxy",
        "create core pods/eviction",
        "WRITE core configmaps,events,persistentvolumeclaims,replicationcontrollers,replicationcontrollers/scale,"
        "secrets,serviceaccounts,services,services/proxy",
        "create core serviceaccounts/token",
        "WRITE apps daemonsets,deployments,deployments/rollback,deployments/scale,replicasets,replicasets/scale,"
        "statefulsets,statefulsets/scale",
        "WRITE autoscaling horizontalpodautoscalers",
        "WRITE batch cronjobs,jobs",
        "WRITE extensions daemonsets,deployments,deployments/rollback,deployments/scale,ingresses,networkpolicies,"
        "replicasets,replicasets/scale,replicationcontrollers/scale",
        "WRITE policy poddisruptionbudgets",
        "WRITE networking.k8s.io ingresses,networkpolicies",
        "ALL coordination.k8s.io leases",
        "WRITE resource.k8s.io resourceclaims,resourceclaimtemplates",
    ),
    "system:aggregate-to-admin": (
        "create authorization.k8s.io localsubjectaccessreviews",
        f"ALL {GROUP} rolebindings,roles",
    ),
    "system:auth-delegator": (
        "create authentication.k8s.io tokenreviews",
        "create authorization.k8s.io subjectaccessreviews",
    ),
    "system:heapster": ("READ core events,namespaces,nodes,pods", "READ extensions deployments"),
    "system:kube-aggregator": ("READ core endpoints,services",),
    "system:kube-dns": ("FOLLOW core endpoints,services",),
    "system:kubelet-api-admin": (
        "READ core nodes",
        "proxy core nodes",
        "* core nodes/configz,nodes/healthz,nodes/log,nodes/metrics,nodes/pods,nodes/proxy,nodes/stats",
    ),
    "system:node": (
        "create authentication.k8s.io tokenreviews",
        "create authorization.k8s.io localsubjectaccessreviews,subjectaccessreviews",
        "READ core services",
        "create,get,list,watch core nodes",
        "patch,update core nodes/status",
        "patch,update core nodes",
        EVENTS,
        "READ core pods",
        "create,delete core pods",
        "patch,update core pods/status",
        "create core pods/eviction",
        "READ core configmaps,secrets",
        "get core persistentvolumeclaims,persistentvolumes",
        "get core endpoints",
        f"create,get,list,watch {_CSR} certificatesigningrequests",
        "get,patch,update core persistentvolumeclaims/status",
        "get storage.k8s.io volumeattachments",
        "create core serviceaccounts/token",
        "create,delete,get,patch,update coordination.k8s.io leases",
        "create,delete,get,patch,update storage.k8s.io csinodes",
        "READ storage.k8s.io csidrivers",
        "READ node.k8s.io runtimeclasses",
        "get resource.k8s.io resourceclaims",
        "create,delete,deletecollection,get,list,patch,update,watch resource.k8s.io resourceslices",
        f"READ {_CSR} clustertrustbundles",
    ),
    "system:node-bootstrapper": (f"create,get,list,watch {_CSR} certificatesigningrequests",),
    "system:node-problem-detector": ("get core nodes", "patch core nodes/status", EVENTS),
    "system:node-proxier": (
        "FOLLOW core endpoints,services",
        "READ core nodes",
        EVENTS,
        "FOLLOW discovery.k8s.io endpointslices",
        "FOLLOW networking.k8s.io servicecidrs",
    ),
    "system:kube-controller-manager": (
        EVENTS,
        "create coordination.k8s.io leases",
        "get,update coordination.k8s.io leases kube-controller-manager",
        "create core secrets,serviceaccounts",
        "delete core secrets",
        "get core configmaps,namespaces,secrets,serviceaccounts",
        "update core secrets,serviceaccounts",
        "create authentication.k8s.io tokenreviews",
        "create authorization.k8s.io subjectaccessreviews",
        "FOLLOW * *",
        "create core serviceaccounts/token",
    ),
    "system:kube-scheduler": (
        EVENTS,
        "create coordination.k8s.io leases",
        "get,update coordination.k8s.io leases kube-scheduler",
        "create,delete,get,list,patch,update,watch coordination.k8s.io leasecandidates",
        "READ core nodes",
        "delete,get,list,watch core pods",
        "create core bindings,pods/binding",
        "patch,update core pods/status",
        "READ core replicationcontrollers,services",
        "READ apps,extensions replicasets",
        "READ apps statefulsets",
        "READ policy poddisruptionbudgets",
        "READ core persistentvolumeclaims,persistentvolumes",
        "create authentication.k8s.io tokenreviews",
        "create authorization.k8s.io subjectaccessreviews",
        "READ storage.k8s.io csidrivers,csinodes,csistoragecapacities,volumeattachments",
        "READ core namespaces",
        "READ resource.k8s.io deviceclasses,resourceclaims,resourceslices",
        "patch,update resource.k8s.io resourceclaims",
        "patch,update resource.k8s.io resourceclaims/status",
    ),
    "system:volume-scheduler": (
        "get,list,patch,update,watch core persistentvolumes",
        "READ storage.k8s.io storageclasses",
        "get,list,patch,update,watch core persistentvolumeclaims",
    ),
    "system:persistent-volume-provisioner": (
        "create,delete,get,list,watch core persistentvolumes",
        "get,list,update,watch core persistentvolumeclaims",
        "READ storage.k8s.io storageclasses",
        "watch core events",
        EVENTS,
    ),
    f"system:{_CSR}:certificatesigningrequests:nodeclient": (f"create {_CSR} certificatesigningrequests/nodeclient",),
    f"system:{_CSR}:certificatesigningrequests:selfnodeclient": (
        f"create {_CSR} certificatesigningrequests/selfnodeclient",
    ),
    **{
        f"system:{_CSR}:{name}-approver": (f"approve {_CSR} signers {_SIGNERS}{name}",)
        for name in ("kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving", "legacy-unknown")
    },
}

AGGREGATED = ("admin", "edit", "view")
_AGGREGATE_LABELS: Mapping[str, Mapping[str, str]] = {
    "admin": {},
    "edit": {"rbac.authorization.k8s.io/aggregate-to-admin": "true"},
    "view": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"},
    "system:aggregate-to-admin": {"rbac.authorization.k8s.io/aggregate-to-admin": "true"},
    "system:aggregate-to-edit": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"},
    "system:aggregate-to-view": {"rbac.authorization.k8s.io/aggregate-to-view": "true"},
    "system:aggregated-metrics-reader": {"rbac.authorization.k8s.io/aggregate-to-view": "true"},
}

_RW = "create,delete,get,list,patch,update,watch"
CONTROLLERS: Mapping[str, Sequence[str]] = {
    "attachdetach-controller": (
        "FOLLOW core persistentvolumeclaims,persistentvolumes,pods",
        "READ core nodes",
        "patch,update core nodes/status",
        EVENTS,
        "create,delete,get,list,watch storage.k8s.io volumeattachments",
        "READ storage.k8s.io csidrivers,csinodes",
    ),
    "certificate-controller": (
        f"delete,get,list,watch {_CSR} certificatesigningrequests",
        f"update {_CSR} certificatesigningrequests/approval,certificatesigningrequests/status",
        f"approve {_CSR} signers {_SIGNERS}kube-apiserver-client-kubelet",
        f"sign {_CSR} signers {_SIGNERS}kube-apiserver-client,{_SIGNERS}kube-apiserver-client-kubelet,"
        f"{_SIGNERS}kubelet-serving,{_SIGNERS}legacy-unknown",
        "create authorization.k8s.io subjectaccessreviews",
        EVENTS,
    ),
    "clusterrole-aggregation-controller": (f"escalate,get,list,patch,update,watch {GROUP} clusterroles",),
    "cronjob-controller": (
        "get,list,update,watch batch cronjobs",
        f"{_RW} batch jobs",
        "update batch cronjobs/finalizers,cronjobs/status",
        "delete,list,watch core pods",
        EVENTS,
    ),
    "daemon-set-controller": (
        "READ apps,extensions daemonsets",
        "update apps,extensions daemonsets/finalizers,daemonsets/status",
        "FOLLOW core nodes",
        "create,delete,list,patch,watch core pods",
        "create core pods/binding",
        f"{_RW} apps controllerrevisions",
        EVENTS,
    ),
    "deployment-controller": (
        "get,list,update,watch apps,extensions deployments",
        "update apps,extensions deployments/finalizers,deployments/status",
        f"{_RW} apps,extensions replicasets",
        "get,list,update,watch core pods",
        EVENTS,
    ),
    "device-taint-eviction-controller": (
        "delete,get,list,watch core pods",
        "patch,update core pods/status",
        "READ resource.k8s.io deviceclasses,devicetaintrules,resourceclaims,resourceslices",
        EVENTS,
    ),
    "disruption-controller": (
        "READ apps,extensions deployments,replicasets",
        "READ core replicationcontrollers",
        "READ policy poddisruptionbudgets",
        "READ apps statefulsets",
        "update policy poddisruptionbudgets/status",
        "patch,update core pods/status",
        "get * */scale",
        EVENTS,
    ),
    "endpoint-controller": (
        "READ core pods,services",
        "create,delete,get,list,update,watch core endpoints",
        "create core endpoints/restricted",
        EVENTS,
    ),
    "endpointslice-controller": (
        "READ core nodes,pods,services",
        "update core services/finalizers",
        "create,delete,get,list,update,watch discovery.k8s.io endpointslices",
        EVENTS,
    ),
    "endpointslicemirroring-controller": (
        "READ core endpoints,services",
        "update core endpoints/finalizers,services/finalizers",
        "create,delete,get,list,update,watch discovery.k8s.io endpointslices",
        EVENTS,
    ),
    "ephemeral-volume-controller": (
        "READ core pods",
        "update core pods/finalizers",
        "create,get,list,watch core persistentvolumeclaims",
        EVENTS,
    ),
    "expand-controller": (
        "get,list,patch,update,watch core persistentvolumes",
        "patch,update core persistentvolumeclaims/status",
        "READ core persistentvolumeclaims",
        "get core services",
        EVENTS,
    ),
    "generic-garbage-collector": ("delete,get,list,patch,update,watch * *", EVENTS),
    "horizontal-pod-autoscaler": (
        "READ autoscaling horizontalpodautoscalers",
        "update autoscaling horizontalpodautoscalers/status",
        "get,update * */scale",
        "FOLLOW core pods",
        "FOLLOW metrics.k8s.io pods",
        "READ custom.metrics.k8s.io,external.metrics.k8s.io *",
        EVENTS,
    ),
    "job-controller": (
        "get,list,patch,update,watch batch jobs",
        "update batch jobs/finalizers,jobs/status",
        "create,delete,list,patch,watch core pods",
        EVENTS,
    ),
    "legacy-service-account-token-cleaner": (
        "get core configmaps kube-apiserver-legacy-service-account-token-tracking",
        "delete,patch core secrets",
    ),
    "namespace-controller": (
        "delete,get,list,watch core namespaces",
        "update core namespaces/finalize,namespaces/status",
        "delete,deletecollection,get,list,watch * *",
    ),
    "node-controller": (
        "delete,get,list,patch,update,watch core nodes",
        "patch,update core nodes/status,pods/status",
        "delete,get,list,watch core pods",
        EVENTS,
    ),
    "persistent-volume-binder": (
        "create,delete,get,list,update,watch core persistentvolumes",
        "update core persistentvolumeclaims/status,persistentvolumes/status",
        "get,list,update,watch core persistentvolumeclaims",
        "create,delete,get,list,watch core pods",
        "READ storage.k8s.io storageclasses",
        "FOLLOW core nodes",
        "watch core events",
        "get core services",
        EVENTS,
    ),
    "pod-garbage-collector": ("delete,list,watch core pods", "READ core nodes", "patch core pods/status"),
    "podcertificaterequestcleaner": (f"delete,get,list,watch {_CSR} podcertificaterequests",),
    "pv-protection-controller": ("get,list,update,watch core persistentvolumes", EVENTS),
    "pvc-protection-controller": ("get,list,update,watch core persistentvolumeclaims", "READ core pods", EVENTS),
    "replicaset-controller": (
        "get,list,update,watch apps,extensions replicasets",
        "update apps,extensions replicasets/finalizers,replicasets/status",
        "create,delete,list,patch,watch core pods",
        EVENTS,
    ),
    "replication-controller": (
        "get,list,update,watch core replicationcontrollers",
        "update core replicationcontrollers/finalizers,replicationcontrollers/status",
        "create,delete,list,patch,watch core pods",
        EVENTS,
    ),
    "resource-claim-controller": (
        "READ core pods",
        "update core pods/finalizers",
        "create,delete,get,list,watch resource.k8s.io resourceclaims",
        "patch,update resource.k8s.io resourceclaims,resourceclaims/status",
        "patch,update core pods/status",
        EVENTS,
    ),
    "resourcequota-controller": ("FOLLOW * *", "update core resourcequotas/status", EVENTS),
    "root-ca-cert-publisher": ("create,update core configmaps", EVENTS),
    "route-controller": ("FOLLOW core nodes", "patch core nodes/status", EVENTS),
    "selinux-warning-controller": (
        "READ core persistentvolumeclaims,persistentvolumes,pods",
        "READ storage.k8s.io csidrivers",
        EVENTS,
    ),
    "service-account-controller": ("create core serviceaccounts", EVENTS),
    "service-cidrs-controller": (
        "get,list,patch,update,watch networking.k8s.io servicecidrs",
        "patch,update networking.k8s.io servicecidrs/finalizers,servicecidrs/status",
        "READ networking.k8s.io ipaddresses",
        EVENTS,
    ),
    "service-controller": ("READ core services", "patch,update core services/status", "FOLLOW core nodes", EVENTS),
    "statefulset-controller": (
        "FOLLOW core pods",
        "READ apps statefulsets",
        "update apps statefulsets/finalizers,statefulsets/status",
        "create,delete,get,patch,update core pods",
        f"{_RW} apps controllerrevisions",
        "create,delete,get,list,update,watch core persistentvolumeclaims",
        "update core pods/finalizers",
        EVENTS,
    ),
    "ttl-after-finished-controller": ("delete,get,list,watch batch jobs", EVENTS),
    "ttl-controller": ("list,patch,update,watch core nodes", EVENTS),
    "validatingadmissionpolicy-status-controller": (
        "READ admissionregistration.k8s.io validatingadmissionpolicies",
        "get,patch,update admissionregistration.k8s.io validatingadmissionpolicies/status",
        EVENTS,
    ),
    "volumeattributesclass-protection-controller": (
        "READ core persistentvolumeclaims,persistentvolumes",
        "get,list,update,watch storage.k8s.io volumeattributesclasses",
        EVENTS,
    ),
}

ROLES: Mapping[tuple[str, str], Sequence[str]] = {
    ("kube-system", "extension-apiserver-authentication-reader"): (
        "READ core configmaps extension-apiserver-authentication",
    ),
    ("kube-system", "system:controller:bootstrap-signer"): ("READ core secrets",),
    ("kube-system", "system:controller:cloud-provider"): ("create,get,list,watch core configmaps",),
    ("kube-system", "system:controller:token-cleaner"): ("delete,get,list,watch core secrets", EVENTS),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        "watch core configmaps",
        "get,update core configmaps kube-controller-manager",
        "create,get,list,update,watch coordination.k8s.io leases",
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        "watch core configmaps",
        "get,update core configmaps kube-scheduler",
    ),
    ("kube-public", "system:controller:bootstrap-signer"): (
        "READ core configmaps",
        "update core configmaps cluster-info",
        EVENTS,
    ),
}

_AUTHENTICATED, _UNAUTHENTICATED = "Group system:authenticated", "Group system:unauthenticated"
_MANAGER, _SCHEDULER = "User system:kube-controller-manager", "User system:kube-scheduler"
CLUSTER_BINDINGS: Mapping[str, tuple[str, ...]] = {
    "cluster-admin": ("Group system:masters",),
    "system:monitoring": ("Group system:monitoring",),
    "system:discovery": (_AUTHENTICATED,),
    "system:basic-user": (_AUTHENTICATED,),
    "system:public-info-viewer": (_AUTHENTICATED, _UNAUTHENTICATED),
    "system:node-proxier": ("User system:kube-proxy",),
    "system:kube-controller-manager": (_MANAGER,),
    "system:kube-dns": ("ServiceAccount kube-system/kube-dns",),
    "system:kube-scheduler": (_SCHEDULER,),
    "system:volume-scheduler": (_SCHEDULER,),
    "system:node": (),
    "system:service-account-issuer-discovery": ("Group system:serviceaccounts",),
}
BINDINGS: Mapping[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("kube-system", "system::extension-apiserver-authentication-reader"): (
        "extension-apiserver-authentication-reader",
        (_MANAGER, _SCHEDULER),
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        "system::leader-locking-kube-controller-manager",
        (
            _MANAGER,
            "ServiceAccount kube-system/kube-controller-manager",
            "ServiceAccount kube-system/leader-election-controller",
        ),
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        "system::leader-locking-kube-scheduler",
        (_SCHEDULER, "ServiceAccount kube-system/kube-scheduler"),
    ),
    **{
        (namespace, f"system:controller:{name}"): (
            f"system:controller:{name}",
            (f"ServiceAccount kube-system/{name}",),
        )
        for namespace, name in (
            ("kube-system", "bootstrap-signer"),
            ("kube-system", "cloud-provider"),
            ("kube-system", "token-cleaner"),
            ("kube-public", "bootstrap-signer"),
        )
    },
}


_NODES, _BOOTSTRAPPERS = "Group system:nodes", "Group system:bootstrappers"
CLUSTER_CONFIGURATION = "windlass-cluster"
"""The ConfigMap in kube-system that tells agents of the cluster's networks."""
JOINING_ROLES: Mapping[str, Sequence[str]] = {
    "windlass:authorities": ("get /cacerts",),
    "windlass:agent": (
        "READ core services,nodes,namespaces,pods,persistentvolumes",
        "READ discovery.k8s.io endpointslices",
        "READ networking.k8s.io networkpolicies",
        EVENTS,
    ),
}
JOINING_BINDINGS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "windlass:authorities": ("windlass:authorities", (_AUTHENTICATED, _UNAUTHENTICATED)),
    "windlass:agent": ("windlass:agent", ("Group system:windlass:agents",)),
    "windlass:node-bootstrapper": ("system:node-bootstrapper", (_BOOTSTRAPPERS,)),
    "windlass:node-autoapprove-bootstrap": (
        f"system:{_CSR}:certificatesigningrequests:nodeclient",
        (_BOOTSTRAPPERS,),
    ),
    "windlass:node-autoapprove-certificate-rotation": (
        f"system:{_CSR}:certificatesigningrequests:selfnodeclient",
        (_NODES,),
    ),
}


def objects() -> list[tuple[str, Object]]:
    """Every default object beside its resource: roles first, so that a binding never stands without its role."""
    return [*_upstream(), *_joining(), *_metrics()]


def _metrics() -> list[tuple[str, Object]]:
    """What lets those who may see pods see what they use, as an installed metrics-server has it."""
    rules = ("READ metrics.k8s.io nodes,pods",)
    return [("clusterroles", _role("ClusterRole", "", "system:aggregated-metrics-reader", rules))]


def _joining() -> list[tuple[str, Object]]:
    """What lets nodes join with a bootstrap token, and agents read what they need."""
    found: list[tuple[str, Object]] = []
    for name, lines in JOINING_ROLES.items():
        found.append(("clusterroles", _role("ClusterRole", "", name, lines)))
    for name, (role, subjects) in JOINING_BINDINGS.items():
        found.append(("clusterrolebindings", _binding("", name, "ClusterRole", role, subjects)))
    name = "windlass:cluster-configuration"
    rules = (f"get core configmaps {CLUSTER_CONFIGURATION}",)
    found.append(("roles", _role("Role", "kube-system", name, rules)))
    found.append(("rolebindings", _binding("kube-system", name, "Role", name, (_NODES, _BOOTSTRAPPERS))))
    return found


def _upstream() -> list[tuple[str, Object]]:
    found: list[tuple[str, Object]] = []
    for name, lines in CLUSTER_ROLES.items():
        found.append(("clusterroles", _role("ClusterRole", "", name, lines)))
    for name in AGGREGATED:
        role = _role("ClusterRole", "", name, ())
        selector = {"matchLabels": {f"rbac.authorization.k8s.io/aggregate-to-{name}": "true"}}
        role["aggregationRule"] = {"clusterRoleSelectors": [selector]}
        found.append(("clusterroles", role))
    for name, lines in CONTROLLERS.items():
        found.append(("clusterroles", _role("ClusterRole", "", f"system:controller:{name}", lines)))
    for (namespace, name), lines in ROLES.items():
        found.append(("roles", _role("Role", namespace, name, lines)))
    for name, subjects in CLUSTER_BINDINGS.items():
        found.append(("clusterrolebindings", _binding("", name, "ClusterRole", name, subjects)))
    for name in CONTROLLERS:
        full = f"system:controller:{name}"
        subject = (f"ServiceAccount kube-system/{name}",)
        found.append(("clusterrolebindings", _binding("", full, "ClusterRole", full, subject)))
    for (namespace, name), (role_name, subjects) in BINDINGS.items():
        found.append(("rolebindings", _binding(namespace, name, "Role", role_name, subjects)))
    return found


def reconcile(wanted: Object, stored: Object | None) -> Object | None:
    """What to write so that the stored object has all that is wanted, `None` where it has.

    A binding whose roleRef differs has to be deleted and created, since roleRef is immutable; the caller sees the
    difference in what it gets.
    """
    if stored is None:
        return wanted
    metadata = stored["metadata"]
    if (metadata.get("annotations") or {}).get(AUTOUPDATE) == "false":
        return None
    merged = {
        **stored,
        "metadata": {
            **metadata,
            "annotations": {**wanted["metadata"]["annotations"], **(metadata.get("annotations") or {})},
            "labels": {**(metadata.get("labels") or {}), **wanted["metadata"]["labels"]},
        },
    }
    if "roleRef" in wanted:
        known = stored.get("subjects") or []
        missing = [subject for subject in wanted.get("subjects") or () if subject not in known]
        if known or missing:
            merged["subjects"] = [*known, *missing]
        merged["roleRef"] = wanted["roleRef"]
    elif "aggregationRule" in wanted:
        selectors = (stored.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
        fresh = [item for item in wanted["aggregationRule"]["clusterRoleSelectors"] if item not in selectors]
        merged["aggregationRule"] = {"clusterRoleSelectors": [*selectors, *fresh]}
    else:
        rules = stored.get("rules") or []
        owned, asked = ([Rule.parse(rule) for rule in some or ()] for some in (rules, wanted["rules"]))
        merged["rules"] = [*rules, *(rule.to_json() for rule in joined(uncovered(owned, asked)))]
    return None if merged == stored else merged


def parse_line(line: str) -> dict[str, Any]:
    """A rule from one line of the tables."""
    verbs, rest = line.split(" ", 1)
    names = list(_VERBS.get(verbs) or verbs.split(","))
    if rest.startswith("/"):
        return {"verbs": names, "nonResourceURLs": ["*"] if rest == "/*" else rest.split(" ")}
    groups, resources, *objects = rest.split(" ")
    rule: dict[str, Any] = {
        "verbs": names,
        "apiGroups": ["" if group == "core" else group for group in groups.split(",")],
        "resources": resources.split(","),
    }
    if objects:
        rule["resourceNames"] = objects[0].split(",")
    return rule


def _metadata(namespace: str, name: str) -> dict[str, Any]:
    labels = {**_LABEL, **_AGGREGATE_LABELS.get(name, {})}
    metadata: dict[str, Any] = {"name": name, "annotations": {AUTOUPDATE: "true"}, "labels": labels}
    if namespace:
        metadata["namespace"] = namespace
    return metadata


def _role(kind: str, namespace: str, name: str, lines: Sequence[str]) -> Object:
    rules = [parse_line(line) for line in lines]
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": _metadata(namespace, name), "rules": rules}


def _binding(namespace: str, name: str, kind: str, role: str, subjects: Sequence[str]) -> Object:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": _metadata(namespace, name),
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
        "subjects": [_subject(subject) for subject in subjects],
    }


def _subject(text: str) -> dict[str, str]:
    kind, name = text.split(" ", 1)
    if kind == "ServiceAccount":
        namespace, account = name.split("/")
        return {"kind": kind, "name": account, "namespace": namespace}
    return {"apiGroup": GROUP, "kind": kind, "name": name}
