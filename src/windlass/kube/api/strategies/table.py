"""Which strategy a kind has."""

from __future__ import annotations

from collections.abc import Mapping

from windlass.kube.api.custom.definition import Definitions
from windlass.kube.api.resource import Strategy
from windlass.kube.api.strategies import core, extension, pods, policy, services, storage, workloads
from windlass.kube.api.strategies.common import Generational, Plain, WithStatus

_PLAIN = Plain()

STRATEGIES: Mapping[tuple[str, str], Strategy] = {
    ("", "Pod"): pods.Pods(),
    ("", "PodTemplate"): pods.PodTemplates(),
    ("", "ReplicationController"): workloads.ReplicationControllers(),
    ("", "Namespace"): core.Namespaces(),
    ("", "Node"): core.Nodes(),
    ("", "Secret"): core.Secrets(),
    ("", "ConfigMap"): core.ConfigMaps(),
    ("", "Event"): core.Events(),
    ("", "ServiceAccount"): core.ServiceAccounts(),
    ("", "ResourceQuota"): core.ResourceQuotas(),
    ("", "LimitRange"): core.LimitRanges(),
    ("", "Service"): services.Services(),
    ("", "Endpoints"): services.Endpoints(),
    ("", "PersistentVolume"): storage.PersistentVolumes(),
    ("", "PersistentVolumeClaim"): storage.PersistentVolumeClaims(),
    ("events.k8s.io", "Event"): core.Events(),
    ("apps", "Deployment"): workloads.Deployments(),
    ("apps", "ReplicaSet"): workloads.ReplicaSets(),
    ("apps", "StatefulSet"): workloads.StatefulSets(),
    ("apps", "DaemonSet"): workloads.DaemonSets(),
    ("apps", "ControllerRevision"): workloads.ControllerRevisions(),
    ("batch", "Job"): workloads.Jobs(),
    ("batch", "CronJob"): workloads.CronJobs(),
    ("autoscaling", "HorizontalPodAutoscaler"): policy.Autoscalers(),
    ("policy", "PodDisruptionBudget"): policy.DisruptionBudgets(),
    ("rbac.authorization.k8s.io", "Role"): policy.Roles(namespaced=True),
    ("rbac.authorization.k8s.io", "ClusterRole"): policy.Roles(namespaced=False),
    ("rbac.authorization.k8s.io", "RoleBinding"): policy.Bindings(namespaced=True),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): policy.Bindings(namespaced=False),
    ("scheduling.k8s.io", "PriorityClass"): policy.PriorityClasses(),
    ("certificates.k8s.io", "CertificateSigningRequest"): policy.SigningRequests(),
    ("coordination.k8s.io", "Lease"): policy.Leases(),
    ("node.k8s.io", "RuntimeClass"): policy.RuntimeClasses(),
    ("discovery.k8s.io", "EndpointSlice"): services.EndpointSlices(),
    ("networking.k8s.io", "Ingress"): services.Ingresses(),
    ("networking.k8s.io", "IngressClass"): services.IngressClasses(),
    ("networking.k8s.io", "NetworkPolicy"): services.NetworkPolicies(),
    ("networking.k8s.io", "ServiceCIDR"): WithStatus(),
    ("networking.k8s.io", "IPAddress"): _PLAIN,
    ("storage.k8s.io", "StorageClass"): storage.StorageClasses(),
    ("storage.k8s.io", "CSIDriver"): storage.CSIDrivers(),
    ("storage.k8s.io", "VolumeAttachment"): storage.VolumeAttachments(),
    ("storage.k8s.io", "VolumeAttributesClass"): storage.VolumeAttributesClasses(),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): extension.WebhookConfigurations(mutating=True),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): extension.WebhookConfigurations(mutating=False),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): extension.AdmissionPolicies(),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): extension.AdmissionPolicies(),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): extension.AdmissionBindings(),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): extension.AdmissionBindings(),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): Definitions(),
    ("apiregistration.k8s.io", "APIService"): extension.APIServices(),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"): extension.FlowSchemas(),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): extension.PriorityLevels(),
    ("resource.k8s.io", "ResourceClaim"): WithStatus(),
    ("resource.k8s.io", "ResourceSlice"): Generational(),
    ("resource.k8s.io", "DeviceClass"): Generational(),
}


def strategy_for(group: str, version: str, kind: str) -> Strategy:
    """The strategy of a kind; plain data where nothing is particular."""
    return STRATEGIES.get((group, kind), _PLAIN)
