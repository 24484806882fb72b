"""The networks that there are: records on disk, drivers in the kernel, and the one made from the other.

Write intent, act: a network is recorded before its bridge is made and removed from the record before its bridge goes.
A bridge that is recorded and not there is made at the start; one that cannot be made leaves its network known and
unusable.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from windlass.errors import Conflict, Forbidden, InvalidParameter, NotFound, SystemFailure, WindlassError
from windlass.kernel.netlink import link
from windlass.kernel.netlink.connection import NetlinkSocket
from windlass.networks import creation
from windlass.networks.default_bridge import (
    DEFAULT_MTU,
    address_choice,
    first_host,
    host_seed,
    plan,
    taken_networks,
    unique_local_pool,
)
from windlass.networks.drivers.bridge import BridgeNetwork
from windlass.networks.drivers.driver import Driver
from windlass.networks.drivers.host import HostNetwork
from windlass.networks.drivers.none import NullNetwork
from windlass.networks.firewall import BridgeRules
from windlass.networks.ipam import choose_subnet
from windlass.networks.record import IpamConfig, NetworkRecord, RecordFile, new_id, now
from windlass.networks.settings import DEFAULT_POOLS, AddressPool, Names, Network, NetworkSettings

log = logging.getLogger(__name__)


class LiveNetwork(NamedTuple):
    """A network: what is known of it, and what carries it. `problem` says why it cannot be used."""

    record: NetworkRecord
    driver: Driver
    problem: str = ""


class Registry:
    """The networks of one daemon. Methods that change something block, and take turns."""

    def __init__(
        self, file: RecordFile, netlink: NetlinkSocket, settings: NetworkSettings, names: Names, exec_root: Path
    ) -> None:
        self._file, self._netlink, self._settings = file, netlink, settings
        self._names, self._exec_root = names, exec_root
        self._networks: dict[str, LiveNetwork] = {}
        self._changing = threading.Lock()
        self.default: BridgeNetwork | None = None

    def start(self) -> None:
        """Find or make all networks. Raises InvalidParameter (flags), SystemFailure (no subnet), OSError."""
        recorded = self._file.load()
        known = {record.name: record for record in recorded}
        networks: list[LiveNetwork] = []
        with self._changing, address_choice():
            if self._settings.bridge != "none":
                record, config = plan(self._settings, self._names, self._exec_root, known.get("bridge"), self._netlink)
                self.default = BridgeNetwork(config, self._netlink)
                networks.append(LiveNetwork(record, self.default))
            for name, driver in (("host", HostNetwork()), ("none", NullNetwork())):
                record = known.get(name) or NetworkRecord(id=new_id(), name=name, driver=driver.kind, created=now())
                networks.append(LiveNetwork(record, driver))
            networks += [self._revive(record) for record in recorded if not record.predefined]
            self._networks = {each.record.id: each for each in networks}
            self._save()
            for each in networks:
                if each.record.predefined:
                    each.driver.start()
                elif not each.problem:
                    self._start_custom(each)

    def _revive(self, record: NetworkRecord) -> LiveNetwork:
        try:
            config = creation.bridge_config(record, mtu=self._mtu, group=self._names.group)
            return LiveNetwork(record, BridgeNetwork(config, self._netlink))
        except (WindlassError, ValueError, KeyError) as error:
            log.warning("network %s cannot be used: %s", record.name, error)
            return LiveNetwork(record, NullNetwork(), str(error))

    def _start_custom(self, network: LiveNetwork) -> None:
        """One network that cannot be made does not keep the daemon from starting."""
        try:
            network.driver.start()
        except (WindlassError, OSError) as error:
            log.warning("network %s cannot be used: %s", network.record.name, error)
            self._networks[network.record.id] = network._replace(driver=NullNetwork(), problem=str(error))

    @property
    def _mtu(self) -> int:
        return self._settings.mtu or DEFAULT_MTU

    def _save(self) -> None:
        self._file.save(each.record for each in self._networks.values())

    # -- what there is

    def __iter__(self) -> Iterator[LiveNetwork]:
        return iter(list(self._networks.values()))

    def get(self, network_id: str) -> LiveNetwork | None:
        return self._networks.get(network_id)

    def find(self, name_or_id: str) -> LiveNetwork:
        """By id, name, or unique beginning of an id. Raises NotFound, InvalidParameter (ambiguous)."""
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

    def rules(self) -> list[BridgeRules]:
        """What the firewall must know of all of them."""
        found = [network.driver.rules() for network in self._networks.values()]
        return [each for each in found if each is not None]

    # -- what changes

    def create(self, request: creation.CreateRequest) -> LiveNetwork:
        """Make a bridge network. Raises Conflict (name taken), Forbidden (subnet taken), SystemFailure, OSError."""
        with self._changing, address_choice():
            others = [each.record for each in self._networks.values()]
            if any(each.name == request.name for each in others):
                raise Conflict(f"network with name {request.name} already exists")
            record = self._record(request, others)
            creation.check_bridge_name(record, others)
            name = creation.bridge_name(record)
            if any(each.name == name for each in link.read_links(self._netlink)):
                raise Conflict(f"interface {name} exists already")
            config = creation.bridge_config(record, mtu=self._mtu, group=self._names.group)
            network = LiveNetwork(record, BridgeNetwork(config, self._netlink))
            self._networks[record.id] = network
            try:
                self._save()
                network.driver.start()
            except BaseException:
                del self._networks[record.id]
                self._save()
                network.driver.stop()
                raise
            return network

    def _record(self, request: creation.CreateRequest, others: list[NetworkRecord]) -> NetworkRecord:
        creation.check_overlap([each.subnet for each in request.ipam if each.subnet], others)
        ipam: list[IpamConfig] = []
        for version in (4, 6) if request.enable_ipv6 else (4,):
            given = next((each for each in request.ipam if each.subnet and each.subnet.version == version), None)
            if given is None or given.subnet is None:
                subnet = self._choose(version, others)
                ipam.append(IpamConfig(subnet=subnet, gateway=first_host(subnet).ip))
                continue
            gateway = given.gateway or first_host(given.subnet).ip
            ipam.append(
                IpamConfig(
                    subnet=given.subnet,
                    ip_range=given.ip_range,
                    gateway=gateway,
                    auxiliary=given.auxiliary,
                    configured=True,
                )
            )
        return NetworkRecord(
            id=new_id(),
            name=request.name,
            driver="bridge",
            created=now(),
            ipam=tuple(ipam),
            ipam_options=request.ipam_options,
            options=request.options,
            labels=request.labels,
            internal=request.internal,
            attachable=request.attachable,
            enable_ipv6=request.enable_ipv6,
        )

    def _choose(self, version: int, others: list[NetworkRecord]) -> Network:
        own = [pool for pool in self._settings.default_address_pools if pool.base.version == version]
        pools: list[AddressPool] = own or (
            list(DEFAULT_POOLS) if version == 4 else [unique_local_pool(host_seed(self._exec_root))]
        )
        taken = taken_networks(self._netlink)
        return choose_subnet(pools, [*taken, *(config.subnet for each in others for config in each.ipam)])

    def remove(self, record: NetworkRecord) -> None:
        """Remove a network that nobody uses. Raises Forbidden (predefined), NotFound (gone already), OSError."""
        if record.predefined:
            raise Forbidden(f"{record.name} is a pre-defined network and cannot be removed")
        with self._changing:
            network = self._networks.pop(record.id, None)
            if network is None:
                raise NotFound(f"network {record.name} not found")
            self._save()
            network.driver.stop()

    def stop(self) -> None:
        """Take all networks out of the kernel; their records stay. Raises OSError."""
        for network in self._networks.values():
            network.driver.stop()

    def stop_new(self) -> None:
        """Take those out of the kernel that were not there before the start. Raises OSError."""
        for network in self._networks.values():
            if isinstance(network.driver, BridgeNetwork) and network.driver.is_new:
                network.driver.stop()


def usable(network: LiveNetwork) -> LiveNetwork:
    """The network, if containers may be connected to it. Raises SystemFailure."""
    if network.problem:
        raise SystemFailure(f"network {network.record.name} cannot be used: {network.problem}")
    return network
