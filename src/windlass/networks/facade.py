"""Networks: everything the engine asks about connecting containers, in one place.

```
            ┌ registry    what networks there are: networks.json, and their drivers (bridge, host, none)
            ├ connector   sandboxes, prepared ahead, and what is plugged into them
 Networks ──┼ publisher   host ports, firewall, relays
            ├ names       a name server for each container that is in a network with names
            ├ plumbing    the order in which all that comes and goes; the attachments
            └ reaper      links that are about to go
```

Crash-only: `open` finds or makes what networks stand on; the engine then gives back the attachments of the containers
that still run (`restore`), and `reconcile` replaces the firewall's tables from that state and removes what nobody
owns. Until then the firewall of the earlier daemon stays as it is, so published ports never pause.

The event loop is never blocked: everything that waits for the kernel runs in a few threads of our own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from windlass.errors import Conflict, Forbidden, SystemFailure
from windlass.kernel.netlink import link
from windlass.kernel.netlink.connection import NETLINK_NETFILTER, NetlinkSocket
from windlass.kernel.nftables import Nftables
from windlass.networks import creation, forwarding, selection
from windlass.networks.attachment import Attachment, Endpoint, EndpointConfig
from windlass.networks.coexistence import Guest
from windlass.networks.connector import Connector
from windlass.networks.firewall import Firewall
from windlass.networks.name_service import NameService
from windlass.networks.plumbing import Plumbing, PortBindings
from windlass.networks.publishing import Publisher
from windlass.networks.reaper import Reaper, remove
from windlass.networks.record import NetworkRecord, RecordFile
from windlass.networks.registry import Registry
from windlass.networks.reservations import PortReservations, parse_port_range
from windlass.networks.sandbox import Sandboxes, has_ipv6, read_sysctl
from windlass.networks.settings import NetworkSettings, names_for, parse_address

T = TypeVar("T")

_THREADS = 4

log = logging.getLogger(__name__)


class Networks:
    """The networks of one daemon. Make it with `open`."""

    def __init__(self, root: Path, exec_root: Path, settings: NetworkSettings) -> None:
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.settings = settings
        self._exec_root = exec_root
        self._names = names_for(exec_root, settings)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="networks")
        self._netlink = NetlinkSocket()
        self._connections = NetlinkSocket(NETLINK_NETFILTER)
        self._nftables = Nftables()
        self._sandboxes = Sandboxes(exec_root / "netns")
        ip6tables = settings.iptables and settings.ip6tables and has_ipv6()
        self._firewall = Firewall(self._nftables, self._names.table, ipv4=settings.iptables, ipv6=ip6tables)
        self._guest = Guest(self._nftables, self._names.table)
        self._reservations = PortReservations(_ephemeral_ports)
        self._publisher = Publisher(
            self._firewall, self._reservations, self._connections, self._run, relays=settings.userland_proxy
        )
        self._reaper = Reaper(self._netlink, self._run, group=self._names.dead_group)
        self._registry = Registry(RecordFile(root), self._netlink, settings, self._names, exec_root)
        self._connector = Connector(
            self._netlink, self._sandboxes, self._run, names=self._names, limit=settings.warm_sandboxes
        )
        self._name_service = NameService(self._connector, self._sandboxes)
        self._plumbing = Plumbing(
            self._registry, self._connector, self._publisher, self._name_service, self._reaper, self._run, settings
        )
        self._attachments = self._plumbing.attachments
        self._published = self._plumbing.published
        self._guarded: tuple[str, ...] = ()
        self._reconciled = False
        self._reconciling = asyncio.Lock()
        self._attaching: set[str] = set()
        self._detaching: set[asyncio.Future[None]] = set()
        self._closed = False

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
        self._registry.start()
        if self._registry.default is not None:
            self._connector.set_default(self._registry.default)
        if self.settings.ip_forward:
            self._guarded = forwarding.enable(
                self._netlink,
                self._exec_root / "forwarding.json",
                ipv6=self.settings.enable_ipv6,
                no_drop=self.settings.ip_forward_no_drop,
                own=frozenset(each.name for each in self._registry.rules()),
            )

    async def close(self, remove: bool = False) -> None:
        """Let go of everything that belongs to the process; containers keep their networks.

        With `remove`, or when no container is attached, networks leave no trace in the kernel: they are made again at
        the next start. Closing again is no error.
        """
        if self._closed:
            return
        self._closed = True
        await self._run(self._connector.close)
        if remove:
            for container_id in list(self._attachments):
                await self.detach(container_id)
        await self.settled()
        await self._name_service.close()
        for published in self._published.values():
            await self._publisher.stop_relays(published)
        try:
            if remove or (self._reconciled and not self._attachments):
                await self._run(self._remove_all)
            elif not self._attachments:
                # Who was never told what runs (see reconcile) must not take anything away from it.
                await self._run(self._registry.stop_new)
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
        self._registry.stop()

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *arguments))

    async def _finish(self, work: Coroutine[Any, Any, T], undo: Callable[[T], Coroutine[Any, Any, None]] | None) -> T:
        """Await work that must not stop half-way; who is cancelled meanwhile waits for its end and undoes it."""
        doing = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(doing)
        except OSError as error:
            raise SystemFailure(str(error)) from error
        except asyncio.CancelledError:
            await asyncio.wait([doing])
            if undo is not None and not doing.cancelled() and doing.exception() is None:
                await undo(doing.result())
            raise

    # -- what there is

    def find(self, name_or_id: str) -> NetworkRecord:
        """By name, id, or unique beginning of an id. Raises NotFound, InvalidParameter (ambiguous)."""
        return self._registry.find(name_or_id).record

    def inspect(self, name_or_id: str) -> dict[str, Any]:
        """`network.Inspect` of API 1.51 with its containers. Raises NotFound, InvalidParameter."""
        record = self.find(name_or_id)
        return record.to_api({name: endpoint.member(own) for name, own, endpoint in self._members(record)})

    def _members(self, record: NetworkRecord) -> Iterable[tuple[str, str, Endpoint]]:
        """Id, name and endpoint of each container in a network."""
        for attachment in self._attachments.values():
            for endpoint in attachment.endpoints.values():
                if endpoint.network_id == record.id:
                    yield attachment.container_id, attachment.container_name, endpoint

    def _select(self, filters: Mapping[str, Sequence[str]]) -> list[NetworkRecord]:
        used = {endpoint.network_id for each in self._attachments.values() for endpoint in each.endpoints.values()}
        return selection.select([network.record for network in self._registry], filters, used)

    def host_gateway(self) -> tuple[str, ...]:
        """The addresses that `host-gateway` stands for in `--add-host`; none where there is no default bridge."""
        if self.settings.host_gateway_ips:
            return self.settings.host_gateway_ips
        if self._registry.default is None:
            return ()
        config = self._registry.default.config
        return tuple(str(each.ip) for each in (config.ipv4, config.ipv6) if each is not None)

    def attachment(self, container_id: str) -> Attachment | None:
        return self._attachments.get(container_id)

    # -- networks that somebody makes

    async def create(self, body: Mapping[str, Any]) -> NetworkRecord:
        """Create a network as `POST /networks/create` asks.

        Raises InvalidParameter, Conflict (name taken), Forbidden (predefined, subnet taken), NotFound (no such driver),
        NotImplementedByEngine, SystemFailure.
        """
        request = creation.parse_create(body)

        async def undo(record: NetworkRecord) -> None:
            await self._remove(record)

        return await self._finish(self._create(request), undo)

    async def _create(self, request: creation.CreateRequest) -> NetworkRecord:
        await self._ensure_reconciled()
        network = await self._run(self._registry.create, request)
        rules = network.driver.rules()
        assert rules is not None
        try:
            await self._run(self._firewall.add_bridge, rules)
            await self._run(self._settle_guest)
        except BaseException:
            await self._run(self._registry.remove, network.record)
            raise
        return network.record

    async def remove(self, name_or_id: str) -> NetworkRecord:
        """Remove a network; the one removed. Raises Forbidden (predefined, in use) in dockerd's words, NotFound."""
        record = self.find(name_or_id)
        if record.predefined:
            raise Forbidden(f"{record.name} is a pre-defined network and cannot be removed")
        if members := [f'name:"{own}" id:"{endpoint.id[:12]}"' for _, own, endpoint in self._members(record)]:
            raise Forbidden(
                f"error while removing network: network {record.name} has active endpoints ({', '.join(members)})"
            )
        await self._finish(self._remove(record), None)
        return record

    async def _remove(self, record: NetworkRecord) -> None:
        await self._ensure_reconciled()
        await self._reaper.settle()
        await self._run(self._registry.remove, record)
        await self._run(self._firewall.remove_bridge, creation.bridge_name(record))
        await self._run(self._settle_guest)

    async def prune(
        self, filters: Mapping[str, Sequence[str]] | None = None, *, until_ns: int | None = None
    ) -> list[str]:
        """Remove the networks that nobody uses; their names.

        `filters` are `label` and `label!`; networks made after `until_ns` (Unix time, nanoseconds) stay. Raises
        InvalidParameter.
        """
        deleted: list[str] = []
        for record in selection.prunable(self._select({"dangling": ["true"]}), filters or {}, until_ns):
            try:
                await self.remove(record.id)
            except Forbidden:
                continue  # somebody has just begun to use it
            deleted.append(record.name)
        return deleted

    def list(self, filters: Mapping[str, Sequence[str]] | None = None) -> list[dict[str, Any]]:
        """`network.Summary` of API 1.51 for each network that the filters leave. Raises InvalidParameter."""
        return [record.to_api() for record in self._select(filters or {})]

    # -- containers

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
        dns: Iterable[str] = (),
    ) -> Attachment:
        """Connect a container that is about to start.

        - `network_mode`: bridge, default, host, none, `container:<id>` (then `shared_path` is the namespace of that
          one, None the host's), or a network's name or id.
        - `ports`: `HostConfig.PortBindings`; `exposed`: ports that are only listed. `name`: the container's.
        - `dns`: name servers of its own, for networks in which ours answers (`Attachment.resolver`).

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
            dns=tuple(str(parse_address(each, "name server")) for each in dns),
        )

        async def undo(_: Attachment) -> None:
            await self.detach(container_id)

        self._attaching.add(container_id)
        try:
            return await self._finish(self._attach(attachment, config or EndpointConfig(), ports, shared_path), undo)
        finally:
            self._attaching.discard(container_id)

    async def _attach(
        self, attachment: Attachment, config: EndpointConfig, ports: PortBindings, shared_path: str | None
    ) -> Attachment:
        await self._ensure_reconciled()
        return await self._plumbing.attach(attachment, config, ports, shared_path)

    async def detach(self, container_id: str) -> None:
        """Disconnect a container that has ended; one that is not attached is no error.

        Published ports are free on return; the container's links go within milliseconds, and then its addresses are
        free (`settled` waits for that). Never raises for what the kernel refuses: that is logged.
        """
        attachment = self._attachments.pop(container_id, None)
        if attachment is not None:
            detaching = asyncio.ensure_future(self._plumbing.detach(attachment))
            self._detaching.add(detaching)
            detaching.add_done_callback(self._detaching.discard)
            await asyncio.shield(detaching)

    async def settled(self) -> None:
        """Wait until the links of all detached containers have gone from the kernel."""
        await asyncio.gather(*self._detaching)
        await self._reaper.settle()

    async def connect(self, container_id: str, network: str, config: EndpointConfig | None = None) -> Endpoint:
        """Connect a running container to one more network; its `Attachment` has changed then.

        Raises NotFound, Forbidden, InvalidParameter, SystemFailure with dockerd's words; then nothing was changed.
        """

        async def undo(endpoint: Endpoint) -> None:
            await self._plumbing.disconnect(container_id, endpoint.network_id)

        return await self._finish(self._plumbing.connect(container_id, network, config or EndpointConfig()), undo)

    async def disconnect(self, container_id: str, network: str) -> Endpoint:
        """Disconnect a running container from a network. Raises as `connect`."""
        return await self._finish(self._plumbing.disconnect(container_id, network), None)

    async def rename(self, container_id: str, name: str) -> None:
        """A container has a new name, by which networks list it. One that is not attached is no error."""
        self._plumbing.rename(container_id, name)

    async def statistics(self, container_id: str) -> dict[str, dict[str, int]]:
        """Counters of each interface, as the container sees it, in the words of the API's stats (bytes, packets)."""
        attachment = self._attachments.get(container_id)
        plugs = [each.plug for each in attachment.endpoints.values() if each.plug.host_link] if attachment else []
        if not plugs:
            return {}
        found = await self._run(self._read_statistics, tuple(plug.host_link for plug in plugs))
        return {plug.interface: found[plug.host_link] for plug in plugs if plug.host_link in found}

    def _read_statistics(self, names: tuple[str, ...]) -> dict[str, dict[str, int]]:
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
        published = await self._plumbing.restore(attachment)
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

    async def _ensure_reconciled(self) -> None:
        if not self._reconciled:
            await self.reconcile()

    def _replace_firewall(self) -> None:
        translations = [each for published in self._published.values() for each in published.translations]
        self._firewall.replace(self._registry.rules(), translations, self._guarded)
        self._settle_guest()

    def _settle_guest(self) -> None:
        if self.settings.iptables:
            self._guest.settle(each.name for each in self._registry.rules())

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


def _ephemeral_ports() -> tuple[int, int]:
    return parse_port_range(read_sysctl("net/ipv4/ip_local_port_range"))
