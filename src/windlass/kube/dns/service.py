"""A node's name server: sockets on loopback, to which the service proxy leads the cluster's DNS address.

    pod ─▶ 10.43.0.10:53 ─▶ nftables ─▶ 127.0.0.1:<free port> ─▶ zone, forwarder

So it needs no address of its own, and every node answers its own pods.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from windlass.kube.client import SharedCache
from windlass.kube.dns.forwarder import Forwarder
from windlass.kube.dns.zone import Zone
from windlass.networks.dns.server import DnsServer, Resolver, Sockets
from windlass.networks.dns.upstream import Upstream
from windlass.networks.name_service import HostServers

ADDRESS: Final = "127.0.0.1"
_ATTEMPTS: Final = 32


class ClusterDNS:
    """`start`, then `stop`. `port` is where it listens, over UDP and TCP."""

    def __init__(self, cache: SharedCache, domain: str, upstream: Resolver | None = None) -> None:
        self._zone = Zone(cache, domain)
        self._forwarder = Forwarder(self._zone, upstream or Upstream(HostServers(), _make_socket))
        self._server: DnsServer | None = None
        self.port = 0

    async def start(self) -> None:
        """Raises OSError."""
        sockets = _open()
        self.port = sockets.udp.getsockname()[1]
        self._zone.start()
        self._server = DnsServer(sockets, self._zone.answer, self._forwarder)
        await self._server.start()

    async def stop(self) -> None:
        """Answer nobody any longer."""
        self._zone.stop()
        if self._server is not None:
            await self._server.close()


def _open() -> Sockets:
    """Both sockets on one free port. Raises OSError."""
    for _ in range(_ATTEMPTS):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            udp.bind((ADDRESS, 0))
            tcp.bind((ADDRESS, udp.getsockname()[1]))
            tcp.listen(128)
        except OSError as error:
            udp.close()
            tcp.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        udp.setblocking(False)
        tcp.setblocking(False)
        return Sockets(udp, tcp)
    raise OSError(errno.EADDRINUSE, "no port is free over UDP and TCP", ADDRESS)


async def _make_socket(family: int, kind: int) -> socket.socket:
    return socket.socket(family, kind)
