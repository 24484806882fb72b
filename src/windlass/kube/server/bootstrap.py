"""What stands in a cluster from its first moment: namespaces, default roles, priority classes, flow control."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from windlass.kube.agent.configuration import DNS_SERVICE
from windlass.kube.api import objects
from windlass.kube.api.authorization import defaults as rbac_defaults
from windlass.kube.api.flowcontrol import defaults as flow_defaults
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import Client
from windlass.kube.node.storage import PROVISIONER

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_RBAC = "rbac.authorization.k8s.io"
_FLOW = "flowcontrol.apiserver.k8s.io"
_SCHEDULING = "scheduling.k8s.io"
_PRIORITIES = (
    (
        "system-node-critical",
        2000001000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2000000000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
)


_STORAGE_CLASS: Object = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": "local-path",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": PROVISIONER,
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "WaitForFirstConsumer",
}


async def bootstrap(client: Client) -> None:
    """Make what is missing and complete what is incomplete; what users changed on purpose stays."""
    await _together([client.ensure("", "namespaces", _namespace(name)) for name in NAMESPACES])
    found = [_reconcile_role(client, resource, wanted) for resource, wanted in rbac_defaults.objects()]
    found += [client.ensure(_FLOW, resource, wanted) for resource, wanted in flow_defaults.objects()]
    found.append(client.ensure("storage.k8s.io", "storageclasses", _STORAGE_CLASS))
    found += [client.ensure(_SCHEDULING, "priorityclasses", _priority(*each)) for each in _PRIORITIES]
    await _together(found)


async def publish_dns(client: Client, address: str) -> None:
    """The service by which pods reach the name server of their node. Raises StatusError."""
    namespace, name = DNS_SERVICE
    service: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
        },
        "spec": {
            "clusterIP": address,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            ],
        },
    }
    await client.ensure("", "services", service)


async def _together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """At once: so they share the store's commits."""
    async with asyncio.TaskGroup() as group:
        for each in work:
            group.create_task(each)


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _priority(name: str, value: int, description: str) -> Object:
    return {
        "apiVersion": f"{_SCHEDULING}/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
        "description": description,
    }


async def _reconcile_role(client: Client, resource: str, wanted: Object) -> None:
    namespace, name = objects.namespace_of(wanted), objects.name_of(wanted)
    try:
        stored: Object | None = await client.get(_RBAC, resource, namespace, name)
    except StatusError as error:
        if error.code != 404:
            raise
        stored = None
    merged = rbac_defaults.reconcile(wanted, stored)
    if merged is None:
        return
    if stored is None:
        await client.ensure(_RBAC, resource, merged)
    elif merged.get("roleRef") != stored.get("roleRef"):
        await client.delete(_RBAC, resource, namespace, name)
        merged["metadata"] = dict(wanted["metadata"])
        await client.ensure(_RBAC, resource, merged)
    else:
        await client.update(_RBAC, resource, namespace, name, lambda _live: objects.copy(merged))


async def publish_server(client: Client, service: str, port: int, cidr: str) -> None:
    """The Service `kubernetes` by which pods reach the servers, and the range of services."""
    await client.ensure(
        "networking.k8s.io",
        "servicecidrs",
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": [part.strip() for part in cidr.split(",")]},
        },
    )
    labels = {"component": "apiserver", "provider": "kubernetes"}
    await client.ensure(
        "",
        "services",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
            "spec": {
                "clusterIP": service,
                "type": "ClusterIP",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
            },
        },
    )
