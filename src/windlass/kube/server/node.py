"""The node in the server's own process: an engine (with Docker's API on its socket) and an agent over it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from pathlib import Path

from windlass.daemon.arguments import Arguments as DaemonArguments
from windlass.daemon.service import Daemon
from windlass.daemon.settings import Settings
from windlass.engine.core import default_cgroup_parent
from windlass.errors import WindlassError
from windlass.kube.agent.configuration import DNS_SERVICE, ClusterConfiguration
from windlass.kube.agent.overlay import NodeOverlay
from windlass.kube.client import APIClient
from windlass.kube.controllers.events import EventRecorder
from windlass.kube.dns import service as dns
from windlass.kube.dns.service import ClusterDNS
from windlass.kube.node.agent import NodeAgent
from windlass.kube.node.registration import STORAGE
from windlass.kube.node.server.https import KubeletServer, Serving
from windlass.kube.node.server.kubelet import Kubelet
from windlass.kube.node.settings import NodeSettings
from windlass.kube.node.storage import LocalStorage
from windlass.kube.proxy.model import Endpoint
from windlass.kube.proxy.proxier import ServiceProxy, table_name
from windlass.kube.server.arguments import NodeFlags

log = logging.getLogger("windlass.kube.server")

_RETRY_SECONDS = 5.0


def node_name(flags: NodeFlags) -> str:
    """The node's name: the flag's, or the host's."""
    return flags.name or socket.gethostname().lower()


class LocalNode:
    """`start`, then `stop`; pods go on. `client` writes as the node, `network_client` reads the cluster's network."""

    def __init__(
        self,
        flags: NodeFlags,
        client: APIClient,
        network_client: APIClient,
        *,
        data_dir: Path,
        address: str,
        configuration: ClusterConfiguration,
        serving: Serving,
    ) -> None:
        self._flags = flags
        self._client = client
        self._network_client = network_client
        self._data_dir = data_dir
        self._address = address
        self._configuration = configuration
        self._serving = serving
        self._undo = contextlib.AsyncExitStack()
        self.agent: NodeAgent | None = None

    @property
    def kubelet(self) -> Kubelet | None:
        """The node's own API, once the agent has started."""
        return self.agent.kubelet if self.agent is not None else None

    async def start(self) -> None:
        """Raises WindlassError, OSError."""
        flags = self._flags
        settings = Settings(
            data_root=self._data_dir / "engine",
            exec_root=flags.exec_root,
            log_opts={"max-size": "10m", "max-file": "5"},
            insecure_registries=flags.insecure_registries,
            registry_mirrors=flags.registry_mirrors,
            default_address_pools=(),
        )
        daemon = Daemon(DaemonArguments(), settings, {})
        await daemon.start()
        self._undo.push_async_callback(daemon.stop)
        name = node_name(flags)
        server = KubeletServer(name, self._serving, lambda: self.kubelet, flags.kubelet_port)
        self._undo.push_async_callback(server.stop)
        server.start()
        overlay = NodeOverlay(self._network_client, name, self._address, self._configuration)
        self._undo.push_async_callback(overlay.stop)
        node = NodeSettings(
            name=name,
            address=self._address,
            has_fixed_address=bool(flags.address),
            hostname=socket.gethostname(),
            data_dir=self._data_dir,
            cgroup_parent=default_cgroup_parent(flags.exec_root),
            cluster_dns=[self._configuration.cluster_dns],
            cluster_domain=self._configuration.cluster_domain,
            labels=dict(flags.labels),
            taints=flags.taints,
            max_pods=flags.max_pods,
            static_manifests=flags.manifests,
            eviction=flags.eviction,
            image_gc_high=flags.image_gc_high,
            image_gc_low=flags.image_gc_low,
            kubelet_port=server.port,
            cluster_cidr=self._configuration.cluster_cidr,
            service_cidr=self._configuration.service_cidr,
            mtu=overlay.mtu(),
        )
        overlay.start()
        storage = LocalStorage(self._network_client.cache, name, self._data_dir / STORAGE)
        self._undo.push_async_callback(storage.stop)
        storage.start()
        table = table_name(str(self._data_dir))
        names = ClusterDNS(self._network_client.cache, self._configuration.cluster_domain)
        self._undo.push_async_callback(names.stop)
        await names.start()
        proxy = ServiceProxy(
            self._network_client,
            name,
            self._configuration.cluster_cidr,
            table,
            {DNS_SERVICE: Endpoint(dns.ADDRESS, names.port)},
        )
        self._undo.push_async_callback(self._stop_proxy, proxy, daemon)
        proxy.start()
        recorder = EventRecorder(self._client, "kubelet", host=name)
        self.agent = NodeAgent(daemon.engine, self._client, node, recorder=recorder)
        self._undo.push_async_callback(self.agent.stop)
        self._undo.push_async_callback(_cancel, asyncio.create_task(self._start_agent(self.agent)))

    async def _start_agent(self, agent: NodeAgent) -> None:
        """Start the agent, which waits for the API and its controllers; again where that fails."""
        while True:
            try:
                await agent.start()
                return
            except Exception as error:
                log.error("the node cannot be started: %s", error, exc_info=not isinstance(error, WindlassError))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _stop_proxy(self, proxy: ServiceProxy, daemon: Daemon) -> None:
        """The rules stay as long as there are pods that need them."""
        await proxy.stop(keep=any(True for _ in daemon.engine.parts.core.sandboxes))

    async def stop(self) -> None:
        """Let go of everything; pods go on."""
        await self._undo.aclose()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
