"""Networks: everything the engine asks about connecting containers, in one place.

```
                      ┌ records        networks.json: what networks there are
 Networks ────────────┼ drivers        bridge, host, none: what they are in the kernel
                      ┼ pools          prepared sandboxes, plain ones and ones plugged into the default bridge
   attach, detach     ┼ publisher      host ports, firewall, relays
   restore, reconcile ┼ reaper         links that are about to go
   inspect, list      └ attachments    which container has what (the engine keeps them on disk)
```

Crash-only: `open` finds or makes what networks stand on; the engine then gives back the attachments of the containers
that still run (`restore`), and `reconcile` replaces the firewall's tables from that state and removes what nobody
owns. Until then the firewall of the earlier daemon stays as it is, so published ports never pause.

The event loop is never blocked: everything that waits for the kernel runs in a few threads of our own.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from windlass.errors import Conflict, Forbidden, InvalidParameter, NotFound, SystemFailure
from windlass.kernel.netlink import link
from windlass.kernel.netlink.connection import NETLINK_NETFILTER, NetlinkSocket
from windlass.kernel.nftables import Nftables
from windlass.networks import forwarding, selection
from windlass.networks.attachment import Attachment, Endpoint, EndpointConfig
from windlass.networks.coexistence import Guest
from windlass.networks.default_bridge import address_choice, plan
from windlass.networks.drivers.bridge import BridgeNetwork
from windlass.networks.drivers.driver import Driver, Plug, PlugRequest
from windlass.networks.drivers.host import HostNetwork
from windlass.networks.drivers.none import NullNetwork
from windlass.networks.firewall import BridgeRules, Firewall
from windlass.networks.pool import WarmPool
from windlass.networks.ports import ANY_V4, ANY_V6, PortRequest, parse_port_bindings
from windlass.networks.publishing import Published, Publisher
from windlass.networks.reaper import Reaper, remove
from windlass.networks.record import NetworkRecord, RecordFile, new_id, now
from windlass.networks.reservations import PortReservations, parse_port_range
from windlass.networks.sandbox import Sandbox, Sandboxes, read_sysctl
from windlass.networks.settings import IPAddress, NetworkSettings, names_for, parse_address

T = TypeVar("T")
PortBindings = Mapping[str, Sequence[Mapping[str, Any]] | None] | None

_THREADS = 4
_PLAIN_LIMIT = 4
_CONTAINER = "container:"

log = logging.getLogger(__name__)


class _Network(NamedTuple):
    record: NetworkRecord
    driver: Driver


class _Prepared(NamedTuple):
    """A sandbox that is plugged into the default bridge already."""

    sandbox: Sandbox
    plug: Plug


class Networks:
    """The networks of one daemon. Make it with `open`."""

    def __init__(self, root: Path, exec_root: Path, settings: NetworkSettings) -> None:
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.settings = settings
        self._exec_root = exec_root
        self._names = names_for(exec_root, settings)
        self._file = RecordFile(root)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="networks")
        self._netlink = NetlinkSocket()
        self._connections = NetlinkSocket(NETLINK_NETFILTER)
        self._nftables = Nftables()
        self._sandboxes = Sandboxes(exec_root / "netns")
        self._firewall = Firewall(
            self._nftables, self._names.table, ipv4=settings.iptables, ipv6=settings.iptables and settings.ip6tables
        )
        self._guest = Guest(self._nftables, self._names.table)
        self._reservations = PortReservations(_ephemeral_ports)
        self._publisher = Publisher(
            self._firewall, self._reservations, self._connections, self._run, relays=settings.userland_proxy
        )
        self._reaper = Reaper(self._netlink, self._run, group=self._names.dead_group)
        self._networks: dict[str, _Network] = {}
        self._attachments: dict[str, Attachment] = {}
        self._published: dict[str, Published] = {}
        self._default: BridgeNetwork | None = None
        self._guarded: tuple[str, ...] = ()
        self._reconciled = False
        self._reconciling = asyncio.Lock()
        self._attaching: set[str] = set()
        self._detaching: set[asyncio.Future[None]] = set()
        self._closed = False
        limit = settings.warm_sandboxes
        self._plain = WarmPool("sandbox", self._sandboxes.make, self._discard, limit=min(limit, _PLAIN_LIMIT))
        self._plugged = WarmPool("plugged sandbox", self._prepare, self._discard_prepared, limit=limit)

    # -- life

    @classmethod
    async def open(cls, root: Path, exec_root: Path, settings: NetworkSettings | None = None) -> Networks:
        """Find or make what the networks stand on. `root` keeps the records, `exec_root` the sandboxes.

        Raises InvalidParameter (flags that make no sense), SystemFailure (no subnet is free), OSError.
        """
        settings = settings or NetworkSettings()
        self = cls(root, exec_root, settings)
        try:
            await self._run(self._start)
        except BaseException:
            await self.close()
            raise
        return self

    def _start(self) -> None:
        parse_address(self.settings.ip, "default bind address")
        known = {record.name: record for record in self._file.load()}
        networks: list[_Network] = []
        with address_choice():
            if self.settings.bridge != "none":
                record, config = plan(self.settings, self._names, self._exec_root, known.get("bridge"), self._netlink)
                self._default = BridgeNetwork(config, self._netlink)
                networks.append(_Network(record, self._default))
            for name, driver in (("host", HostNetwork()), ("none", NullNetwork())):
                record = known.get(name) or NetworkRecord(
                    id=new_id(), name=name, driver=driver.kind, created=now(), enable_ipv4=True
                )
                networks.append(_Network(record, driver))
            # First the intent, then the act: what is recorded and not there is made at the next start.
            self._networks = {each.record.id: each for each in networks}
            self._file.save(each.record for each in networks)
            for each in networks:
                each.driver.start()
        if self._default is not None and self.settings.ip_forward:
            self._guarded = forwarding.enable(
                self._netlink,
                self._exec_root / "forwarding.json",
                ipv6=self.settings.enable_ipv6,
                no_drop=self.settings.ip_forward_no_drop,
                own=frozenset({self._names.bridge}),
            )

    async def close(self, remove: bool = False) -> None:
        """Let go of everything that belongs to the process; containers keep their networks.

        With `remove`, or when no container is attached, networks leave no trace in the kernel: they are made again at
        the next start. Closing again is no error.
        """
        if self._closed:
            return
        self._closed = True
        await self._run(self._close_pools)
        for published in self._published.values():
            await self._publisher.stop_relays(published)
        if remove:
            for container_id in list(self._attachments):
                await self.detach(container_id)
        await self.settled()
        try:
            if not self._attachments:
                await self._run(self._remove_all)
        finally:
            self._reservations.close()
            self._sandboxes.close()
            self._nftables.close()
            self._connections.close()
            self._netlink.close()
            self._threads.shutdown()

    def _remove_all(self) -> None:
        for path in self._sandboxes.paths():
            self._sandboxes.remove(path)
        self._firewall.remove()
        if self.settings.iptables:
            self._guest.leave()
        for network in self._networks.values():
            network.driver.stop()

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *arguments))

    # -- sandboxes

    def _prepare(self) -> _Prepared:
        assert self._default is not None
        sandbox = self._sandboxes.make(ipv6=self._default.config.ipv6 is not None)
        try:
            return _Prepared(sandbox, self._default.plug(sandbox, PlugRequest()))
        except BaseException:
            self._discard(sandbox)
            raise

    def _discard(self, sandbox: Sandbox) -> None:
        sandbox.close()
        self._sandboxes.remove(sandbox.path)

    def _discard_prepared(self, *prepared: _Prepared) -> None:
        assert self._default is not None
        for each in prepared:
            self._discard(each.sandbox)
        remove(self._netlink, {each.plug.host_link for each in prepared}, group=self._names.dead_group)
        for each in prepared:
            self._default.release(each.plug)

    def _close_pools(self) -> None:
        for sandbox in self._plain.close():
            self._discard(sandbox)
        if prepared := self._plugged.close():
            self._discard_prepared(*prepared)

    # -- what there is

    def find(self, name_or_id: str) -> NetworkRecord:
        """By name, id, or unique beginning of an id. Raises NotFound, InvalidParameter (ambiguous)."""
        return self._find(name_or_id).record

    def _find(self, name_or_id: str) -> _Network:
        if name_or_id in self._networks:
            return self._networks[name_or_id]
        for network in self._networks.values():
            if network.record.name == name_or_id:
                return network
        found = [network for key, network in self._networks.items() if name_or_id and key.startswith(name_or_id)]
        if len(found) > 1:
            raise InvalidParameter(f"network {name_or_id} is ambiguous ({len(found)} matches found based on ID prefix)")
        if not found:
            raise NotFound(f"network {name_or_id} not found")
        return found[0]

    def inspect(self, name_or_id: str) -> dict[str, Any]:
        """`network.Inspect` of API 1.51 with its containers. Raises NotFound, InvalidParameter."""
        record = self._find(name_or_id).record
        members = {
            attachment.container_id: endpoint.member(attachment.container_name)
            for attachment in self._attachments.values()
            for endpoint in attachment.endpoints.values()
            if endpoint.network_id == record.id
        }
        return record.to_api(members)

    async def remove(self, name_or_id: str) -> NetworkRecord:
        """Remove a network; the one removed. Raises Forbidden in dockerd's words, NotFound."""
        record = self._find(name_or_id).record
        if record.predefined:
            raise Forbidden(f"{record.name} is a pre-defined network and cannot be removed")
        raise NotFound(f"network {name_or_id} not found")

    def list(self, filters: Mapping[str, Sequence[str]] | None = None) -> list[dict[str, Any]]:
        """`network.Summary` of API 1.51 for each network that the filters leave. Raises InvalidParameter."""
        used = {endpoint.network_id for each in self._attachments.values() for endpoint in each.endpoints.values()}
        records = [network.record for network in self._networks.values()]
        return [record.to_api() for record in selection.select(records, filters or {}, used)]

    def host_gateway(self) -> tuple[str, ...]:
        """The addresses that `host-gateway` stands for in `--add-host`; none where there is no default bridge."""
        if self.settings.host_gateway_ips:
            return self.settings.host_gateway_ips
        if self._default is None:
            return ()
        config = self._default.config
        return tuple(str(each.ip) for each in (config.ipv4, config.ipv6) if each is not None)

    def attachment(self, container_id: str) -> Attachment | None:
        return self._attachments.get(container_id)

    # -- containers

    def _mode(self, network_mode: str) -> str:
        if network_mode in {"", "default", "bridge"}:
            return "bridge" if self._default is not None else "none"
        return network_mode

    async def attach(
        self,
        container_id: str,
        *,
        network_mode: str,
        config: EndpointConfig | None = None,
        ports: PortBindings = None,
        hostname: str = "",
        name: str = "",
        exposed: Iterable[str] = (),
        shared_path: str | None = None,
    ) -> Attachment:
        """Connect a container that is about to start.

        - `network_mode`: bridge, default, host, none, `container:<id>` (then `shared_path` is the namespace of that
          one, None the host's), or a network's name or id.
        - `ports`: `HostConfig.PortBindings`; `exposed`: ports that are only listed. `name`: the container's.

        Raises InvalidParameter, NotFound, Forbidden, Conflict (attached already), SystemFailure with dockerd's words
        (without its "failed to set up container networking: "); then nothing was changed.
        """
        if container_id in self._attachments or container_id in self._attaching:
            raise Conflict(f"container {container_id} is attached already")
        attachment = Attachment(
            container_id=container_id,
            container_name=name or container_id[:12],
            network_mode=network_mode,
            hostname=hostname,
            exposed=tuple(exposed),
        )
        attaching = asyncio.ensure_future(self._attach(attachment, config or EndpointConfig(), ports, shared_path))
        self._attaching.add(container_id)
        attaching.add_done_callback(lambda _: self._attaching.discard(container_id))
        try:
            return await asyncio.shield(attaching)
        except OSError as error:
            raise SystemFailure(str(error)) from error
        except asyncio.CancelledError:
            # What threads do cannot be called back: wait for it, and undo it.
            await asyncio.wait([attaching])
            if not attaching.cancelled() and attaching.exception() is None:
                await self.detach(container_id)
            raise

    async def _attach(
        self, attachment: Attachment, config: EndpointConfig, ports: PortBindings, shared_path: str | None
    ) -> Attachment:
        container_id = attachment.container_id
        mode = self._mode(attachment.network_mode)
        if mode.startswith(_CONTAINER):
            attachment.netns_path = shared_path
            self._attachments[container_id] = attachment
            return attachment
        network = self._find(mode)
        request = self._check(network, config)
        wanted = self._port_requests(network, ports)
        endpoint = Endpoint(id=new_id(), network_id=network.record.id, network_name=network.record.name, config=config)
        published = Published()
        if network.record.driver != "host":
            sandbox, plug = await self._connect(network, request)
            try:
                published = await self._publisher.publish(wanted, plug, f"{attachment.container_name} ({endpoint.id})")
                if published.held:
                    await self._run(network.driver.reach_itself, plug)
            except BaseException:
                await self._publisher.withdraw(published)
                await self._drop(sandbox, network.driver, plug)
                raise
            endpoint = replace(endpoint, plug=plug)
            attachment.sandbox_id, attachment.netns_path = sandbox.id, sandbox.path
            attachment.sandbox_owned = True
            sandbox.close()
        attachment.endpoints[network.record.name] = endpoint
        attachment.mappings = published.mappings
        self._attachments[container_id] = attachment
        self._published[container_id] = published
        return attachment

    def _check(self, network: _Network, config: EndpointConfig) -> PlugRequest:
        """What of a client's wishes the network can do. Raises InvalidParameter with dockerd's words."""
        if network.record.predefined:
            if config.ip or config.ip6:
                raise InvalidParameter("user specified IP address is supported on user defined networks only")
            if config.aliases:
                raise InvalidParameter("network-scoped aliases are only supported for user-defined networks")
        mac = config.mac or None
        if mac is not None:
            try:
                packed = link.parse_mac(mac)
            except ValueError as error:
                raise InvalidParameter(str(error)) from None
            if packed[0] & 1 or not any(packed):
                raise InvalidParameter(f"invalid MAC address: {mac}: not the address of one station")
        return PlugRequest(mac=mac)

    def _port_requests(self, network: _Network, ports: PortBindings) -> tuple[PortRequest, ...]:
        address = parse_address(self.settings.ip, "default bind address")
        defaults: tuple[IPAddress, ...] = (address,)
        if address == ANY_V4 and (network.record.enable_ipv6 or self.settings.userland_proxy) and _has_ipv6():
            defaults = (ANY_V4, ANY_V6)
        requests = parse_port_bindings(ports, defaults)
        # Without a bridge there is nothing to translate to: as with dockerd, the ports are passed over.
        return requests if network.record.driver == "bridge" else ()

    async def _connect(self, network: _Network, request: PlugRequest) -> tuple[Sandbox, Plug]:
        """A sandbox with an interface of the network."""
        if not self._reconciled:
            await self.reconcile()
        if network.driver is self._default and request == PlugRequest():
            prepared = await _taken(self._plugged.take())
            return prepared.sandbox, prepared.plug
        sandbox = await self._sandbox(ipv6=network.record.enable_ipv6)
        try:
            return sandbox, await self._run(network.driver.plug, sandbox, request)
        except BaseException:
            await self._run(self._discard, sandbox)
            raise

    async def _sandbox(self, *, ipv6: bool) -> Sandbox:
        if not ipv6:
            return await _taken(self._plain.take())
        return await self._run(partial(self._sandboxes.make, ipv6=True))

    async def _drop(self, sandbox: Sandbox, driver: Driver, plug: Plug) -> None:
        """Give up a sandbox that was never used."""
        await self._run(self._discard, sandbox)
        self._release(driver, plug)

    def _release(self, driver: Driver, plug: Plug) -> None:
        if plug.host_link:
            self._reaper.expect(plug.host_link, partial(driver.release, plug))
        else:
            driver.release(plug)

    async def detach(self, container_id: str) -> None:
        """Disconnect a container that has ended; one that is not attached is no error.

        Published ports are free on return; the container's links go within milliseconds, and then its addresses are
        free (`settled` waits for that). Never raises for what the kernel refuses: that is logged.
        """
        attachment = self._attachments.pop(container_id, None)
        if attachment is not None:
            detaching = asyncio.ensure_future(self._detach(attachment))
            self._detaching.add(detaching)
            detaching.add_done_callback(self._detaching.discard)
            await asyncio.shield(detaching)

    async def _detach(self, attachment: Attachment) -> None:
        container_id = attachment.container_id
        published = self._published.pop(container_id, None)
        if published is not None:
            await self._publisher.withdraw(published)
        if attachment.sandbox_owned and attachment.netns_path is not None:
            try:
                await self._run(self._sandboxes.remove, attachment.netns_path)
            except (OSError, ValueError) as error:
                log.warning("cannot remove the sandbox of container %s: %s", container_id, error)
        for endpoint in attachment.endpoints.values():
            network = self._networks.get(endpoint.network_id)
            if network is not None:
                self._release(network.driver, endpoint.plug)

    async def settled(self) -> None:
        """Wait until the links of all detached containers have gone from the kernel."""
        await asyncio.gather(*self._detaching)
        await self._reaper.settle()

    async def rename(self, container_id: str, name: str) -> None:
        """A container has a new name, by which networks list it. One that is not attached is no error."""
        if attachment := self._attachments.get(container_id):
            attachment.container_name = name

    async def statistics(self, container_id: str) -> dict[str, dict[str, int]]:
        """Counters of each interface, as the container sees it, in the words of the API's stats (bytes, packets)."""
        attachment = self._attachments.get(container_id)
        plugs = [each.plug for each in attachment.endpoints.values() if each.plug.host_link] if attachment else []
        if not plugs:
            return {}
        found = await self._run(self._read_statistics, [plug.host_link for plug in plugs])
        return {plug.interface: found[plug.host_link] for plug in plugs if plug.host_link in found}

    def _read_statistics(self, names: Sequence[str]) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for name in names:
            try:
                counters = link.read_link(self._netlink, name).statistics
            except OSError:
                continue  # the container has just ended
            if counters is not None:
                found[name] = counters.seen_from_peer()._asdict()
        return found

    # -- after a restart

    async def restore(self, container_id: str, saved: Mapping[str, Any]) -> Attachment:
        """Take over a running container's connections as `Attachment.to_json` kept them.

        Nothing that the container uses is touched. Raises ValueError (the record is damaged), Conflict, SystemFailure.
        """
        if container_id in self._attachments:
            raise Conflict(f"container {container_id} is attached already")
        attachment = Attachment.from_json(container_id, saved)
        published = Published()
        for endpoint in attachment.endpoints.values():
            network = self._networks.get(endpoint.network_id)
            if network is None:
                raise SystemFailure(f"network {endpoint.network_name} of container {container_id} is gone")
            network.driver.adopt(endpoint.plug)
        primary = attachment.primary
        if primary is not None and attachment.mappings:
            published = await self._run(self._publisher.adopt, attachment.mappings, primary.plug)
            try:
                await self._publisher.start_relays(published, primary.plug)
            except OSError as error:
                log.warning("cannot relay ports of container %s: %s", container_id, error)
        self._attachments[container_id] = attachment
        self._published[container_id] = published
        if self._reconciled and published.translations:
            await self._run(self._firewall.publish, published.translations)
        return attachment

    async def reconcile(self, known_ids: Collection[str] | None = None) -> None:
        """Make kernel and state agree, after all running containers were restored.

        Attachments of containers that are not in `known_ids` (if it is given) end, sandboxes and links that no
        attachment has are removed, and the firewall's tables are replaced. Raises OSError.
        """
        async with self._reconciling:
            if known_ids is None and self._reconciled:
                return
            for container_id in set(self._attachments) - set(self._attachments if known_ids is None else known_ids):
                await self.detach(container_id)
            await self._run(self._replace_firewall)
            if not self._reconciled:
                # No prepared sandbox exists yet; later it would pass for garbage.
                await self._run(self._remove_garbage, *self._owned())
                self._reconciled = True

    def _replace_firewall(self) -> None:
        rules = [each.driver.rules() for each in self._networks.values()]
        bridges: list[BridgeRules] = [each for each in rules if each is not None]
        translations = [each for published in self._published.values() for each in published.translations]
        self._firewall.replace(bridges, translations, self._guarded)
        if self.settings.iptables:
            self._guest.settle(each.name for each in bridges)

    def _owned(self) -> tuple[set[str], set[str]]:
        """Paths and host links that belong to somebody."""
        attachments = self._attachments.values()
        paths = {each.netns_path for each in attachments if each.sandbox_owned and each.netns_path is not None}
        links = {endpoint.plug.host_link for each in attachments for endpoint in each.endpoints.values()}
        return paths, links

    def _remove_garbage(self, paths: set[str], links: set[str]) -> None:
        for path in self._sandboxes.paths():
            if path not in paths:
                self._sandboxes.remove(path)
        groups = {self._names.group, self._names.dead_group}
        ours = {each.name for each in link.read_links(self._netlink, kind="veth") if each.group in groups}
        if garbage := ours - links:
            log.info("removing %d links of containers that are gone", len(garbage))
            remove(self._netlink, garbage, group=self._names.dead_group)


async def _taken(future: Future[T]) -> T:
    """The result of a pool's future, without a turn of the event loop where it is there already."""
    return future.result() if future.done() else await asyncio.wrap_future(future)


def _ephemeral_ports() -> tuple[int, int]:
    return parse_port_range(read_sysctl("net/ipv4/ip_local_port_range"))


def _has_ipv6() -> bool:
    return os.path.exists("/proc/sys/net/ipv6")
