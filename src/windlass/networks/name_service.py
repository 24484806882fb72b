"""Name servers for the containers that are in networks with names, one for each container.

```
 attachment ─▶ server in its sandbox ─┬▶ directory   the names in its networks
                                      └▶ upstream    the host's servers, asked from the host;
                                                     its own (`--dns`), asked from its sandbox;
                                                     nobody, while it is in internal networks only
```
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
import socket
from collections.abc import Sequence

from windlass.networks import resolvconf
from windlass.networks.attachment import Attachment
from windlass.networks.connector import Connector
from windlass.networks.dns.directory import Directory
from windlass.networks.dns.server import DnsServer, Sockets, open_sockets
from windlass.networks.dns.upstream import Upstream
from windlass.networks.sandbox import Sandboxes
from windlass.networks.settings import IPAddress

log = logging.getLogger(__name__)

_MOST_SERVERS = 3  # resolv.conf(5), MAXNS


class HostServers:
    """The host's name servers, read again when their file changes."""

    def __init__(self, path: str = resolvconf.HOST_PATH) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._servers: tuple[IPAddress, ...] = ()

    def __call__(self) -> Sequence[IPAddress]:
        try:
            status = os.stat(self._path)
            seen = (status.st_mtime_ns, status.st_ino)
            if seen != self._seen:
                with open(self._path, encoding="utf-8", errors="replace") as file:
                    self._servers = resolvconf.parse(file.read()).nameservers[:_MOST_SERVERS]
                self._seen = seen
        except OSError:
            self._servers = ()
        # Loopback servers are fine here: they are asked from the host.
        return self._servers or tuple(ipaddress.ip_address(each) for each in resolvconf.FALLBACK_V4)


class NameService:
    """The name servers of one daemon."""

    def __init__(self, connector: Connector, sandboxes: Sandboxes, host_servers: HostServers | None = None) -> None:
        self._connector, self._sandboxes = connector, sandboxes
        self._host_servers = host_servers or HostServers()
        self._servers: dict[str, DnsServer] = {}
        self.directory = Directory()

    async def follow(self, attachment: Attachment) -> None:
        """Have a server for a container that needs one, and none for one that needs none. Raises OSError."""
        wanted = bool(attachment.resolver and attachment.sandbox_owned and attachment.netns_path)
        present = attachment.container_id in self._servers
        if wanted and not present:
            assert attachment.netns_path is not None
            sockets: Sockets = await self._connector.visit(self._open, attachment.netns_path)
            server = DnsServer(
                sockets,
                lambda query: self.directory.answer(attachment.named_networks, query),
                self._upstream(attachment),
            )
            self._servers[attachment.container_id] = server
            await server.start()
        elif present and not wanted:
            await self.stop(attachment.container_id)

    async def stop(self, container_id: str) -> None:
        """A container has gone; one without a server is no error."""
        server = self._servers.pop(container_id, None)
        if server is not None:
            await server.close()

    async def close(self) -> None:
        for container_id in list(self._servers):
            await self.stop(container_id)

    def _open(self, path: str) -> Sockets:
        with self._sandboxes.enter(path):
            return open_sockets()

    def _upstream(self, attachment: Attachment) -> Upstream:
        own = [ipaddress.ip_address(each) for each in attachment.dns]
        if own:
            assert attachment.netns_path is not None
            return Upstream(lambda: own, functools.partial(self._socket_inside, attachment.netns_path))

        def servers() -> Sequence[IPAddress]:
            # Names are a way out, too: who has none other gets none this way.
            return self._host_servers() if attachment.gateways() else ()

        return Upstream(servers, _socket_here)

    async def _socket_inside(self, path: str, family: int, kind: int) -> socket.socket:
        return await self._connector.visit(self._make_socket, path, family, kind)

    def _make_socket(self, path: str, family: int, kind: int) -> socket.socket:
        with self._sandboxes.enter(path):
            return socket.socket(family, kind)


async def _socket_here(family: int, kind: int) -> socket.socket:
    return socket.socket(family, kind)
