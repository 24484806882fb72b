"""The bridge that pods are on: one for the node's part of the cluster's range.

Where the node gets another part while pods run, those stay on the bridge that they have, and new ones get another.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Any, Final

from windlass.errors import WindlassError
from windlass.networks import Networks
from windlass.networks.creation import MTU, NAMES, ROUTED

Object = dict[str, Any]

NAME: Final = "pods"
_LABEL: Final = "dev.windlass.kubernetes"


class PodNetwork:
    """Makes bridges. `cluster_cidr` is what nothing is translated within."""

    def __init__(self, networks: Networks, *, mtu: int, cluster_cidr: str) -> None:
        self._networks = networks
        self._mtu = mtu
        self._cluster_cidr = cluster_cidr

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
        name = NAME if NAME not in taken else f"{NAME}-{re.sub('[^0-9a-f]+', '-', cidr)}"
        await self._networks.create(
            {
                "Name": name,
                "Driver": "bridge",
                "IPAM": {"Config": [{"Subnet": cidr, "Gateway": str(next(ipaddress.ip_network(cidr).hosts()))}]},
                "Options": {NAMES: "false", MTU: str(self._mtu), ROUTED: self._cluster_cidr},
                "Labels": {_LABEL: NAME},
            }
        )
        return name
