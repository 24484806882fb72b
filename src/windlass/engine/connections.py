"""Containers and networks: what a run is connected to, when it starts, while it runs, and what its files say of it.

    endpoints      what is wanted, by network: kept in the record, changed by `network connect` and `disconnect`
    attachment     what this run has got: made by the networks at its start, given back at its end

The first endpoint makes the sandbox (that of the network mode, if it is among them), the others are plugged into it.
"""

from __future__ import annotations

import contextlib
from typing import Any

from windlass.engine import joins, links, modes
from windlass.engine.container import Container
from windlass.engine.core import Core, log
from windlass.engine.files import NameFiles, rewrite_file
from windlass.engine.shapes import decode_endpoint
from windlass.engine.validate import check_endpoints
from windlass.errors import Conflict, Forbidden, InvalidParameter, NotFound, SystemFailure, WindlassError
from windlass.networks import etchosts
from windlass.networks.attachment import Attachment, EndpointConfig

Document = dict[str, Any]


class Connections:
    """Connects containers."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._files = NameFiles(core.settings)
        self._linking: dict[str, list[str]] = {}  # running containers with links, and where those go

    # A new container --------------------------------------------------------------------------------------------

    def settle(self, container: Container, endpoints: dict[str, Document]) -> None:
        """Fill in what a new container is to be connected to; networks are called by their names."""
        if container.shares_network_of is not None or container.config.get("NetworkDisabled"):
            container.endpoints = {}
            return
        mode = self._name(container.network_mode)
        wanted = {self._name(network): endpoint for network, endpoint in endpoints.items()}
        if not wanted or mode in {"host", "none"}:
            wanted = {mode: wanted.get(mode) or decode_endpoint({})}
        container.endpoints = wanted

    def _name(self, network: str) -> str:
        if network in {"", "default"}:
            return modes.DEFAULT_NETWORK
        try:
            return self._core.networks.find(network).name
        except (NotFound, InvalidParameter):
            return network  # the start will tell

    # A run ------------------------------------------------------------------------------------------------------

    async def attach(self, container: Container, donor: Container | None) -> Attachment:
        """Connect a container that is about to start. Raises `WindlassError`; then it is connected to nothing."""
        core, config, host_config = self._core, container.config, container.host_config
        if donor is not None:
            config["Hostname"], config["Domainname"] = donor.config["Hostname"], donor.config["Domainname"]
        exposed = list(config.get("ExposedPorts") or {})
        ports = dict(host_config["PortBindings"] or {})
        if host_config["PublishAllPorts"]:
            ports |= {port: [{"HostIp": "", "HostPort": ""}] for port in exposed if port not in ports}
        sandbox = core.sandboxes.find(container.sandbox)
        shared = joins.network_path(donor) if donor is not None else None
        if sandbox is not None and container.shares_network_of == sandbox.id:
            shared = sandbox.netns
        names = self._order(container)
        first = names[0] if names else "none"
        try:
            attachment = await core.networks.attach(
                container.id,
                network_mode=container.network_mode if shared is not None else first,
                config=EndpointConfig.from_api(container.endpoints.get(first)),
                ports=ports,
                hostname=config["Hostname"],
                name=container.name,
                exposed=exposed,
                shared_path=shared,
                dns=host_config["Dns"] or core.settings.dns,
            )
            container.attachment = attachment.to_json()
            for name in names[1:]:
                config_of_it = EndpointConfig.from_api(container.endpoints[name])
                await core.networks.connect(container.id, name, config_of_it)
        except WindlassError as error:
            raise type(error)(f"failed to set up container networking: {error}") from None
        self._taken_over(container, attachment)
        self.adopt(container)
        for endpoint in attachment.endpoints.values():
            self._event(container, "connect", endpoint.network_id, endpoint.network_name)
        return attachment

    def adopt(self, container: Container) -> None:
        """A run has begun, or was begun by another daemon."""
        if references := links.of(container):
            self._linking[container.id] = references

    @staticmethod
    def _order(container: Container) -> list[str]:
        names = list(container.endpoints)
        if container.network_mode in names:
            names.remove(container.network_mode)
            names.insert(0, container.network_mode)
        return names

    def _taken_over(self, container: Container, attachment: Attachment) -> None:
        """The record follows what the networks have done."""
        container.attachment = attachment.to_json()
        for name, made in attachment.endpoints.items():
            if name in container.endpoints:
                container.endpoints[name]["NetworkID"] = made.network_id

    def _event(self, container: Container, action: str, network_id: str, name: str) -> None:
        with contextlib.suppress(WindlassError):
            driver = self._core.networks.find(network_id).driver
            attributes = {"container": container.id, "name": name, "type": driver}
            self._core.events.publish("network", action, network_id, attributes)

    async def detach(self, container: Container) -> None:
        """Disconnect a container that has ended, or could not start."""
        attachment = container.attachment
        self._linking.pop(container.id, None)
        await self._core.networks.detach(container.id)
        if attachment is not None:
            container.attachment = None
            for endpoint in attachment.get("endpoints", ()):
                self._event(container, "disconnect", endpoint["networkId"], endpoint["networkName"])

    # Its files --------------------------------------------------------------------------------------------------

    def files(self, container: Container, attachment: Attachment) -> dict[str, bytes]:
        """hostname, hosts and resolv.conf of a run. Raises `InvalidParameter`."""
        return {
            "hostname": f"{container.config['Hostname']}\n".encode(),
            "hosts": self._files.hosts(
                container.config,
                container.host_config,
                attachment,
                self._core.networks.host_gateway(),
                links.entries(self._core, container, attachment),
            ).encode(),
            "resolv.conf": self._files.resolv_conf(container.host_config, attachment).encode(),
        }

    def started(self, container: Container) -> None:
        """Tell those who have a link to a container where it is now."""
        for container_id, references in self._linking.items():
            if not any(links.means(reference, container) for reference in references):
                continue
            other, attachment = self._core.store.get(container_id), self._core.networks.attachment(container_id)
            if other is None or attachment is None:
                continue
            with contextlib.suppress(WindlassError):
                self._edit_hosts(other, set(), links.entries(self._core, other, attachment))

    def _edit_hosts(self, container: Container, gone: set[str], new: list[etchosts.Entry]) -> None:
        """Change lines of a running container's hosts file, and leave those that somebody else has written."""
        names = {name for entry in new for name in entry.names.split()[:1]}

        def edit(text: str) -> str:
            kept = []
            for line in text.splitlines():
                words = line.partition("#")[0].split()
                if not (words and (words[0] in gone or names.intersection(words[1:2]))):
                    kept.append(line)
            return "".join(f"{line}\n" for line in [*kept, *(f"{entry.address}\t{entry.names}" for entry in new)])

        try:
            rewrite_file(f"{self._core.run_directory(container)}/hosts", edit)
        except (OSError, SystemFailure) as error:
            log.warning("cannot change the hosts file of container %s: %s", container.id, error)

    def _edit_resolver(self, container: Container, before: str, after: str) -> None:
        """Replace resolv.conf, unless somebody else has changed it."""
        if before == after:
            return
        try:
            rewrite_file(
                f"{self._core.run_directory(container)}/resolv.conf", lambda text: after if text == before else text
            )
        except (OSError, SystemFailure) as error:
            log.warning("cannot change resolv.conf of container %s: %s", container.id, error)

    # While it runs, or does not ---------------------------------------------------------------------------------

    async def connect(self, container: Container, network: str, body: Document | None) -> None:
        """`POST /networks/{id}/connect`. Raises `NotFound`, `InvalidParameter`, `Forbidden`, `SystemFailure`."""
        endpoint = decode_endpoint(body or {})
        await self._core.tasks.finish(self._connect(container, network, endpoint), f"connect {container.id[:12]}")

    async def _connect(self, container: Container, network: str, wanted: Document) -> None:
        core = self._core
        async with container.lock:
            self._check_changeable(container)
            record = core.networks.find(network)
            if record.name == "host":
                raise Forbidden("container cannot be disconnected from host network or connected to host network")
            check_endpoints(container.network_mode, {record.name: wanted})
            if not container.state.running or container.state.restarting:
                container.endpoints.pop("none", None)
                container.endpoints[record.name] = wanted | {"NetworkID": record.id}
                core.store.save(container)
                return
            attachment = core.networks.attachment(container.id)
            if attachment is None:
                raise Conflict(f"container {container.id} is not running")
            before = self._files.resolv_conf(container.host_config, attachment)
            made = await core.networks.connect(container.id, record.id, EndpointConfig.from_api(wanted))
            container.endpoints[record.name] = wanted
            self._taken_over(container, attachment)
            core.save(container)
            names = etchosts.own_names(container.config["Hostname"], container.config["Domainname"])
            own = [made.plug.ipv4, made.plug.ipv6]
            entries = [etchosts.Entry(str(each.ip), names) for each in own if each is not None]
            self._edit_hosts_of_own(container, entries)
            self._edit_resolver(container, before, self._files.resolv_conf(container.host_config, attachment))
            self._event(container, "connect", made.network_id, made.network_name)

    def _edit_hosts_of_own(self, container: Container, entries: list[etchosts.Entry]) -> None:
        """Add lines for the container's own addresses: it has its name on each of them."""

        def edit(text: str) -> str:
            return text + "".join(f"{entry.address}\t{entry.names}\n" for entry in entries)

        try:
            rewrite_file(f"{self._core.run_directory(container)}/hosts", edit)
        except (OSError, SystemFailure) as error:
            log.warning("cannot change the hosts file of container %s: %s", container.id, error)

    async def disconnect(self, container: Container, network: str, *, force: bool) -> None:
        """`POST /networks/{id}/disconnect`. Raises `NotFound`, `Forbidden`, `SystemFailure`."""
        work = self._disconnect(container, network, force=force)
        await self._core.tasks.finish(work, f"disconnect {container.id[:12]}")

    async def _disconnect(self, container: Container, network: str, *, force: bool) -> None:
        core = self._core
        async with container.lock:
            try:
                name = core.networks.find(network).name
            except NotFound:
                if not force:
                    raise
                name = network
            if name == "host" and container.network_mode == "host":
                raise InvalidParameter(
                    "cannot disconnect container from host network - container was created in host network mode"
                )
            if name not in container.endpoints:
                raise Forbidden(f"container {container.id} is not connected to network {name}")
            attachment = core.networks.attachment(container.id)
            if not container.state.running or container.state.restarting or attachment is None:
                if container.state.removing or container.state.dead:
                    raise Conflict(f"Container {container.id} is marked for removal and cannot be disconnected")
                del container.endpoints[name]
                core.store.save(container)
                return
            before = self._files.resolv_conf(container.host_config, attachment)
            gone = await core.networks.disconnect(container.id, name)
            container.endpoints.pop(name, None)
            self._taken_over(container, attachment)
            core.save(container)
            own = [gone.plug.ipv4, gone.plug.ipv6]
            self._edit_hosts(container, {str(each.ip) for each in own if each is not None}, [])
            self._edit_resolver(container, before, self._files.resolv_conf(container.host_config, attachment))
            self._event(container, "disconnect", gone.network_id, gone.network_name)

    @staticmethod
    def _check_changeable(container: Container) -> None:
        if container.state.removing or container.state.dead:
            raise Conflict(
                f"Container {container.id} is marked for removal and cannot be connected or disconnected to the network"
            )
        if container.shares_network_of is not None or container.network_mode == "host":
            raise Forbidden(
                "container sharing network namespace with another container or host cannot be connected to any other "
                "network"
            )
