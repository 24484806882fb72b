"""How a container is connected: its sandbox, its endpoints, its published ports.

```
 Attachment ─┬─ sandbox       netns path; None in the host's namespace, somebody else's with `container:`
             ├─ endpoints     by network name: Endpoint ─ Plug (interface, addresses), aliases, names
             └─ mappings      host address and port ─▶ container port
```

The engine keeps `to_json()` in the container's record and gives it back to `Networks.restore` when it starts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from windlass.networks.drivers.driver import Plug
from windlass.networks.ports import PortMapping, to_port_map

RESOLVER = "127.0.0.11"


class EndpointConfig(NamedTuple):
    """What a client asks of a container's place in a network (`EndpointSettings` of the API).

    Addresses and MAC are texts, "" is the network's choice.
    """

    ip: str = ""
    ip6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    link_local_ips: tuple[str, ...] = ()
    driver_opts: Mapping[str, str] | None = None
    gw_priority: int = 0

    @classmethod
    def from_api(cls, data: Mapping[str, Any] | None) -> EndpointConfig:
        """From the decoded JSON of `EndpointSettings`."""
        data = data or {}
        ipam = data.get("IPAMConfig") or {}
        return cls(
            ip=ipam.get("IPv4Address") or "",
            ip6=ipam.get("IPv6Address") or "",
            mac=data.get("MacAddress") or "",
            aliases=tuple(data.get("Aliases") or ()),
            links=tuple(data.get("Links") or ()),
            link_local_ips=tuple(ipam.get("LinkLocalIPs") or ()),
            driver_opts=dict(data["DriverOpts"]) if data.get("DriverOpts") else None,
            gw_priority=int(data.get("GwPriority") or 0),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "ip": self.ip,
            "ip6": self.ip6,
            "mac": self.mac,
            "aliases": list(self.aliases),
            "links": list(self.links),
            "linkLocalIps": list(self.link_local_ips),
            "driverOpts": None if self.driver_opts is None else dict(self.driver_opts),
            "gwPriority": self.gw_priority,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EndpointConfig:
        return cls(
            ip=str(data["ip"]),
            ip6=str(data["ip6"]),
            mac=str(data["mac"]),
            aliases=tuple(data["aliases"]),
            links=tuple(data["links"]),
            link_local_ips=tuple(data["linkLocalIps"]),
            driver_opts=None if data["driverOpts"] is None else dict(data["driverOpts"]),
            gw_priority=int(data["gwPriority"]),
        )


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A container's place in a network."""

    id: str
    network_id: str
    network_name: str
    plug: Plug = field(default_factory=Plug)
    config: EndpointConfig = field(default_factory=EndpointConfig)
    dns_names: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """`EndpointSettings` of API 1.51."""
        plug, config = self.plug, self.config
        ipam = {
            "IPv4Address": config.ip,
            "IPv6Address": config.ip6,
            "LinkLocalIPs": list(config.link_local_ips),
        }
        return {
            "IPAMConfig": {key: value for key, value in ipam.items() if value} or None,
            "Links": list(config.links) or None,
            "Aliases": list(config.aliases) or None,
            "MacAddress": plug.mac,
            "DriverOpts": None if config.driver_opts is None else dict(config.driver_opts),
            "GwPriority": config.gw_priority,
            "NetworkID": self.network_id,
            "EndpointID": self.id,
            "Gateway": str(plug.gateway or ""),
            "IPAddress": str(plug.ipv4.ip) if plug.ipv4 else "",
            "IPPrefixLen": plug.ipv4.network.prefixlen if plug.ipv4 else 0,
            "IPv6Gateway": str(plug.gateway6 or ""),
            "GlobalIPv6Address": str(plug.ipv6.ip) if plug.ipv6 else "",
            "GlobalIPv6PrefixLen": plug.ipv6.network.prefixlen if plug.ipv6 else 0,
            "DNSNames": list(self.dns_names) or None,
        }

    def member(self, container_name: str) -> dict[str, Any]:
        """The container's entry in a network's inspection."""
        return {
            "Name": container_name,
            "EndpointID": self.id,
            "MacAddress": self.plug.mac,
            "IPv4Address": str(self.plug.ipv4 or ""),
            "IPv6Address": str(self.plug.ipv6 or ""),
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "networkId": self.network_id,
            "networkName": self.network_name,
            "plug": self.plug.to_json(),
            "config": self.config.to_json(),
            "dnsNames": list(self.dns_names),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Endpoint:
        return cls(
            id=str(data["id"]),
            network_id=str(data["networkId"]),
            network_name=str(data["networkName"]),
            plug=Plug.from_json(data["plug"]),
            config=EndpointConfig.from_json(data["config"]),
            dns_names=tuple(str(each) for each in data["dnsNames"]),
        )


@dataclass(kw_only=True)
class Attachment:
    """A container's connections. Changed only by Networks.

    `netns_path` is the namespace to run in, None for the host's. `ports` is `NetworkSettings.Ports` of the API.
    `published_on` names the network whose endpoint has the published ports; `dns` are the container's own name servers.
    """

    container_id: str
    container_name: str
    network_mode: str
    hostname: str = ""
    sandbox_id: str = ""
    netns_path: str | None = None
    sandbox_owned: bool = False
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    mappings: tuple[PortMapping, ...] = ()
    published_on: str = ""
    exposed: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()

    @property
    def ports(self) -> dict[str, list[dict[str, str]] | None]:
        return to_port_map(self.mappings, self.exposed)

    def gateways(self) -> list[Endpoint]:
        """The endpoints by which there is a way out, the one that is taken first: by priority, then by name."""
        routed = [each for each in self.endpoints.values() if each.plug.gateway or each.plug.gateway6]
        return sorted(routed, key=lambda each: (-each.config.gw_priority, each.network_name))

    @property
    def named_networks(self) -> list[str]:
        """Ids of the networks in which containers know each other by name: all that somebody created."""
        return [each.network_id for each in self.endpoints.values() if each.dns_names]

    @property
    def resolver(self) -> str:
        """The name server of ours that the container is to ask, "" where it has none."""
        return RESOLVER if self.named_networks else ""

    def addresses(self) -> Sequence[ipaddress.IPv4Address | ipaddress.IPv6Address]:
        """The container's own addresses, as /etc/hosts lists them."""
        plugs = [each.plug for each in self.endpoints.values()]
        return [own.ip for plug in plugs for own in (plug.ipv4, plug.ipv6) if own is not None]

    def network_settings(self) -> dict[str, Any]:
        """`NetworkSettings` of a container's inspection, API 1.51. The top-level addresses are the default bridge's."""
        bridge = self.endpoints.get("bridge")
        own = bridge.settings() if bridge is not None else {}
        return {
            "Bridge": "",
            "SandboxID": self.sandbox_id,
            "SandboxKey": self.netns_path if self.sandbox_owned and self.netns_path else "",
            "Ports": self.ports,
            "HairpinMode": False,
            "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0,
            "SecondaryIPAddresses": None,
            "SecondaryIPv6Addresses": None,
            "EndpointID": own.get("EndpointID", ""),
            "Gateway": own.get("Gateway", ""),
            "GlobalIPv6Address": own.get("GlobalIPv6Address", ""),
            "GlobalIPv6PrefixLen": own.get("GlobalIPv6PrefixLen", 0),
            "IPAddress": own.get("IPAddress", ""),
            "IPPrefixLen": own.get("IPPrefixLen", 0),
            "IPv6Gateway": own.get("IPv6Gateway", ""),
            "MacAddress": own.get("MacAddress", ""),
            "Networks": {name: endpoint.settings() for name, endpoint in self.endpoints.items()},
        }

    def to_json(self) -> dict[str, Any]:
        """Everything that `Networks.restore` needs, as JSON."""
        return {
            "version": 1,
            "containerName": self.container_name,
            "networkMode": self.network_mode,
            "hostname": self.hostname,
            "sandboxId": self.sandbox_id,
            "netnsPath": self.netns_path,
            "sandboxOwned": self.sandbox_owned,
            "endpoints": [endpoint.to_json() for endpoint in self.endpoints.values()],
            "mappings": [mapping.to_json() for mapping in self.mappings],
            "publishedOn": self.published_on,
            "exposed": list(self.exposed),
            "dns": list(self.dns),
        }

    @classmethod
    def from_json(cls, container_id: str, data: Mapping[str, Any]) -> Attachment:
        """Raises ValueError where the record is damaged."""
        try:
            if data["version"] != 1:
                raise ValueError(f"version {data['version']!r} is not known")
            endpoints = [Endpoint.from_json(each) for each in data["endpoints"]]
            return cls(
                container_id=container_id,
                container_name=str(data["containerName"]),
                network_mode=str(data["networkMode"]),
                hostname=str(data["hostname"]),
                sandbox_id=str(data["sandboxId"]),
                netns_path=None if data["netnsPath"] is None else str(data["netnsPath"]),
                sandbox_owned=bool(data["sandboxOwned"]),
                endpoints={each.network_name: each for each in endpoints},
                mappings=tuple(PortMapping.from_json(each) for each in data["mappings"]),
                published_on=str(data["publishedOn"]),
                exposed=tuple(str(each) for each in data["exposed"]),
                dns=tuple(str(each) for each in data["dns"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"the network record of container {container_id} is damaged: {error}") from error
