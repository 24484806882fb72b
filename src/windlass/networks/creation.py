"""Networks that somebody creates: what a request may say, and what bridge follows from a record. Pure, but for nothing.

```
 {"Name": "back", "Driver": "bridge", "Internal": false, "EnableIPv6": false, "Labels": {}, "Options": {...},
  "IPAM": {"Config": [{"Subnet": "10.7.0.0/24", "IPRange": "10.7.0.128/25", "Gateway": "10.7.0.1",
                       "AuxiliaryAddresses": {"printer": "10.7.0.9"}}]}}

 option com.docker.network.…    bridge.name, bridge.enable_icc, bridge.enable_ip_masquerade, bridge.host_binding_ipv4,
                                bridge.gateway_mode_ipv4 (nat), bridge.gateway_mode_ipv6 (nat), driver.mtu,
                                container_iface_prefix; others are kept and have no effect, as with dockerd
 option dev.windlass.network.names = false              no name server of ours in this network
 option dev.windlass.network.routed = 10.42.0.0/16      a part of this: reached by everybody, not masqueraded there
 option dev.windlass.network.services = 10.43.0.0/16    others translate these; who connects is not masqueraded
```
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from windlass.errors import Conflict, Forbidden, InvalidParameter, NotFound, NotImplementedByEngine
from windlass.kernel.netlink.link import check_name
from windlass.networks.drivers.bridge import BridgeConfig
from windlass.networks.record import PREDEFINED, IpamConfig, NetworkRecord
from windlass.networks.settings import IPAddress, Network

_PREFIX = "com.docker.network."
NAME, ICC, MASQUERADE = (f"{_PREFIX}bridge.{each}" for each in ("name", "enable_icc", "enable_ip_masquerade"))
HOST_BINDING = f"{_PREFIX}bridge.host_binding_ipv4"
MTU, INTERFACE_PREFIX = f"{_PREFIX}driver.mtu", f"{_PREFIX}container_iface_prefix"
NAMES, ROUTED = "dev.windlass.network.names", "dev.windlass.network.routed"
SERVICES = "dev.windlass.network.services"
_GATEWAY_MODES = (f"{_PREFIX}bridge.gateway_mode_ipv4", f"{_PREFIX}bridge.gateway_mode_ipv6")
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
_KNOWN_DRIVERS = {"macvlan", "ipvlan", "overlay"}


class SubnetRequest(NamedTuple):
    """One entry of `IPAM.Config`; `subnet` None is one of our choice."""

    subnet: Network | None
    ip_range: Network | None
    gateway: IPAddress | None
    auxiliary: Mapping[str, str]


class CreateRequest(NamedTuple):
    """A checked request for a bridge network."""

    name: str
    internal: bool
    attachable: bool
    enable_ipv6: bool
    ipam: tuple[SubnetRequest, ...]
    ipam_options: Mapping[str, str] | None
    options: Mapping[str, str]
    labels: Mapping[str, str]


def _mapping(value: object, what: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise InvalidParameter(f"invalid {what}: not an object of strings")
    return dict(value)


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key) or ""
    if not isinstance(value, str):
        raise InvalidParameter(f"invalid {key}: {value!r} is no text")
    return value


def _flag(body: Mapping[str, Any], key: str, *, default: bool = False) -> bool:
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidParameter(f"invalid {key}: {value!r} is neither true nor false")
    return value


def _parse(parse: Callable[[str], Any], text: object, what: str) -> Any:
    if not text:
        return None
    try:
        if not isinstance(text, str):
            raise ValueError("not a string")
        return parse(text)
    except ValueError as error:
        raise InvalidParameter(f"invalid network config:\ninvalid {what} {text}: {error}") from None


def _subnet(text: str) -> Network:
    interface = ipaddress.ip_interface(text)
    if interface.ip != interface.network.network_address:
        raise ValueError(f"it should be {interface.network}")
    return interface.network


def _parse_subnet(entry: object) -> SubnetRequest:
    if not isinstance(entry, Mapping):
        raise InvalidParameter("invalid network config:\nIPAM.Config is not a list of objects")
    subnet: Network | None = _parse(_subnet, entry.get("Subnet"), "subnet")
    ip_range: Network | None = _parse(_subnet, entry.get("IPRange"), "ip-range")
    gateway: IPAddress | None = _parse(ipaddress.ip_address, entry.get("Gateway"), "gateway")
    auxiliary = _mapping(entry.get("AuxiliaryAddresses"), "auxiliary addresses")
    if subnet is None:
        if ip_range is not None or gateway is not None or auxiliary:
            raise InvalidParameter("invalid network config:\nan address without a subnet")
        return SubnetRequest(None, None, None, {})
    if ip_range is not None and (ip_range.version != subnet.version or not ip_range.subnet_of(subnet)):  # type: ignore[arg-type]
        raise InvalidParameter(f"invalid network config:\ninvalid ip-range {ip_range}: parent subnet is {subnet}")
    for what, address in [
        ("gateway", gateway),
        *((f"auxiliary address {key}", value) for key, value in auxiliary.items()),
    ]:
        inside = _parse(lambda text: ipaddress.ip_address(text), str(address or ""), what)
        if inside is not None and inside not in subnet:
            raise InvalidParameter(f"invalid network config:\ninvalid {what} {inside}: parent subnet is {subnet}")
    return SubnetRequest(subnet, ip_range, gateway, auxiliary)


def parse_create(body: Mapping[str, Any]) -> CreateRequest:
    """The body of `POST /networks/create`.

    Raises InvalidParameter, Forbidden (predefined), NotFound (unknown driver), NotImplementedByEngine.
    """
    name, driver = body.get("Name"), _text(body, "Driver") or "bridge"
    if not isinstance(name, str) or not name.strip():
        raise InvalidParameter("invalid name: name is empty")
    if name in PREDEFINED or name == "default":
        raise Forbidden(f"operation is not permitted on predefined {name} network")
    _check_driver(driver)
    source = body.get("ConfigFrom") or {}
    if not isinstance(source, Mapping):
        raise InvalidParameter("invalid ConfigFrom: not an object")
    if _flag(body, "ConfigOnly") or source.get("Network"):
        raise NotImplementedByEngine("configuration-only networks are not supported")
    if _flag(body, "Ingress"):
        raise InvalidParameter("ingress network cannot be created on a node that is no swarm manager")
    if not _flag(body, "EnableIPv4", default=True):
        raise NotImplementedByEngine("networks without IPv4 are not supported")
    ipam = body.get("IPAM") or {}
    if not isinstance(ipam, Mapping) or not isinstance(ipam.get("Config") or [], list):
        raise InvalidParameter("invalid network config:\nIPAM is not an object with a list Config")
    allocator = _text(ipam, "Driver") or "default"
    if allocator != "default":
        raise NotFound(f'could not find plugin {allocator} in v1 plugin registry: plugin "{allocator}" not found')
    subnets = [_parse_subnet(entry) for entry in ipam.get("Config") or ()]
    versions = [each.subnet.version for each in subnets if each.subnet is not None]
    if len(versions) != len(set(versions)):
        raise InvalidParameter("bridge driver doesn't support multiple subnets")
    enable_ipv6 = _flag(body, "EnableIPv6")
    if 6 in versions and not enable_ipv6:
        raise InvalidParameter("invalid network config:\nIPv6 is disabled, and an IPv6 subnet is given")
    options = _mapping(body.get("Options"), "options")
    check_options(options)
    return CreateRequest(
        name=name,
        internal=_flag(body, "Internal"),
        attachable=_flag(body, "Attachable"),
        enable_ipv6=enable_ipv6,
        ipam=tuple(each for each in subnets if each.subnet is not None),
        ipam_options=_mapping(ipam["Options"], "IPAM options") if ipam.get("Options") is not None else {},
        options=options,
        labels=_mapping(body.get("Labels"), "labels"),
    )


def _check_driver(driver: str) -> None:
    if driver in {"host", "null"}:
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver in _KNOWN_DRIVERS:
        raise NotImplementedByEngine(f"network driver {driver} is not supported")
    if driver != "bridge":
        raise NotFound(f'could not find plugin {driver} in v1 plugin registry: plugin "{driver}" not found')


def check_options(options: Mapping[str, str]) -> None:
    """Raises InvalidParameter, NotImplementedByEngine."""
    for key in (ICC, MASQUERADE):
        if key in options and options[key] not in _BOOLEANS:
            raise InvalidParameter(f"failed to parse {key} value: {options[key]} (invalid syntax)")
    for key in _GATEWAY_MODES:
        if options.get(key, "nat") not in {"", "nat"}:
            raise NotImplementedByEngine(f"gateway mode {options[key]} is not supported")
    mtu = options.get(MTU, "")
    if mtu and not (mtu.isascii() and mtu.isdigit() and 68 <= int(mtu) <= 65535):
        raise InvalidParameter(f"failed to parse {MTU} value: {mtu} (invalid syntax)")
    try:
        if options.get(NAME):
            check_name(options[NAME])
        if options.get(INTERFACE_PREFIX):
            check_name(options[INTERFACE_PREFIX] + "0")
        if options.get(HOST_BINDING):
            ipaddress.IPv4Address(options[HOST_BINDING])
        _ranges(options, ROUTED)
        _ranges(options, SERVICES)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None


def _ranges(options: Mapping[str, str], name: str) -> tuple[Network, ...]:
    """Raises ValueError."""
    return tuple(ipaddress.ip_network(each.strip()) for each in options.get(name, "").split(",") if each.strip())


def bridge_name(record: NetworkRecord) -> str:
    return record.options.get(NAME) or f"wl-{record.id[:12]}"


def check_overlap(wanted: Iterable[Network], others: Iterable[NetworkRecord]) -> None:
    """Raises Forbidden with dockerd's words where a chosen subnet is another network's already."""
    for subnet in wanted:
        for other in others:
            for config in other.ipam:
                if config.subnet.version == subnet.version and config.subnet.overlaps(subnet):
                    reason = "Pool overlaps with other one on this address space"
                    raise Forbidden(f"invalid pool request: {reason}: {subnet} and network {other.name}")


def check_bridge_name(record: NetworkRecord, others: Iterable[NetworkRecord]) -> None:
    """Raises Conflict where another network has the same bridge."""
    for other in others:
        if other.driver == "bridge" and bridge_name(other) == bridge_name(record):
            raise Conflict(f"network {other.name} already uses bridge {bridge_name(record)}")


def bridge_config(record: NetworkRecord, *, mtu: int, group: int) -> BridgeConfig:
    """The bridge of a recorded network; `mtu` in bytes where its options name none. Raises ValueError."""
    by_version: dict[int, IpamConfig] = {each.subnet.version: each for each in record.ipam}
    own = {
        version: ipaddress.ip_interface(f"{config.gateway}/{config.subnet.prefixlen}")
        for version, config in by_version.items()
    }
    own4, own6 = own.get(4), own.get(6)
    if not isinstance(own4, ipaddress.IPv4Interface):
        raise ValueError(f"network {record.name} has no IPv4 subnet")
    reserved = [ipaddress.ip_address(each) for config in record.ipam for each in config.auxiliary.values()]
    return BridgeConfig(
        name=bridge_name(record),
        network_name=record.name,
        network_id=record.id,
        ipv4=own4,
        ipv6=own6 if isinstance(own6, ipaddress.IPv6Interface) else None,
        within=by_version[4].ip_range,
        within6=by_version[6].ip_range if 6 in by_version else None,
        reserved=tuple(reserved),
        mtu=int(record.options.get(MTU) or mtu),
        icc=_BOOLEANS[record.options.get(ICC, "true")],
        masquerade=_BOOLEANS[record.options.get(MASQUERADE, "true")],
        internal=record.internal,
        routed=_ranges(record.options, ROUTED),
        services=_ranges(record.options, SERVICES),
        group=group,
    )
