"""Published ports: what a client asks (`PortBindings`), and what it gets.

```
 "80/tcp": [{"HostIp": "", "HostPort": "8000-8010"}]
      │                │              └ a port, a range to choose from, or nothing: any free port
      │                └ an address of the host; nothing is every address, IPv4 and IPv6
      └ the container's port
 PortRequest(80, tcp, host addresses (0.0.0.0, ::), 8000, 8010)  ─▶  PortMapping × 2: same host port on each address
```

Pure functions; what they read is a client's text, so every fault is an InvalidParameter in dockerd's words.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from windlass.errors import InvalidParameter
from windlass.networks.settings import IPAddress

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}

ANY_V4 = ipaddress.IPv4Address(0)
ANY_V6 = ipaddress.IPv6Address(0)


class PortRequest(NamedTuple):
    """One container port to publish, on the same host port at each of the host addresses.

    `first` and `last` bound the choice; both 0 is any free port.
    """

    container_port: int
    protocol: str
    host_addresses: tuple[IPAddress, ...]
    first: int
    last: int


class PortMapping(NamedTuple):
    """A published port: connections to `host_address:host_port` reach `container_port`."""

    protocol: str
    host_address: IPAddress
    host_port: int
    container_port: int

    def to_json(self) -> dict[str, Any]:
        return {
            "protocol": self.protocol,
            "hostAddress": str(self.host_address),
            "hostPort": self.host_port,
            "containerPort": self.container_port,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PortMapping:
        """Raises ValueError, KeyError or TypeError where the record is damaged."""
        host, container = int(data["hostPort"]), int(data["containerPort"])
        if data["protocol"] not in PROTOCOLS or not 0 < host < 65536 or not 0 < container < 65536:
            raise ValueError(f"not a port mapping: {data!r}")
        return cls(data["protocol"], ipaddress.ip_address(data["hostAddress"]), host, container)


def _number(text: str) -> int | None:
    # Only plain digits: no sign, no underscore, no other script's digits, all of which int() takes.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535 else None


def parse_port(text: str) -> tuple[int, str]:
    """`80`, `80/tcp` as number and protocol. Raises InvalidParameter."""
    number, slash, protocol = text.partition("/")
    port = _number(number)
    protocol = protocol.lower() if slash else "tcp"
    if port is None or port == 0:
        raise InvalidParameter(f'invalid port specification: "{text}"')
    if protocol not in PROTOCOLS:
        raise InvalidParameter(f"invalid proto: {protocol}")
    return port, protocol


def parse_host_ports(text: str) -> tuple[int, int]:
    """`8080`, `8000-8010` as first and last; nothing or `0` is (0, 0). Raises InvalidParameter."""
    if not text:
        return 0, 0
    first_text, dash, last_text = text.partition("-")
    first = _number(first_text)
    last = _number(last_text) if dash else first
    if first is None or last is None or last < first or (first == 0) != (last == 0):
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return first, last


def _host_addresses(text: str, defaults: tuple[IPAddress, ...]) -> tuple[IPAddress, ...]:
    if not text:
        return defaults
    try:
        address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise InvalidParameter(f"invalid IP address: {text}") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise InvalidParameter(f"invalid IP address: {text}: an address with a zone cannot be published")
        # An IPv4 address in IPv6 notation is meant as the IPv4 address that it is.
        return (address.ipv4_mapped or address,)
    return (address,)


def parse_port_bindings(
    bindings: Mapping[str, Sequence[Mapping[str, Any]] | None] | None, defaults: tuple[IPAddress, ...]
) -> tuple[PortRequest, ...]:
    """`HostConfig.PortBindings` of the Engine API; `defaults` are the host addresses of bindings that name none.

    Raises InvalidParameter.
    """
    requests: list[PortRequest] = []
    for text, hosts in (bindings or {}).items():
        port, protocol = parse_port(text)
        for host in hosts or ({},):
            first, last = parse_host_ports(str(host.get("HostPort") or ""))
            addresses = _host_addresses(str(host.get("HostIp") or ""), defaults)
            requests.append(PortRequest(port, protocol, addresses, first, last))
    return tuple(requests)


def to_port_map(mappings: Iterable[PortMapping], exposed: Iterable[str] = ()) -> dict[str, list[dict[str, str]] | None]:
    """`NetworkSettings.Ports`: published ports with their host ends, ports that are only exposed with null."""
    ports: dict[str, list[dict[str, str]] | None] = {}
    for mapping in mappings:
        key = f"{mapping.container_port}/{mapping.protocol}"
        ends = ports.setdefault(key, [])
        assert ends is not None
        ends.append({"HostIp": str(mapping.host_address), "HostPort": str(mapping.host_port)})
    for port in exposed:
        ports.setdefault(port, None)
    return ports
