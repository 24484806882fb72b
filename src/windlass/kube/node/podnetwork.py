"""The bridge that pods are on: one for the node's part of the cluster's range.

Where the node gets another part while pods run, those stay on the bridge that they have, and new ones get another.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
from typing import Any, Final

from windlass.errors import WindlassError
from windlass.networks import Networks
from windlass.networks.creation import MTU, NAMES, ROUTED, SERVICES
from windlass.networks.sandbox import read_sysctl, write_sysctl

Object = dict[str, Any]

NAME: Final = "pods"
_LABEL: Final = "dev.windlass.kubernetes"
_BRIDGED: Final = "net/bridge/bridge-nf-call-iptables"

log = logging.getLogger("windlass.kube.node")


class PodNetwork:
    """Makes bridges. Within `cluster_cidr` nothing is translated; `service_cidr` is the service proxy's."""

    def __init__(self, networks: Networks, *, mtu: int, cluster_cidr: str, service_cidr: str) -> None:
        self._networks = networks
        self._mtu = mtu
        self._cluster_cidr = cluster_cidr
        # Without br_netfilter, answers within the bridge would not pass the translation: then the source is ours.
        self._service_cidr = service_cidr if sees_bridged() else ""

    async def ensure(self, cidr: str) -> str:
        """Have a bridge for these addresses, and none that no pod is on; its name. Raises WindlassError."""
        found = ""
        for each in self._networks.list({"label": [f"{_LABEL}={NAME}"]}):
            name = str(each["Name"])
            if any(entry.get("Subnet") == cidr for entry in each["IPAM"]["Config"]):
                found = name
                continue
            # Pods may still be on it.
            with contextlib.suppress(WindlassError):
                await self._networks.remove(name)
        return found or await self._create(cidr)

    async def _create(self, cidr: str) -> str:
        taken = {each["Name"] for each in self._networks.list()}
        services = {SERVICES: self._service_cidr} if self._service_cidr else {}
        name = NAME if NAME not in taken else f"{NAME}-{re.sub('[^0-9a-f]+', '-', cidr)}"
        await self._networks.create(
            {
                "Name": name,
                "Driver": "bridge",
                "IPAM": {"Config": [{"Subnet": cidr, "Gateway": str(next(ipaddress.ip_network(cidr).hosts()))}]},
                "Options": {NAMES: "false", MTU: str(self._mtu), ROUTED: self._cluster_cidr} | services,
                "Labels": {_LABEL: NAME},
            }
        )
        return name


def sees_bridged() -> bool:
    """Have the packet filter see packets within a bridge, too (br_netfilter); whether it does."""
    try:
        if read_sysctl(_BRIDGED) != "1":
            write_sysctl(_BRIDGED, "1")
    except OSError as error:
        log.warning("pods of this node see its address instead of each other's behind a service: %s", error)
        return False
    return True
