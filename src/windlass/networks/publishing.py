"""Publishing ports: the order in which host ports, firewall, tracked connections and relays change together.

```
 publish    reserve host ports ─▶ firewall (one transaction) ─▶ forget old UDP flows ─▶ relay what the kernel cannot
 withdraw   relays ─▶ firewall ─▶ forget UDP flows ─▶ release host ports
```

A port is held before it is translated and let go after, so that two containers never have it at once. Whatever fails,
what was done before it is undone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from windlass.errors import SystemFailure
from windlass.kernel.netlink import conntrack
from windlass.kernel.netlink.connection import NetlinkSocket
from windlass.networks.drivers.driver import Plug
from windlass.networks.firewall import Firewall, Translation
from windlass.networks.ports import PROTOCOLS, PortMapping, PortRequest
from windlass.networks.relay import Relay, Target, make_relay
from windlass.networks.reservations import Held, PortReservations
from windlass.networks.settings import IPAddress

log = logging.getLogger(__name__)

Runner = Callable[..., Awaitable[Any]]


@dataclass
class Published:
    """What one container has published."""

    held: list[Held] = field(default_factory=list)
    translations: list[Translation] = field(default_factory=list)
    relays: list[Relay] = field(default_factory=list)

    @property
    def mappings(self) -> tuple[PortMapping, ...]:
        return tuple(each.mapping for each in self.held)


def translate(mapping: PortMapping, plug: Plug) -> Translation | None:
    """The translation for a mapping, None where the kernel has none: the container lacks that IP version."""
    own = plug.ipv4 if mapping.host_address.version == 4 else plug.ipv6
    if own is None:
        return None
    return Translation(mapping.protocol, mapping.host_address, mapping.host_port, own.ip, mapping.container_port)


def relay_target(mapping: PortMapping, plug: Plug) -> Target | None:
    """Where a relay for a mapping must lead, None where the kernel does it all."""
    host = mapping.host_address
    if host.version == 4 or (plug.ipv6 is not None and not (host.is_unspecified or host.is_loopback)):
        return None
    own = plug.ipv6 or plug.ipv4
    return Target(own.ip, mapping.container_port) if own is not None else None


class Publisher:
    """Publishes ports of containers for one daemon."""

    def __init__(
        self,
        firewall: Firewall,
        reservations: PortReservations,
        connections: NetlinkSocket,
        run: Runner,
        *,
        relays: bool,
    ) -> None:
        """`connections` speaks NETLINK_NETFILTER; `run` calls a function in a thread; `relays` allows relays."""
        self._firewall, self._reservations, self._connections = firewall, reservations, connections
        self._run, self._relays = run, relays

    async def publish(self, requests: Sequence[PortRequest], plug: Plug, endpoint: str) -> Published:
        """Publish ports of the container behind `plug`. `endpoint` is its name and id for errors.

        Raises SystemFailure with dockerd's words; then nothing is published.
        """
        if not requests:
            return Published()
        try:
            published: Published = await self._run(self._publish, requests, plug)
            try:
                await self.start_relays(published, plug)
            except BaseException:
                await self.withdraw(published)
                raise
        except (SystemFailure, OSError) as error:
            raise SystemFailure(
                f"driver failed programming external connectivity on endpoint {endpoint}: {error}"
            ) from error
        return published

    def _publish(self, requests: Sequence[PortRequest], plug: Plug) -> Published:
        published = Published()
        container: IPAddress | None = next((own.ip for own in (plug.ipv4, plug.ipv6) if own is not None), None)
        assert container is not None, "only plugs with an address publish"
        try:
            for request in requests:
                published.held += self._reservations.reserve(request, container)
            found = (translate(mapping, plug) for mapping in published.mappings)
            published.translations = [each for each in found if each is not None]
            self._firewall.publish(published.translations)
        except BaseException:
            for held in published.held:
                self._reservations.release(held)
            raise
        self._forget(published.mappings, None)
        return published

    def adopt(self, mappings: Iterable[PortMapping], plug: Plug) -> Published:
        """Take over what a running container has published; the firewall is told with everything else."""
        published = Published()
        for mapping in mappings:
            try:
                published.held.append(self._reservations.hold(mapping))
            except SystemFailure as error:
                log.warning("a published port is not ours alone: %s", error)
                published.held.append(Held(mapping, None))
        found = (translate(mapping, plug) for mapping in published.mappings)
        published.translations = [each for each in found if each is not None]
        return published

    async def start_relays(self, published: Published, plug: Plug) -> None:
        """Raises OSError."""
        if not self._relays:
            return
        for held in published.held:
            target = relay_target(held.mapping, plug)
            if target is None or held.socket is None:
                continue
            relay = make_relay(held.mapping.protocol, held.socket, target)
            if relay is not None:
                published.relays.append(relay)
                await relay.start()

    async def withdraw(self, published: Published) -> None:
        """Undo `publish`. Never raises: what fails is logged, and the rest is done."""
        await self.stop_relays(published)
        if published.held:
            await self._run(self._withdraw, published)

    async def stop_relays(self, published: Published) -> None:
        await asyncio.gather(*(relay.close() for relay in published.relays))
        published.relays.clear()

    def _withdraw(self, published: Published) -> None:
        try:
            self._firewall.withdraw(published.translations)
        except OSError as error:
            log.warning("cannot withdraw published ports: %s", error)
        container = next((each.container_address for each in published.translations), None)
        self._forget(published.mappings, container)
        for held in published.held:
            self._reservations.release(held)

    def _forget(self, mappings: Iterable[PortMapping], container: IPAddress | None) -> None:
        """Forget tracked flows to these host ports (that lead to `container`); TCP ends by itself."""
        for mapping in mappings:
            if mapping.protocol == "tcp":
                continue
            host = None if mapping.host_address.is_unspecified else mapping.host_address
            if container is not None and container.version != mapping.host_address.version:
                continue
            original = conntrack.Tuple(
                destination=host, protocol=PROTOCOLS[mapping.protocol], destination_port=mapping.host_port
            )
            try:
                conntrack.forget(self._connections, original=original, reply=conntrack.Tuple(source=container))
            except OSError as error:
                log.warning("cannot forget old flows to port %s: %s", mapping.host_port, error)
