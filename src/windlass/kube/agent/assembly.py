"""An agent, put together: it joins, then runs the same node as a server does in its own process.

client-kubelet ─▶ RemoteClient ─▶ node agent           pods of this node, and what they name
client-agent   ─▶ RemoteClient ─▶ overlay, services …  the cluster's network
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import socket
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from windlass.cluster.certificates import write_file
from windlass.errors import WindlassError
from windlass.kube.agent import authority, certificates
from windlass.kube.agent.arguments import Arguments
from windlass.kube.agent.certificates import Kind, NodeCertificates
from windlass.kube.agent.configuration import ClusterConfiguration
from windlass.kube.api.status import StatusError
from windlass.kube.node.rooms import shown_in_volumes
from windlass.kube.remote.client import RemoteClient
from windlass.kube.remote.references import References
from windlass.kube.remote.transport import Credentials, Transport
from windlass.kube.server.node import LocalNode, node_name

log = logging.getLogger("windlass.kube.agent")

_JOIN_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 30.0
_LONGEST_SLEEP: Final = 3600.0
_OF_NETWORK: Final = (
    ("", "services", ""),
    ("", "nodes", ""),
    ("", "namespaces", ""),
    ("", "pods", ""),
    ("discovery.k8s.io", "endpointslices", ""),
    ("networking.k8s.io", "networkpolicies", ""),
)


class Agent:
    """A running agent. `start`, then `stop`; pods go on."""

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments
        self._directory = arguments.data_dir / "agent"
        self._undo = contextlib.AsyncExitStack()
        self._transports: list[Transport] = []

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
        flags = dataclasses.replace(arguments.node, name=self._name())
        kinds = [certificates.kubelet(flags.name), certificates.agent(flags.name)]
        pem, held = await self._join(*kinds)
        client, network_client = (self._client(pem, held.path(kind)) for kind in kinds)
        configuration = await ClusterConfiguration.read(client)
        await asyncio.gather(client.cache.start(_of_node(flags.name)), network_client.cache.start(_OF_NETWORK))
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
        )
        self._undo.push_async_callback(node.stop)
        await node.start()
        log.info("node %s (%s) is part of the cluster at %s", flags.name, address, arguments.server)

    def _name(self) -> str:
        name = node_name(self._arguments.node)
        return f"{name}-{_node_id(self._directory / 'node-id')}" if self._arguments.with_node_id else name

    # -- joining

    async def _join(self, kubelet: Kind, agent: Kind) -> tuple[bytes, NodeCertificates]:
        """The authority, and the certificates that clients need; again as long as the server does not answer."""
        while True:
            try:
                return await self._try_to_join(kubelet, agent)
            except StatusError as error:
                if error.code < 500:
                    raise
                log.warning("%s (again in %d s)", error.message, _JOIN_SECONDS)
                await asyncio.sleep(_JOIN_SECONDS)

    async def _try_to_join(self, kubelet: Kind, agent: Kind) -> tuple[bytes, NodeCertificates]:
        arguments = self._arguments
        pem = await authority.obtain(arguments.server, arguments.token, self._directory / "server-ca.crt")
        held = NodeCertificates(self._directory, pem)
        if held.find(kubelet) is None:
            if arguments.token is None:
                raise WindlassError("this node has no certificate that is valid: --token is needed to ask for one")
            credentials = Credentials(authority=pem, token=arguments.token.bootstrap)
            await _ensure(held, kubelet, arguments.server, credentials)
        credentials = Credentials(authority=pem, certificate=held.path(kubelet))
        for kind in (kubelet, agent):
            await _ensure(held, kind, arguments.server, credentials)
        return pem, held

    def _client(self, pem: bytes, certificate: Path) -> RemoteClient:
        credentials = Credentials(authority=pem, certificate=certificate)
        transport = Transport(self._arguments.server, credentials, agent="kubelet")
        self._transports.append(transport)
        client = RemoteClient(transport)
        self._undo.push_async_callback(client.close)
        return client

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


async def _ensure(held: NodeCertificates, kind: Kind, url: str, credentials: Credentials) -> None:
    transport = Transport(url, credentials, agent="kubelet")
    try:
        await held.ensure(kind, RemoteClient(transport))
    finally:
        await transport.close()


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
