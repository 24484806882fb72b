"""An agent, put together: it joins, then runs the same node as a server does in its own process.

client-kubelet ─▶ RemoteClient ─▶ node agent           pods of this node, and what they name
client-agent   ─▶ RemoteClient ─▶ overlay, services …  the cluster's network

The endpoints of the Service `kubernetes` are the servers that it goes to where the one of --server does not answer;
they are kept in <data-dir>/agent/servers, so that it starts without that one, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from windlass.cluster.certificates import write_file
from windlass.errors import WindlassError
from windlass.kube.agent import authority, certificates
from windlass.kube.agent.arguments import Arguments
from windlass.kube.agent.certificates import Kind, NodeCertificates
from windlass.kube.agent.configuration import ClusterConfiguration
from windlass.kube.api.endpointslices import service_of
from windlass.kube.api.reader import Listener, Object
from windlass.kube.api.status import StatusError
from windlass.kube.node.rooms import shown_in_volumes
from windlass.kube.node.server.access import ReviewedAccess, ReviewedTokens
from windlass.kube.node.server.https import Serving
from windlass.kube.remote.client import RemoteClient
from windlass.kube.remote.references import References
from windlass.kube.remote.servers import Servers
from windlass.kube.remote.transport import Credentials, Transport
from windlass.kube.server.node import LocalNode, node_name

log = logging.getLogger("windlass.kube.agent")
T = TypeVar("T")

_JOIN_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 30.0
_LONGEST_SLEEP: Final = 3600.0
_SLICES: Final = ("discovery.k8s.io", "endpointslices")
_OF_NETWORK: Final = (
    ("", "services", ""),
    ("", "persistentvolumes", ""),
    ("", "nodes", ""),
    ("", "namespaces", ""),
    ("", "pods", ""),
    (*_SLICES, ""),
    ("networking.k8s.io", "networkpolicies", ""),
)


class Agent:
    """A running agent. `start`, then `stop`; pods go on."""

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments
        self._directory = arguments.data_dir / "agent"
        self._undo = contextlib.AsyncExitStack()
        self._transports: list[Transport] = []
        self._servers = Servers(arguments.server)

    async def start(self) -> None:
        """Join, and run a node. Waits for a server that does not answer.

        Raises:
            WindlassError, OSError: nothing is left behind then.
        """
        try:
            await self._start()
        except BaseException:
            await self._undo.aclose()
            raise

    async def stop(self) -> None:
        """Let go of everything; pods go on."""
        await self._undo.aclose()

    async def _start(self) -> None:
        arguments = self._arguments
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._servers.learn(_lines(self._directory / "servers"))
        flags = dataclasses.replace(arguments.node, name=self._name())
        kinds = [certificates.kubelet(flags.name), certificates.agent(flags.name)]
        pem, held = await _served(lambda: self._join(*kinds))
        client, network_client = (self._client(pem, held.path(kind)) for kind in kinds)
        configuration = await _served(lambda: ClusterConfiguration.read(client))
        await asyncio.gather(client.cache.start(_of_node(flags.name)), network_client.cache.start(_OF_NETWORK))
        network_client.cache.subscribe(*_SLICES, self._slice_changed(network_client))
        self._learn(network_client)
        references = References(client.cache, shown_in_volumes)
        self._undo.push_async_callback(references.stop)
        references.start()
        address = flags.address or _address_towards(arguments.server)
        kinds.append(certificates.serving(flags.name, [socket.gethostname()], [address]))
        keeping = asyncio.get_running_loop().create_task(self._keep(held, kinds, client), name="certificates")
        self._undo.push_async_callback(_cancel, keeping)
        node = LocalNode(
            flags,
            client,
            network_client,
            data_dir=self._directory,
            address=address,
            configuration=configuration,
            serving=_serving(pem, client, held.path(kinds[-1])),
        )
        self._undo.push_async_callback(node.stop)
        await node.start()
        log.info("node %s (%s) is part of the cluster at %s", flags.name, address, arguments.server)

    def _name(self) -> str:
        name = node_name(self._arguments.node)
        return f"{name}-{_node_id(self._directory / 'node-id')}" if self._arguments.with_node_id else name

    # -- joining

    async def _join(self, kubelet: Kind, agent: Kind) -> tuple[bytes, NodeCertificates]:
        """The authority, and the certificates that clients need."""
        arguments = self._arguments
        pem = await authority.obtain(arguments.server, arguments.token, self._directory / "server-ca.crt")
        held = NodeCertificates(self._directory, pem)
        if held.find(kubelet) is None:
            if arguments.token is None:
                raise WindlassError("this node has no certificate that is valid: --token is needed to ask for one")
            credentials = Credentials(authority=pem, token=arguments.token.bootstrap)
            await _ensure(held, kubelet, self._servers, credentials)
        credentials = Credentials(authority=pem, certificate=held.path(kubelet))
        for kind in (kubelet, agent):
            await _ensure(held, kind, self._servers, credentials)
        return pem, held

    def _client(self, pem: bytes, certificate: Path) -> RemoteClient:
        credentials = Credentials(authority=pem, certificate=certificate)
        transport = Transport(self._servers, credentials, agent="kubelet")
        self._transports.append(transport)
        client = RemoteClient(transport)
        self._undo.push_async_callback(client.close)
        return client

    # -- servers

    def _slice_changed(self, client: RemoteClient) -> Listener:
        def changed(_event: str, endpoint_slice: Object) -> None:
            if _is_of_servers(endpoint_slice):
                self._learn(client)

        return changed

    def _learn(self, client: RemoteClient) -> None:
        """The servers that the cluster has now. None at all is no news that helps."""
        urls = sorted({url for each in client.cache.list(*_SLICES, "default") for url in _urls_of(each)})
        if urls and self._servers.learn(urls):
            write_file(self._directory / "servers", "".join(f"{url}\n" for url in urls).encode())

    # -- renewal

    async def _keep(self, held: NodeCertificates, kinds: list[Kind], client: RemoteClient) -> None:
        """Renew certificates before they end, as long as the agent runs."""
        while True:
            failed = False
            for kind in kinds:
                try:
                    if await held.ensure(kind, client):
                        for transport in self._transports:
                            transport.reload()
                except (WindlassError, OSError) as error:
                    failed = True
                    log.warning("%s", error)
            due = min(held.due(kind) for kind in kinds)
            await asyncio.sleep(_RETRY_SECONDS if failed else min(max(due, 1.0), _LONGEST_SLEEP))


def _serving(pem: bytes, client: RemoteClient, certificate: Path) -> Serving:
    """The node's own API: the API server says who may ask."""

    def pair() -> tuple[Path, Path] | None:
        return (certificate, certificate) if certificate.exists() else None

    return Serving(pem, ReviewedTokens(client), ReviewedAccess(client), pair)


