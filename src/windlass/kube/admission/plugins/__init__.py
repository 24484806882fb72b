"""The built-in plugins."""

from __future__ import annotations

from windlass.kube.admission.chain import Plugin
from windlass.kube.admission.plugins.classes import DefaultIngressClass, DefaultStorageClass
from windlass.kube.admission.plugins.limit_ranger import LimitRanger
from windlass.kube.admission.plugins.namespace_lifecycle import NamespaceLifecycle
from windlass.kube.admission.plugins.nodes import NodeRestriction, TaintNodesByCondition
from windlass.kube.admission.plugins.pod_security import PodSecurity
from windlass.kube.admission.plugins.pods import (
    AlwaysPullImages,
    DefaultTolerationSeconds,
    Priority,
    RuntimeClass,
)
from windlass.kube.admission.plugins.service_account import ServiceAccount
from windlass.kube.admission.plugins.storage import PersistentVolumeClaimResize, StorageObjectInUseProtection
from windlass.kube.api.reader import Reader


def builtin(reader: Reader) -> list[Plugin]:
    """All plugins that need nothing but the cluster's objects."""
    return [
        NamespaceLifecycle(reader),
        LimitRanger(reader),
        ServiceAccount(reader),
        NodeRestriction(reader),
        TaintNodesByCondition(),
        AlwaysPullImages(),
        PodSecurity(reader),
        Priority(reader),
        DefaultTolerationSeconds(),
        RuntimeClass(reader),
        StorageObjectInUseProtection(),
        PersistentVolumeClaimResize(reader),
        DefaultIngressClass(reader),
        DefaultStorageClass(reader),
    ]
