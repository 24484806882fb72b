"""What the cluster tells its nodes, in a ConfigMap of kube-system that nodes may read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from windlass.errors import WindlassError
from windlass.kube.api.authorization.defaults import CLUSTER_CONFIGURATION
from windlass.kube.api.resource import Object
from windlass.kube.client import APIClient

NAMESPACE = "kube-system"
DNS_SERVICE = (NAMESPACE, "kube-dns")


class BadClusterConfiguration(WindlassError):
    """The ConfigMap lacks something."""


@dataclass(frozen=True, kw_only=True)
class ClusterConfiguration:
    """Attributes:

    cluster_cidr: addresses of pods, one range of each family at most, separated by commas.
    service_cidr: addresses of services, the same.
    cluster_dns: the address of the cluster's name server.
    cluster_domain: such as cluster.local.
    backend: how packets get from node to node: vxlan, host-gw, none.
    """

    cluster_cidr: str
    service_cidr: str
    cluster_dns: str
    cluster_domain: str
    backend: str

    async def publish(self, client: APIClient) -> None:
        """Write it. Raises StatusError."""
        data = asdict(self)
        config_map: Object = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CLUSTER_CONFIGURATION, "namespace": NAMESPACE},
            "data": data,
        }
        await client.ensure("", "configmaps", config_map)
        await client.patch("", "configmaps", NAMESPACE, CLUSTER_CONFIGURATION, {"data": data})

    @classmethod
    async def read(cls, client: APIClient) -> ClusterConfiguration:
        """Raises StatusError, BadClusterConfiguration."""
        found = await client.get("", "configmaps", NAMESPACE, CLUSTER_CONFIGURATION)
        data = found.get("data") or {}
        missing = [each.name for each in fields(cls) if each.name not in data]
        if missing:
            raise BadClusterConfiguration(f"the cluster's configuration says nothing of {', '.join(missing)}")
        return cls(**{each.name: str(data[each.name]) for each in fields(cls)})
