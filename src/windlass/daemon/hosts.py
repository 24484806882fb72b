"""Where the API is served: `-H` addresses to listening sockets, and who may use them.

Whoever reaches the API is root on this machine. So a unix socket is for root (and `--group`) only, and TCP needs TLS
with client certificates. The exceptions are narrow: on a loopback address TLS may do without client certificates, and
plain TCP is served there when `--tls=false` says so aloud.

    unix://PATH    tcp://HOST:PORT (2376 with TLS, 2375 without)    fd:// fd://NAME fd://NUMBER (systemd)    PATH
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from windlass.daemon.settings import Settings
from windlass.errors import InvalidParameter, SystemFailure
from windlass.http.listeners import Inherited, UnixListener, bind_tcp, bind_unix, inherited

_TCP: Final = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:/\[\]]*))(?::([0-9]{1,5}))?/?")


class Address(NamedTuple):
    """A parsed `-H`: scheme and either a path, a host and port, or the name of an inherited socket."""

    scheme: str
    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.scheme == "tcp":
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"tcp://{host}:{self.port}"
        return f"{self.scheme}://{self.path}"


@dataclass
class Listener:
    """A socket that is bound and not yet served."""

    address: str
    sock: socket.socket
    tls: ssl.SSLContext | None
    unlink: Callable[[], None]


def parse_host(text: str, *, tls: bool) -> Address:
    """Read a `-H`. Raises `InvalidParameter` with dockerd's words."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = ("unix", scheme) if scheme.startswith("/") else ("tcp", scheme)
    if scheme == "unix":
        if not rest:
            raise InvalidParameter(f"invalid bind address ({text}): should be unix://PATH")
        return Address("unix", path=os.path.abspath(rest))
    if scheme == "fd":
        return Address("fd", path=rest)
    match = _TCP.fullmatch(rest)
    if scheme != "tcp" or match is None:
        raise InvalidParameter(f"invalid bind address ({text}): should be unix://PATH, tcp://HOST:PORT or fd://")
    port = int(match[3]) if match[3] else 2376 if tls else 2375
    if port > 65535:
        raise InvalidParameter(f"invalid bind address ({text}): invalid port {port}")
    return Address("tcp", host=match[1] or match[2] or "", port=port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def uses_tls(settings: Settings) -> bool:
    """Whether TCP sockets speak TLS."""
    return bool(settings.tls) or settings.tlsverify


def check_exposure(address: Address, settings: Settings) -> None:
    """Refuse to give root on this machine to the network. Raises `InvalidParameter`."""
    if address.scheme != "tcp" or settings.tlsverify:
        return
    if not is_loopback(address.host):
        raise InvalidParameter(
            f"{address}: whoever reaches the API is root on this machine; a TCP address that others can reach needs "
            "--tlsverify with --tlscacert, --tlscert and --tlskey"
        )
    if settings.tls is None:
        raise InvalidParameter(
            f"{address}: plain TCP lets every user and every program of this machine be root; say --tls=false if that "
            "is meant, or use --tlsverify or a unix socket"
        )


def tls_context(settings: Settings) -> ssl.SSLContext:
    """The server's side of TLS. Raises `InvalidParameter` naming the file that is not usable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not settings.tlscert or not settings.tlskey:
        raise InvalidParameter("TLS needs --tlscert and --tlskey")
    try:
        context.load_cert_chain(settings.tlscert, settings.tlskey)
    except (OSError, ssl.SSLError) as error:
        raise InvalidParameter(
            f"could not load X509 key pair (cert: {settings.tlscert!r}, key: {settings.tlskey!r}): {error}"
        ) from error
    if settings.tlsverify:
        if not settings.tlscacert:
            raise InvalidParameter("--tlsverify needs --tlscacert")
        try:
            context.load_verify_locations(settings.tlscacert)
        except (OSError, ssl.SSLError) as error:
            raise InvalidParameter(f"could not read CA certificate {settings.tlscacert!r}: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def group_id(name: str) -> int:
    """The number of a group, -1 for none. Raises `InvalidParameter`."""
    if not name:
        return -1
    if name.isascii() and name.isdigit():
        return int(name)
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise InvalidParameter(f"group {name} not found") from None


def check_hosts(settings: Settings) -> tuple[list[Address], ssl.SSLContext | None, int]:
    """The addresses, what TLS they speak, and the group of unix sockets. Raises `InvalidParameter`."""
    tls = uses_tls(settings)
    addresses = [parse_host(host, tls=tls) for host in dict.fromkeys(settings.listen_on)]
    for address in addresses:
        check_exposure(address, settings)
    context = tls_context(settings) if tls and any(a.scheme != "unix" for a in addresses) else None
    return addresses, context, group_id(settings.group)


def open_listeners(settings: Settings, environ: Mapping[str, str]) -> list[Listener]:
    """Bind everything that `-H` asks for, or nothing. Raises `InvalidParameter`, `SystemFailure`."""
    addresses, context, gid = check_hosts(settings)
    handed_over = inherited(environ)
    listeners: list[Listener] = []
    try:
        for address in addresses:
            listeners += _open(address, context, gid, handed_over)
    except OSError as error:
        close_listeners(listeners)
        raise SystemFailure(f"failed to listen on {address}: {error.strerror or error}") from error
    except BaseException:
        close_listeners(listeners)
        raise
    return listeners


def _open(address: Address, context: ssl.SSLContext | None, gid: int, handed_over: list[Inherited]) -> list[Listener]:
    if address.scheme == "unix":
        os.makedirs(os.path.dirname(address.path), mode=0o711, exist_ok=True)
        bound: UnixListener = bind_unix(address.path, mode=0o660 if gid >= 0 else 0o600, gid=gid)
        return [Listener(str(address), bound.sock, None, bound.unlink)]
    if address.scheme == "tcp":
        return [
            Listener(f"tcp://{_shown(sock)}", sock, context, lambda: None)
            for sock in bind_tcp(address.host, address.port)
        ]
    return _take_over(address, context, handed_over)


def _take_over(address: Address, context: ssl.SSLContext | None, handed_over: list[Inherited]) -> list[Listener]:
    wanted = [one for one in handed_over if address.path in ("", "*", one.name, str(one.fd))]
    if not handed_over:
        raise InvalidParameter("no sockets found via socket activation: make sure the service was started by systemd")
    if not wanted:
        raise InvalidParameter(f"failed to find the socket {address.path} among those of socket activation")
    listeners = []
    for one in wanted:
        unix = one.sock.family == socket.AF_UNIX
        if not unix and context is None and not is_loopback(str(one.sock.getsockname()[0])):
            raise InvalidParameter(f"the inherited TCP socket {one.name} needs --tlsverify")
        listeners.append(Listener(f"fd://{one.name}", one.sock, None if unix else context, lambda: None))
    return listeners


def _shown(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def close_listeners(listeners: list[Listener]) -> None:
    """Give up sockets that are not served, and their names."""
    for listener in listeners:
        listener.unlink()
        listener.sock.close()
