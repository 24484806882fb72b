"""Addresses and ports of services: none is given twice, what is freed can be given again.

    Services hook ─ ServiceCIDR's range ─▶ clusterIP          what is in use is known from the services themselves
                  ─ 30000-32767         ─▶ nodePort

The upper part of a range is for addresses that nobody asks for by name, the lower for those that somebody does.

Source: https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable
from typing import Any

from windlass.kube.api import objects, status
from windlass.kube.api.operations.environment import Actor, Hook, Release
from windlass.kube.api.reader import Reader
from windlass.kube.api.resource import Object
from windlass.kube.api.status import FieldError, invalid_value

NODE_PORTS = range(30000, 32768)
_TRIES = 64

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ServiceHook(Hook):
    """Allocates for services. What is being written and not yet in the cache is held in `_held`."""

    def __init__(self, reader: Reader, networks: Iterable[Network]) -> None:
        self._reader = reader
        self._networks = list(networks)
        self._held_addresses: set[str] = set()
        self._held_ports: set[tuple[int, str]] = set()

    async def before_create(self, obj: Object, actor: Actor) -> Release | None:
        """See `Hook.before_create`."""
        return self._allocate(obj, None)

    async def before_update(self, new: Object, old: Object, actor: Actor) -> Release | None:
        """See `Hook.before_update`."""
        return self._allocate(new, old)

    def _used_addresses(self) -> set[str]:
        found = set(self._held_addresses)
        for service in self._reader.list("", "services"):
            spec = service.get("spec") or {}
            found |= {each for each in spec.get("clusterIPs") or [spec.get("clusterIP")] if each}
        return found

    def _used_ports(self, own: str) -> set[tuple[int, str]]:
        found = set(self._held_ports)
        for service in self._reader.list("", "services"):
            if service["metadata"].get("uid") == own:
                continue
            spec = service.get("spec") or {}
            for port in spec.get("ports") or ():
                if port.get("nodePort"):
                    found.add((port["nodePort"], port.get("protocol", "TCP")))
            if spec.get("healthCheckNodePort"):
                found.add((spec["healthCheckNodePort"], "TCP"))
        return found

    def _allocate(self, obj: Object, old: Object | None) -> Release:
        addresses: list[str] = []
        ports: list[tuple[int, str]] = []

        def release() -> None:
            self._held_addresses.difference_update(addresses)
            self._held_ports.difference_update(ports)

        try:
            self._allocate_address(obj, old, addresses)
            self._allocate_ports(obj, ports)
        except BaseException:
            release()
            raise
        return release

    def _allocate_address(self, obj: Object, old: Object | None, held: list[str]) -> None:
        spec = obj["spec"]
        if spec.get("type") == "ExternalName":
            return
        wanted = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), "")
        before = ((old or {}).get("spec") or {}).get("clusterIP")
        network = self._networks[0]
        if not wanted:
            wanted = self._free(network)
            held.append(wanted)
            self._held_addresses.add(wanted)
        elif wanted not in ("None", before):
            self._claim(obj, wanted)
            held.append(wanted)
            self._held_addresses.add(wanted)
        spec["clusterIP"] = wanted
        spec["clusterIPs"] = [wanted]
        if wanted != "None" or spec.get("selector"):
            family = "IPv6" if ":" in wanted or (wanted == "None" and network.version == 6) else "IPv4"
            spec.setdefault("ipFamilies", [family])
            spec.setdefault("ipFamilyPolicy", "SingleStack")
        else:
            spec.setdefault("ipFamilies", ["IPv4" if network.version == 4 else "IPv6"])
            spec.setdefault("ipFamilyPolicy", "RequireDualStack")

    def _claim(self, obj: Object, wanted: str) -> None:
        path = "spec.clusterIPs"
        try:
            address = ipaddress.ip_address(wanted)
        except ValueError:
            raise _invalid(obj, invalid_value(f"{path}[0]", wanted, "must be a valid IP address")) from None
        if not any(address in network for network in self._networks):
            detail = f"failed to allocate IP {wanted}: the provided network does not match the current range"
            raise _invalid(obj, invalid_value(path, [wanted], detail))
        if wanted in self._used_addresses():
            detail = f"failed to allocate IP {wanted}: provided IP is already allocated"
            raise _invalid(obj, invalid_value(path, [wanted], detail))

    def _free(self, network: Network) -> str:
        used = self._used_addresses()
        first, size = int(network.network_address), network.num_addresses
        reserved = min(max(16, size // 16), 256)
        for begin in (reserved if size > 2 * reserved else 1, 1):
            for _ in range(_TRIES):
                text = str(ipaddress.ip_address(first + random.randrange(begin, max(size - 1, begin + 1))))  # noqa: S311
                if text not in used:
                    return text
        for number in range(1, size - 1):
            text = str(ipaddress.ip_address(first + number))
            if text not in used:
                return text
        raise status.internal_error("failed to allocate a serviceIP: range is full")

    def _allocate_ports(self, obj: Object, held: list[tuple[int, str]]) -> None:
        spec = obj["spec"]
        kind = spec.get("type")
        if kind not in ("NodePort", "LoadBalancer"):
            return
        if kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
            return
        used = self._used_ports(obj["metadata"].get("uid", ""))
        mine: dict[int, int] = {}
        for index, port in enumerate(spec.get("ports") or ()):
            protocol = port.get("protocol", "TCP")
            wanted = port.get("nodePort")
            if wanted:
                if wanted not in NODE_PORTS:
                    detail = (
                        "provided port is not in the valid range. The range of valid ports is "
                        f"{NODE_PORTS.start}-{NODE_PORTS.stop - 1}"
                    )
                    raise _invalid(obj, invalid_value(f"spec.ports[{index}].nodePort", wanted, detail))
                if (wanted, protocol) in used:
                    detail = "provided port is already allocated"
                    raise _invalid(obj, invalid_value(f"spec.ports[{index}].nodePort", wanted, detail))
            else:
                wanted = mine.get(port.get("port", 0)) or self._free_port(used)
                port["nodePort"] = wanted
            mine[port.get("port", 0)] = wanted
            used.add((wanted, protocol))
            held.append((wanted, protocol))
            self._held_ports.add((wanted, protocol))
        if (
            kind == "LoadBalancer"
            and spec.get("externalTrafficPolicy") == "Local"
            and not spec.get("healthCheckNodePort")
        ):
            found = self._free_port(used)
            spec["healthCheckNodePort"] = found
            held.append((found, "TCP"))
            self._held_ports.add((found, "TCP"))

    @staticmethod
    def _free_port(used: set[tuple[int, str]]) -> int:
        taken = {number for number, _ in used}
        free = [number for number in NODE_PORTS if number not in taken]
        if not free:
            raise status.internal_error("failed to allocate a nodePort: range is full")
        return random.choice(free)  # noqa: S311  # spreads, keeps no secret


def _invalid(obj: Object, error: FieldError) -> status.StatusError:
    return status.invalid("Service", "", objects.name_of(obj), [error])


def networks_of(text: str) -> list[Network]:
    """The ranges of a flag. Raises ValueError."""
    found: list[Any] = [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]
    return found
