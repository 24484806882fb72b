"""The kubelets of a cluster, as an API server reaches them.

    node in this process ─▶ its kubelet is called: the client's connection goes along, nothing is copied
    another node ─────────▶ HTTPS to an address of its Node, port of status.daemonEndpoints, our client certificate

Source: https://kubernetes.io/docs/concepts/architecture/control-plane-node-communication/
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote, urlencode

from windlass.http import Request, Response, StreamResponse
from windlass.kube.api import status
from windlass.kube.api.proxying import Proxy, Target
from windlass.kube.api.reader import Object, Reader

Answer = Response | StreamResponse | None
_PORT: Final = 10250
_ADDRESSES: Final = ("InternalIP", "ExternalIP", "InternalDNS", "Hostname", "ExternalDNS")


class Kubelet(Protocol):
    """One node's."""

    async def serve(
        self, request: Request, path: str, query: Sequence[tuple[str, str]], *, insecure: bool = False
    ) -> Answer:
        """Answer a client's request as if it had asked for this path. `insecure`: whoever answers is believed.

        Raises StatusError.
        """
        ...

    async def read(self, path: str, query: Sequence[tuple[str, str]] = ()) -> bytes:
        """A page's content. Raises StatusError."""
        ...


class Kubelets:
    """Finds a node's kubelet. `certificate` and `key` are what we show to others; `authority` signs what they show."""

    def __init__(self, reader: Reader, authority: bytes, certificate: Path, key: Path) -> None:
        self._reader = reader
        self._authority = authority
        self._pair = certificate, key
        self._local: dict[str, Callable[[], Kubelet | None]] = {}
        self._proxy = Proxy()
        self._contexts: dict[bool, ssl.SSLContext] = {}

    def add_local(self, node: str, find: Callable[[], Kubelet | None]) -> None:
        """A node is in this process; its kubelet is there once `find` gives it."""
        self._local[node] = find

    def find(self, name: str) -> Kubelet:
        """Raises StatusError: there is no such node, or nobody knows where it is."""
        find = self._local.get(name)
        if find is not None and (kubelet := find()) is not None:
            return kubelet
        node = self._reader.get("", "nodes", "", name)
        if node is None:
            raise status.not_found("nodes", "", name)
        return _Remote(self._proxy, address_of(node), port_of(node), self._context)

    def _context(self, insecure: bool) -> ssl.SSLContext:
        found = self._contexts.get(insecure)
        if found is None:
            found = ssl.create_default_context(cadata=self._authority.decode())
            if insecure:
                found.check_hostname = False
                found.verify_mode = ssl.CERT_NONE
            found.load_cert_chain(*self._pair)
            self._contexts[insecure] = found
        return found

    def reload(self) -> None:
        """Show the certificate that is in the files now."""
        self._contexts.clear()

    async def close(self) -> None:
        """Close all connections."""
        await self._proxy.close()


def address_of(node: Object) -> str:
    """Where a node is. Raises StatusError."""
    addresses = (node.get("status") or {}).get("addresses") or ()
    for kind in _ADDRESSES:
        for each in addresses:
            if each["type"] == kind and each.get("address"):
                return str(each["address"])
    raise status.internal_error(f"no preferred addresses found; known addresses: {list(addresses)}")


def told_port(node: Object) -> int:
    """The port that a node tells of its kubelet, 0 where it tells none."""
    endpoint = ((node.get("status") or {}).get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
    return int(endpoint.get("Port") or 0)


def port_of(node: Object) -> int:
    """The port of a node's kubelet."""
    return told_port(node) or _PORT


class _Remote:
    """A kubelet on another machine."""

    def __init__(self, proxy: Proxy, host: str, port: int, context: Callable[[bool], ssl.SSLContext]) -> None:
        self._proxy = proxy
        self._host, self._port = host, port
        self._context = context

    def _target(self, path: str, query: Sequence[tuple[str, str]], *, insecure: bool) -> Target:
        text = quote(path, safe="/:")
        if query:
            text += f"?{urlencode(query)}"
        return Target(self._host, self._port, text, self._context(insecure))

    async def serve(
        self, request: Request, path: str, query: Sequence[tuple[str, str]], *, insecure: bool = False
    ) -> Answer:
        """See `Kubelet`."""
        answer = await self._proxy.forward(request, self._target(path, query, insecure=insecure))
        if isinstance(answer, Response) and answer.status >= 400:
            raise refusal(answer.status, answer.body)
        return answer

    async def read(self, path: str, query: Sequence[tuple[str, str]] = ()) -> bytes:
        """See `Kubelet`."""
        code, body = await self._proxy.read(self._target(path, query, insecure=False))
        if code >= 400:
            raise refusal(code, body)
        return body


def refusal(code: int, body: bytes) -> status.StatusError:
    """What clients hear of a kubelet's refusal."""
    text = body.decode(errors="replace").strip()
    if code == 400:
        return status.bad_request(text)
    if code == 500:
        return status.internal_error(text.removeprefix("Internal error occurred: "))
    reasons = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 422: "Invalid", 503: "ServiceUnavailable"}
    return status.StatusError(code, reasons.get(code, "Unknown"), text)


def is_routable(address: str) -> bool:
    """Whether requests may be passed on to an address: not to the server's own loopback or link."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified)
