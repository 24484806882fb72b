"""What a kind of network can do. One file is one driver: bridge, host, none.

```
 start ─▶ plug ─▶ unplug ─▶ stop          a sandbox gets an interface of the network, and loses it
      └─▶ adopt ───┘                      after a restart of the daemon: what is plugged already is known again
```

Methods block (they wait for the kernel) and are called in worker threads, several at a time.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from windlass.networks.firewall import BridgeRules
from windlass.networks.sandbox import Sandbox


class PlugRequest(NamedTuple):
    """What somebody wants of an interface; None is what the network chooses.

    `default_route`: the network's gateway becomes the way out.
    """

    ipv4: ipaddress.IPv4Address | None = None
    ipv6: ipaddress.IPv6Address | None = None
    mac: str | None = None
    interface: str = "eth0"
    default_route: bool = True


@dataclass(frozen=True, kw_only=True)
class Plug:
    """An interface in a sandbox, as a driver made it: its names on both sides, addresses and gateways."""

    interface: str = ""
    host_link: str = ""
    mac: str = ""
    ipv4: ipaddress.IPv4Interface | None = None
    gateway: ipaddress.IPv4Address | None = None
    ipv6: ipaddress.IPv6Interface | None = None
    gateway6: ipaddress.IPv6Address | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "interface": self.interface,
            "hostLink": self.host_link,
            "mac": self.mac,
            "ipv4": str(self.ipv4 or ""),
            "gateway": str(self.gateway or ""),
            "ipv6": str(self.ipv6 or ""),
            "gateway6": str(self.gateway6 or ""),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plug:
        """Raises ValueError, KeyError or TypeError where the record is damaged."""
        return cls(
            interface=str(data["interface"]),
            host_link=str(data["hostLink"]),
            mac=str(data["mac"]),
            ipv4=ipaddress.IPv4Interface(data["ipv4"]) if data["ipv4"] else None,
            gateway=ipaddress.IPv4Address(data["gateway"]) if data["gateway"] else None,
            ipv6=ipaddress.IPv6Interface(data["ipv6"]) if data["ipv6"] else None,
            gateway6=ipaddress.IPv6Address(data["gateway6"]) if data["gateway6"] else None,
        )


class Driver(Protocol):
    """One network of a kind."""

    @property
    def kind(self) -> str:
        """The driver's name in the API."""

    def start(self) -> None:
        """Make in the kernel what the network stands on, or find it there. Raises WindlassError, OSError."""

    def stop(self) -> None:
        """Remove what `start` made. Raises OSError."""

    def rules(self) -> BridgeRules | None:
        """What the firewall must know, None where it need not."""

    def plug(self, sandbox: Sandbox, request: PlugRequest) -> Plug:
        """Give the sandbox an interface. Raises WindlassError, OSError; then nothing was changed."""

    @property
    def has_services(self) -> bool:
        """Whether a container may be what is behind a service that it connects to."""
        ...

    def reach_itself(self, plug: Plug) -> None:
        """The container behind the plug publishes ports: let it reach them, too. Raises OSError."""

    def adopt(self, plug: Plug) -> None:
        """Take over what an earlier daemon plugged. Raises WindlassError where its addresses are not free."""

    def release(self, plug: Plug) -> None:
        """The interface is gone: its addresses are free again."""
