"""Host ports that are spoken for, each held by a socket of the daemon.

The kernel translates published connections before any socket sees them, so two things could be published on one port,
or a program could listen on a port that is published already, and neither would notice. A socket bound to the port
makes both an error, for other programs as for other daemons of ours, and shows the port as used (`ss -tln`). TCP and
SCTP sockets listen with no backlog: with SO_REUSEADDR, which steps over connections that have just ended, only a
listener keeps another listener away.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from windlass.errors import SystemFailure
from windlass.networks.ports import PROTOCOLS, PortMapping, PortRequest
from windlass.networks.settings import IPAddress

DEFAULT_RANGE = (49153, 65535)
_TRIES = 2000


class Held(NamedTuple):
    """A mapping and the socket that holds its host port; None where the kernel does not know the protocol."""

    mapping: PortMapping
    socket: socket.socket | None


def parse_port_range(text: str) -> tuple[int, int]:
    """The content of net.ipv4.ip_local_port_range; the fallback where it is not two ports."""
    numbers = [int(word) for word in text.split() if word.isascii() and word.isdigit()]
    if len(numbers) == 2 and 0 < numbers[0] <= numbers[1] < 65536:
        return numbers[0], numbers[1]
    return DEFAULT_RANGE


def bind(mapping: PortMapping) -> socket.socket | None:
    """A socket on the mapping's host port. Raises OSError."""
    family = socket.AF_INET if mapping.host_address.version == 4 else socket.AF_INET6
    kind = socket.SOCK_DGRAM if mapping.protocol == "udp" else socket.SOCK_STREAM
    try:
        holder = socket.socket(family, kind, PROTOCOLS[mapping.protocol])
    except OSError as error:
        if mapping.protocol == "sctp" and error.errno in {errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT}:
            return None
        raise
    try:
        if family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if mapping.protocol != "udp":
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((str(mapping.host_address), mapping.host_port))
        if mapping.protocol != "udp":
            # SCTP knows no empty backlog.
            holder.listen(0 if mapping.protocol == "tcp" else 1)
    except OSError:
        holder.close()
        raise
    return holder


class PortReservations:
    """The host ports of one daemon. Safe for several threads."""

    def __init__(self, ephemeral: Callable[[], tuple[int, int]]) -> None:
        """`ephemeral` tells the range in which free ports are looked for."""
        self._ephemeral = ephemeral
        self._held: dict[tuple[str, int], dict[IPAddress, Held]] = {}
        self._lock = threading.Lock()
        self._last: dict[str, int] = {}

    def reserve(self, request: PortRequest, container: IPAddress) -> list[Held]:
        """Hold one port on all host addresses of the request; `container` is named in errors.

        Raises SystemFailure in dockerd's words: a port is ours already, or somebody else's.
        """
        with self._lock:
            problem: SystemFailure | None = None
            for port in self._candidates(request):
                try:
                    return self._hold(request, port, container)
                except SystemFailure as error:
                    problem = problem or error
            if problem is None or request.first != request.last or not request.first:
                raise SystemFailure("all ports are allocated") from problem
            raise problem

    def hold(self, mapping: PortMapping) -> Held:
        """Hold a port that a running container has had all along. Raises SystemFailure."""
        request = PortRequest(
            mapping.container_port, mapping.protocol, (mapping.host_address,), mapping.host_port, mapping.host_port
        )
        with self._lock:
            try:
                return self._hold(request, mapping.host_port, mapping.host_address)[0]
            except SystemFailure:
                # The translation comes before whatever took the port meanwhile, so the container keeps it.
                held = Held(mapping, None)
                self._held.setdefault((mapping.protocol, mapping.host_port), {})[mapping.host_address] = held
                raise

    def release(self, held: Held) -> None:
        """Let go of a port; one that is not held is no error."""
        mapping = held.mapping
        with self._lock:
            key = (mapping.protocol, mapping.host_port)
            holders = self._held.get(key, {})
            if holders.pop(mapping.host_address, None) is not None and not holders:
                del self._held[key]
        if held.socket is not None:
            held.socket.close()

    def close(self) -> None:
        with self._lock:
            everything = [held for holders in self._held.values() for held in holders.values()]
        for held in everything:
            self.release(held)

    def _candidates(self, request: PortRequest) -> Iterator[int]:
        if request.first:
            yield from range(request.first, request.last + 1)
            return
        # Round and round, so that a port is not given again while clients still know its last owner.
        first, last = self._ephemeral()
        count = last - first + 1
        start = self._last.get(request.protocol, last)
        for step in range(1, min(count, _TRIES) + 1):
            port = first + (start - first + step) % count
            self._last[request.protocol] = port
            yield port

    def _conflict(self, protocol: str, address: IPAddress, port: int) -> bool:
        return any(
            other == address or (other.version == address.version and (other.is_unspecified or address.is_unspecified))
            for other in self._held.get((protocol, port), ())
        )

    def _hold(self, request: PortRequest, port: int, container: IPAddress) -> list[Held]:
        for address in request.host_addresses:
            if self._conflict(request.protocol, address, port):
                raise SystemFailure(f"Bind for {address}:{port} failed: port is already allocated")
        with contextlib.ExitStack() as undo:
            result: list[Held] = []
            for address in request.host_addresses:
                mapping = PortMapping(request.protocol, address, port, request.container_port)
                try:
                    held = Held(mapping, bind(mapping))
                except OSError as error:
                    reason = os.strerror(error.errno).lower() if error.errno else str(error)
                    raise SystemFailure(
                        f"failed to bind host port for {_ends(mapping, container)}: {reason}"
                    ) from error
                if held.socket is not None:
                    undo.callback(held.socket.close)
                result.append(held)
            undo.pop_all()
        self._held.setdefault((request.protocol, port), {}).update({each.mapping.host_address: each for each in result})
        return result


def _ends(mapping: PortMapping, container: IPAddress) -> str:
    """`0.0.0.0:80:172.17.0.2:80/tcp`, with IPv6 addresses in brackets."""
    host, inside = (f"[{each}]" if each.version == 6 else str(each) for each in (mapping.host_address, container))
    return f"{host}:{mapping.host_port}:{inside}:{mapping.container_port}/{mapping.protocol}"
