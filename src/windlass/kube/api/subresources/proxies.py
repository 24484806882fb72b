"""pods/proxy, services/proxy and nodes/proxy: HTTP (and upgrades) to what runs in the cluster, through the API server.

    …/pods/{name}/proxy/{path}      {name} may be scheme:name:port: "web", "web:8080", "https:web:8443"
    …/services/{name}/proxy/{path}  the port by its number or name; any endpoint that is ready
    …/nodes/{name}/proxy/{path}     the kubelet's API; with another port, whatever listens on the node

Links with an absolute path, in redirects and in HTML, are made to lead through the proxy again.

Source: https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from windlass.http import Response, StreamResponse
from windlass.kube.api import links, status
from windlass.kube.api.handlers.call import Call
from windlass.kube.api.kubelets import Kubelets, address_of, is_routable, port_of
from windlass.kube.api.operations import reading
from windlass.kube.api.proxying import Proxy, Target
from windlass.kube.api.reader import Reader
from windlass.kube.api.resource import Object
from windlass.kube.api.serviceresolver import ServiceResolver
from windlass.kube.api.subresources.streams import connect

Answer = Response | StreamResponse | None
Handler = Callable[[Call], Awaitable[Answer]]

_RAW: Final = re.compile(r"(/+api/+v1/+(?:namespaces/+[^/]+/+)?[a-z]+/+[^/]+/+proxy)(/.*)?")
_SCHEMES: Final = ("", "http", "https")


class Proxies:
    """The handlers. `close` when done."""

    def __init__(self, kubelets: Kubelets, reader: Reader) -> None:
        self._kubelets = kubelets
        self._resolver = ServiceResolver(reader)
        self._proxy = Proxy()
        # Whoever a pod is, it has no certificate that we could know.
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """By resource and subresource."""
        return {("pods", "proxy"): self.pod, ("services", "proxy"): self.service, ("nodes", "proxy"): self.node}

    async def close(self) -> None:
        """Close all connections."""
        await self._proxy.close()

    async def pod(self, call: Call) -> Answer:
        """Pass a request on to a pod."""
        scheme, name, port = split_name(call.info.name, "pod")
        await connect(call, {"kind": "PodProxyOptions", "path": f"/{call.info.rest}"})
        pod = await reading.find_object(call.env, call.resource, call.namespace, name)
        address = str((pod.get("status") or {}).get("podIP") or "")
        if not is_routable(address):
            raise status.bad_request("address not allowed")
        number = port or _first_port(pod) or ("443" if scheme == "https" else "80")
        if not number.isdigit() or not 0 < int(number) < 65536:
            raise status.bad_request(f'invalid pod request "{call.info.name}"')
        return await self._forward(call, scheme, address, int(number))

    async def service(self, call: Call) -> Answer:
        """Pass a request on to an endpoint of a service."""
        scheme, name, port = split_name(call.info.name, "service")
        await connect(call, {"kind": "ServiceProxyOptions", "path": f"/{call.info.rest}"})
        service = await reading.find_object(call.env, call.resource, call.namespace, name)
        missing = status.service_unavailable(f'no endpoints available for service "{call.info.name}"')
        number = _service_port(service, port)
        if number is None or (service.get("spec") or {}).get("type") == "ExternalName":
            raise missing
        try:
            address, target = await self._resolver.resolve(call.namespace, name, number)
        except LookupError:
            raise missing from None
        if not is_routable(address):
            raise status.bad_request("address not allowed")
        return await self._forward(call, scheme, address, target)

    async def node(self, call: Call) -> Answer:
        """Ask a kubelet, or another port of its node."""
        scheme, name, port = split_name(call.info.name, "node")
        await connect(call, {"kind": "NodeProxyOptions", "path": f"/{call.info.rest}"})
        node = await reading.find_object(call.env, call.resource, "", name)
        if not port or int(port) == port_of(node):
            call.request.cancel_on_disconnect = True
            return await self._kubelets.find(name).serve(call.request, f"/{call.info.rest}", call.request.query)
        address = address_of(node)
        if not is_routable(address):
            raise status.bad_request("address not allowed")
        return await self._forward(call, scheme, address, int(port))

    async def _forward(self, call: Call, scheme: str, address: str, port: int) -> Answer:
        request = call.request
        path, mark, query = request.target.partition("?")
        found = _RAW.fullmatch(path)
        if found is None:
            raise status.StatusError(404, "NotFound", "the server could not find the requested resource")
        prefix, rest = found[1], found[2]
        if rest is None:
            if request.method in ("GET", "HEAD") and not request.upgrade:
                # Relative links of the page would lead nowhere.
                return Response(301, [("Location", f"{prefix}/{mark}{query}")])
            rest = "/"
        request.cancel_on_disconnect = True
        target = Target(address, port, f"{rest}{mark}{query}", self._context if scheme == "https" else None)
        host = request.headers.get("host", "")
        added = [("X-Forwarded-Uri", f"{prefix}{rest}"), ("X-Forwarded-Host", host), ("X-Forwarded-Proto", "https")]
        peer = request.extra("peername")  # noqa: S610
        if isinstance(peer, tuple):
            before = request.headers.get("x-forwarded-for")
            added.append(("x-forwarded-for", f"{before}, {peer[0]}" if before else str(peer[0])))
        answer = await self._proxy.forward(request, target, added)
        return await links.rewritten(answer, prefix, {target.authority, host, address})


def split_name(name: str, kind: str) -> tuple[str, str, str]:
    """Scheme, name and port of the ways to name what is behind a proxy. Raises StatusError: 400."""
    parts = name.split(":")
    match parts:
        case [only]:
            scheme, found, port = "", only, ""
        case [found, port]:
            scheme = ""
        case [scheme, found, port]:
            pass
        case _:
            scheme, found, port = "?", "", ""
    if scheme not in _SCHEMES or not found or (kind == "node" and port and not port.isdigit()):
        raise status.bad_request(f'invalid {kind} request "{name}"')
    return scheme, found, port


def _first_port(pod: Object) -> str:
    for container in pod["spec"].get("containers") or ():
        for port in container.get("ports") or ():
            return str(port["containerPort"])
    return ""


def _service_port(service: Object, wanted: str) -> int | None:
    ports = (service.get("spec") or {}).get("ports") or []
    for each in ports:
        if wanted in ((each.get("name") or ""), str(each["port"])):
            return int(each["port"])
    return int(ports[0]["port"]) if len(ports) == 1 and not wanted else None
