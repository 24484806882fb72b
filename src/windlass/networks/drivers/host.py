"""`host`: the host's own network namespace. There is nothing to make, so there is no sandbox either."""

from __future__ import annotations

from windlass.networks.drivers.none import NullNetwork


class HostNetwork(NullNetwork):
    """The host's interfaces, addresses and ports, shared."""

    kind = "host"
