"""Networks: drivers (bridge, host, none), address management, published ports, sandboxes, files for name resolution."""

from windlass.networks.attachment import Attachment, Endpoint, EndpointConfig
from windlass.networks.facade import Networks
from windlass.networks.settings import AddressPool, NetworkSettings, parse_address_pools

__all__ = [
    "AddressPool",
    "Attachment",
    "Endpoint",
    "EndpointConfig",
    "NetworkSettings",
    "Networks",
    "parse_address_pools",
]
