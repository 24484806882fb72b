"""A kubelet's API over TLS, for API servers elsewhere, metrics scrapers and people.

The port is taken at the start, because the Node tells of it; it answers once there is a certificate, for which a node
that joins has to wait until its Node exists.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from windlass.cluster.pki import ServingContext
from windlass.errors import WindlassError
from windlass.http import Request, Response, Server
from windlass.kube.api.authentication.credentials import TokenAuthenticator
from windlass.kube.api.identity import Authorizer
from windlass.kube.api.status import StatusError
from windlass.kube.node.server.access import Access
from windlass.kube.node.server.ask import refused
from windlass.kube.node.server.kubelet import Answer, Kubelet

log = logging.getLogger("windlass.kube.node")

PORT: Final = 10250
_LOOK_SECONDS: Final = 10.0
_SOON_SECONDS: Final = 0.5

Pair = Callable[[], tuple[Path, Path] | None]


@dataclass(frozen=True, slots=True)
class Serving:
    """What a kubelet's HTTPS needs.

    Attributes:
        authority: signs clients' certificates (PEM).
        tokens, authorizer: who else is known, and who may what.
        pair: the files of certificate and key, renewed where they have to be; None as long as there are none.
    """

    authority: bytes
    tokens: TokenAuthenticator
    authorizer: Authorizer
    pair: Pair


class KubeletServer:
    """See the module. `start`, then `stop`."""

    def __init__(self, node: str, serving: Serving, kubelet: Callable[[], Kubelet | None], port: int | None) -> None:
        """Raises OSError: the port is taken. Without one it is 10250, or any where that is taken."""
        self._serving = serving
        self._kubelet = kubelet
        self._access = Access(node, serving.authority, serving.tokens, serving.authorizer)
        self._socket = _bind(port)
        self.port: int = self._socket.getsockname()[1]
        if port is None and self.port != PORT:
            log.info("port %d is taken: the node's own API is on port %d", PORT, self.port)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Serve as soon as there is a certificate."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="kubelet")

    async def stop(self) -> None:
        """Serve no longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._socket.close()

    async def _run(self) -> None:
        pair = await self._pair()
        while pair is None:
            await asyncio.sleep(_SOON_SECONDS)
            pair = await self._pair()
        context = ServingContext(*pair, [self._serving.authority])
        server = Server(self._answer)
        try:
            await server.listen(self._socket, tls=context.context)
            seen = _content(pair)
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                found = await self._pair()
                if found is not None and (content := _content(found)) != seen:
                    with contextlib.suppress(OSError):
                        context.reload()
                        seen = content
        finally:
            await server.close(1.0)

    async def _pair(self) -> tuple[Path, Path] | None:
        try:
            return await asyncio.to_thread(self._serving.pair)
        except (OSError, WindlassError) as error:
            log.warning("the certificate of the node's own API: %s", error)
            return None

    async def _answer(self, request: Request) -> Answer:
        try:
            await self._access.check(request)
            kubelet = self._kubelet()
            if kubelet is None:
                raise refused(503, "the node agent is starting")
            return await kubelet.serve(request, request.path, request.query)
        except StatusError as error:
            fields = [("Content-Type", "text/plain; charset=utf-8")]
            return Response(error.code, fields, f"{error.message}\n".encode())


def _bind(port: int | None) -> socket.socket:
    try:
        return _bound(PORT if port is None else port)
    except OSError:
        if port is not None:
            raise
        return _bound(0)


def _bound(port: int) -> socket.socket:
    """A socket of both families where there are both."""
    with contextlib.suppress(OSError):
        made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            made.bind(("::", port))
            made.listen()  # two sockets may be bound to a port on which nobody listens
            return made
        except OSError:
            made.close()
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("", port))
        made.listen()
    except OSError:
        made.close()
        raise
    return made


def _content(pair: tuple[Path, Path]) -> list[bytes]:
    return [path.read_bytes() for path in pair]
