"""Connecting containers: the order in which sandbox, interfaces, names and published ports come and go.

```
 attach      sandbox and first interface ─▶ name server ─▶ published ports ─▶ known to others
 connect     one more interface ─▶ way out ─▶ known to others ─▶ name server
 disconnect  unknown to others ─▶ published ports move ─▶ interface goes ─▶ way out ─▶ name server
 detach      unknown to others ─▶ published ports ─▶ name server ─▶ sandbox; its links are left to the reaper
```

Whatever fails half-way is undone. What threads do cannot be called back, so who is cancelled waits for the end and
undoes it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from windlass.errors import Forbidden, InvalidParameter, NotFound, SystemFailure
from windlass.kernel.netlink import link
from windlass.networks import creation
from windlass.networks.attachment import Attachment, Endpoint, EndpointConfig
from windlass.networks.connector import Connector
from windlass.networks.drivers.driver import Driver, Plug, PlugRequest
from windlass.networks.name_service import NameService
from windlass.networks.ports import ANY_V4, ANY_V6, PortRequest, parse_port_bindings
from windlass.networks.publishing import Published, Publisher
from windlass.networks.reaper import Reaper
from windlass.networks.record import NetworkRecord, new_id
from windlass.networks.registry import LiveNetwork, Registry, usable
from windlass.networks.sandbox import has_ipv6
from windlass.networks.settings import IPAddress, NetworkSettings, parse_address

PortBindings = Mapping[str, Sequence[Mapping[str, Any]] | None] | None

_CONTAINER = "container:"
_USER_ONLY = "is supported on user defined networks only"

log = logging.getLogger(__name__)


class Plumbing:
    """The connections of all containers of one daemon. The engine makes one change to a container at a time."""

    def __init__(
        self,
        registry: Registry,
        connector: Connector,
        publisher: Publisher,
        names: NameService,
        reaper: Reaper,
        run: Callable[..., Awaitable[Any]],
        settings: NetworkSettings,
    ) -> None:
        self._registry, self._connector, self._publisher = registry, connector, publisher
        self._names, self._reaper, self._run, self._settings = names, reaper, run, settings
        self.attachments: dict[str, Attachment] = {}
        self.published: dict[str, Published] = {}

    def mode(self, network_mode: str) -> str:
        """The network that a network mode means."""
        if network_mode in {"", "default", "bridge"}:
            return "bridge" if self._registry.default is not None else "none"
        return network_mode

    # -- what may be asked

    def request(self, network: LiveNetwork, config: EndpointConfig) -> PlugRequest:
        """What of a client's wishes goes to the driver. Raises InvalidParameter with dockerd's words."""
        record = network.record
        if record.predefined:
            if config.ip or config.ip6:
                raise InvalidParameter(f"user specified IP address {_USER_ONLY}")
            if config.aliases:
                raise InvalidParameter("network-scoped aliases are only supported for user-defined networks")
        address = _wanted_address(record, config.ip, 4)
        address6 = _wanted_address(record, config.ip6, 6)
        mac = config.mac or None
        if mac is not None:
            try:
                packed = link.parse_mac(mac)
            except ValueError as error:
                raise InvalidParameter(str(error)) from None
            if packed[0] & 1 or not any(packed):
                raise InvalidParameter(f"invalid MAC address: {mac}: not the address of one station")
        prefix = record.options.get(creation.INTERFACE_PREFIX) or "eth"
        return PlugRequest(ipv4=address, ipv6=address6, mac=mac, interface=f"{prefix}0")  # type: ignore[arg-type]

    def _port_requests(self, record: NetworkRecord, ports: PortBindings) -> tuple[PortRequest, ...]:
        text = record.options.get(creation.HOST_BINDING) or self._settings.ip
        address = parse_address(text, "default bind address")
        defaults: tuple[IPAddress, ...] = (address,)
        if address == ANY_V4 and (record.enable_ipv6 or self._settings.userland_proxy) and has_ipv6():
            defaults = (ANY_V4, ANY_V6)
        requests = parse_port_bindings(ports, defaults)
        # Where nothing comes in from outside there is nothing to publish: as with dockerd, the ports are passed over.
        return requests if record.driver == "bridge" and not record.internal else ()

    # -- a container starts and ends

    async def attach(
        self, attachment: Attachment, config: EndpointConfig, ports: PortBindings, shared_path: str | None
    ) -> Attachment:
        """Fill in an attachment. Raises WindlassError, OSError; then nothing was changed."""
        mode = self.mode(attachment.network_mode)
        if mode.startswith(_CONTAINER):
            attachment.netns_path = shared_path
            self.attachments[attachment.container_id] = attachment
            return attachment
        network = usable(self._registry.find(mode))
        request = self.request(network, config)
        wanted = self._port_requests(network.record, ports)
        endpoint = self._endpoint(attachment, network.record, config)
        if network.record.driver != "host":
            await self._plug_first(attachment, network, endpoint, request, wanted)
        else:
            attachment.endpoints[network.record.name] = endpoint
        self.attachments[attachment.container_id] = attachment
        for each in attachment.endpoints.values():
            self._names.directory.add(each)
        return attachment

    async def _plug_first(
        self,
        attachment: Attachment,
        network: LiveNetwork,
        endpoint: Endpoint,
        request: PlugRequest,
        wanted: Sequence[PortRequest],
    ) -> None:
        sandbox, plug = await self._connector.take(network.driver, request, ipv6=network.record.enable_ipv6)
        published = Published()
        try:
            attachment.sandbox_id, attachment.netns_path = sandbox.id, sandbox.path
            attachment.sandbox_owned = True
            attachment.endpoints[network.record.name] = replace(endpoint, plug=plug)
            await self._names.follow(attachment)
            published = await self._publisher.publish(wanted, plug, f"{attachment.container_name} ({endpoint.id})")
            if published.held or network.driver.has_services:
                await self._run(network.driver.reach_itself, plug)
        except BaseException:
            await self._publisher.withdraw(published)
            await self._names.stop(attachment.container_id)
            await self._connector.drop(sandbox)
            self._release(network.driver, plug)
            raise
        sandbox.close()
        attachment.mappings = published.mappings
        attachment.published_on = network.record.name if published.held else ""
        self.published[attachment.container_id] = published

    def _endpoint(self, attachment: Attachment, record: NetworkRecord, config: EndpointConfig) -> Endpoint:
        names: dict[str, None] = {}
        if not record.predefined and record.options.get(creation.NAMES) != "false":
            own = (attachment.container_name, *config.aliases, attachment.container_id[:12], attachment.hostname)
            names = dict.fromkeys(name for name in own if name)
        return Endpoint(
            id=new_id(), network_id=record.id, network_name=record.name, config=config, dns_names=tuple(names)
        )

    def _release(self, driver: Driver, plug: Plug) -> None:
        if plug.host_link:
            self._reaper.expect(plug.host_link, partial(driver.release, plug))
        else:
            driver.release(plug)

    async def detach(self, attachment: Attachment) -> None:
        """Never raises for what the kernel refuses: that is logged."""
        container_id = attachment.container_id
        for endpoint in attachment.endpoints.values():
            self._names.directory.discard(endpoint)
        published = self.published.pop(container_id, None)
        if published is not None:
            await self._publisher.withdraw(published)
        await self._names.stop(container_id)
        if attachment.sandbox_owned and attachment.netns_path is not None:
            try:
                await self._connector.remove(attachment.netns_path)
            except (OSError, ValueError) as error:
                log.warning("cannot remove the sandbox of container %s: %s", container_id, error)
        for endpoint in attachment.endpoints.values():
            network = self._registry.get(endpoint.network_id)
            if network is not None:
                self._release(network.driver, endpoint.plug)

    # -- while it runs

    def _changeable(self, container_id: str) -> tuple[Attachment, str]:
        """The attachment of a container that has a sandbox of its own, and its path. Raises Forbidden, NotFound."""
        attachment = self.attachments.get(container_id)
        if attachment is None:
            raise NotFound(f"container {container_id} is not running")
        if not attachment.sandbox_owned or attachment.netns_path is None:
            raise Forbidden(
                "container sharing network namespace with another container or host cannot be connected to any other "
                "network"
            )
        return attachment, attachment.netns_path

    async def connect(self, container_id: str, name_or_id: str, config: EndpointConfig) -> Endpoint:
        """Connect a running container to one more network. Raises WindlassError, OSError; then nothing was changed."""
        attachment, path = self._changeable(container_id)
        network = usable(self._registry.find(name_or_id))
        record = network.record
        if record.name == "host":
            raise Forbidden("container cannot be disconnected from host network or connected to host network")
        if record.name == "none" or "none" in attachment.endpoints:
            raise Forbidden(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode"
            )
        if record.name in attachment.endpoints:
            raise Forbidden(f"endpoint with name {attachment.container_name} already exists in network {record.name}")
        request = self.request(network, config)
        taken = {each.plug.interface for each in attachment.endpoints.values()}
        prefix = request.interface[:-1]
        interface = next(name for n in range(len(taken) + 1) if (name := f"{prefix}{n}") not in taken)
        request = request._replace(interface=interface, default_route=False)
        plug = await self._connector.join(path, network.driver, request, ipv6=record.enable_ipv6)
        endpoint = replace(self._endpoint(attachment, record, config), plug=plug)
        attachment.endpoints[record.name] = endpoint
        try:
            await self._connector.route(path, [each.plug for each in attachment.gateways()])
            await self._names.follow(attachment)
        except BaseException:
            del attachment.endpoints[record.name]
            await self._unplug(network.driver, plug)
            await self._connector.route(path, [each.plug for each in attachment.gateways()])
            raise
        self._names.directory.add(endpoint)
        return endpoint

    async def _unplug(self, driver: Driver, plug: Plug) -> None:
        await self._connector.leave(plug)
        driver.release(plug)

    async def disconnect(self, container_id: str, name_or_id: str) -> Endpoint:
        """Disconnect a running container from a network. Raises WindlassError, OSError."""
        attachment, path = self._changeable(container_id)
        network = self._registry.find(name_or_id)
        record = network.record
        if record.name not in attachment.endpoints:
            raise Forbidden(f"container {container_id} is not connected to network {record.name}")
        endpoint = attachment.endpoints.pop(record.name)
        self._names.directory.discard(endpoint)
        if attachment.published_on == record.name:
            await self._move_ports(attachment)
        if endpoint.plug.host_link:
            await self._unplug(network.driver, endpoint.plug)
        await self._connector.route(path, [each.plug for each in attachment.gateways()])
        await self._names.follow(attachment)
        return endpoint

    async def _move_ports(self, attachment: Attachment) -> None:
        """The endpoint that had the published ports has gone: they go to the next one by which there is a way out."""
        published = self.published.pop(attachment.container_id)
        mappings = published.mappings
        await self._publisher.withdraw(published)
        attachment.mappings, attachment.published_on = (), ""
        following = attachment.gateways()
        if not following:
            return
        endpoint = following[0]
        requests = [
            PortRequest(each.container_port, each.protocol, (each.host_address,), each.host_port, each.host_port)
            for each in mappings
        ]
        try:
            moved = await self._publisher.publish(
                requests, endpoint.plug, f"{attachment.container_name} ({endpoint.id})"
            )
        except SystemFailure as error:
            log.warning("container %s loses its published ports: %s", attachment.container_id, error)
            return
        self.published[attachment.container_id] = moved
        attachment.mappings, attachment.published_on = moved.mappings, endpoint.network_name

    # -- after a restart

    async def restore(self, attachment: Attachment) -> Published:
        """Take over what a running container has, except for the firewall. Raises WindlassError."""
        adopted: list[tuple[Driver, Plug]] = []
        try:
            for endpoint in attachment.endpoints.values():
                network = self._registry.get(endpoint.network_id)
                if network is None:
                    name = endpoint.network_name
                    raise SystemFailure(f"network {name} of container {attachment.container_id} is gone")
                await self._run(network.driver.adopt, endpoint.plug)
                adopted.append((network.driver, endpoint.plug))
        except BaseException:
            for driver, plug in adopted:
                driver.release(plug)
            raise
        published = Published()
        source = attachment.endpoints.get(attachment.published_on)
        try:
            if source is not None:
                published = await self._run(self._publisher.adopt, attachment.mappings, source.plug)
                await self._publisher.start_relays(published, source.plug)
            await self._names.follow(attachment)
        except OSError as error:
            # The container runs, and has everything that the kernel does for it.
            log.warning("cannot serve container %s as before: %s", attachment.container_id, error)
        self.attachments[attachment.container_id] = attachment
        self.published[attachment.container_id] = published
        for endpoint in attachment.endpoints.values():
            self._names.directory.add(endpoint)
        return published

    def rename(self, container_id: str, name: str) -> None:
        """A container has a new name; one that is not attached is no error."""
        attachment = self.attachments.get(container_id)
        if attachment is None:
            return
        old, attachment.container_name = attachment.container_name, name
        for network_name, endpoint in attachment.endpoints.items():
            self._names.directory.discard(endpoint)
            names = tuple(name if each == old else each for each in endpoint.dns_names)
            attachment.endpoints[network_name] = replace(endpoint, dns_names=names)
            self._names.directory.add(attachment.endpoints[network_name])


def _wanted_address(record: NetworkRecord, text: str, version: int) -> IPAddress | None:
    """The address that a client chose. Raises InvalidParameter with dockerd's words."""
    if not text:
        return None
    address = parse_address(text, f"IPv{version} address")
    if address.version != version:
        raise InvalidParameter(f"invalid IPv{version} address: {text}")
    config = next((each for each in record.ipam if each.subnet.version == version), None)
    if config is None or address not in config.subnet:
        raise InvalidParameter(f"no configured subnet contains IP address {address}")
    if not config.configured:
        raise InvalidParameter(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
        )
    return address