async def _served(work: Callable[[], Awaitable[T]]) -> T:
    """What some work comes to, which begins again as long as no server answers."""
    while True:
        try:
            return await work()
        except StatusError as error:
            if error.code < 500:
                raise
            log.warning("%s (again in %d s)", error.message, _JOIN_SECONDS)
            await asyncio.sleep(_JOIN_SECONDS)


async def _ensure(held: NodeCertificates, kind: Kind, servers: Servers, credentials: Credentials) -> None:
    transport = Transport(servers, credentials, agent="kubelet")
    try:
        await held.ensure(kind, RemoteClient(transport))
    finally:
        await transport.close()


def _is_of_servers(endpoint_slice: Object) -> bool:
    return service_of(endpoint_slice) == ("default", "kubernetes")


def _urls_of(endpoint_slice: Object) -> Iterable[str]:
    if not _is_of_servers(endpoint_slice):
        return
    for port in endpoint_slice.get("ports") or ():
        for endpoint in endpoint_slice.get("endpoints") or ():
            for address in endpoint.get("addresses") or ():
                yield f"https://[{address}]:{port['port']}" if ":" in address else f"https://{address}:{port['port']}"


def _lines(path: Path) -> Sequence[str]:
    return path.read_text().split() if path.exists() else ()


def _of_node(name: str) -> list[tuple[str, str, str]]:
    """What a kubelet may follow."""
    return [
        ("", "pods", f"spec.nodeName={name}"),
        ("", "nodes", f"metadata.name={name}"),
        ("", "services", ""),
        ("node.k8s.io", "runtimeclasses", ""),
    ]


def _node_id(path: Path) -> str:
    if not path.exists():
        write_file(path, f"{secrets.token_hex(4)}\n".encode())
    return path.read_text().strip()


def _address_towards(url: str) -> str:
    """Our address on the way to a server. Raises OSError."""
    parts = urlsplit(url)
    family, kind, protocol, _, place = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(place)  # nothing is sent: it only asks which address would be ours
        return str(probe.getsockname()[0])


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
