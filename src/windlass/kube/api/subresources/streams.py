"""pods/log, exec, attach and portforward: found here, answered by the kubelet of the pod's node.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#http-request
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from windlass.http import Response, StreamResponse
from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.api import status
from windlass.kube.api.authorization.chain import decide, refusal
from windlass.kube.api.handlers.call import Call
from windlass.kube.api.identity import Attributes, Authorizer
from windlass.kube.api.kubelets import Kubelets
from windlass.kube.api.operations import reading
from windlass.kube.api.resource import Object
from windlass.kube.streams.options import Wanted, log_options, wanted_of_client

Answer = Response | StreamResponse | None
Handler = Callable[[Call], Awaitable[Answer]]

_KINDS = ("initContainers", "containers", "ephemeralContainers")


def handlers(kubelets: Kubelets, authorizer: Authorizer) -> Mapping[tuple[str, str], Handler]:
    """By resource and subresource."""
    streams = PodStreams(kubelets, authorizer)
    return {
        ("pods", "log"): streams.log,
        ("pods", "exec"): streams.exec,
        ("pods", "attach"): streams.attach,
        ("pods", "portforward"): streams.port_forward,
    }


class PodStreams:
    """See the module."""

    def __init__(self, kubelets: Kubelets, authorizer: Authorizer) -> None:
        self._kubelets = kubelets
        self._authorizer = authorizer

    async def log(self, call: Call) -> Answer:
        """GET of a pod's log."""
        call.request.cancel_on_disconnect = True
        options = log_options(call.options, call.info.name)
        pod = await _pod(call)
        container = container_of(pod, options.container)
        node = pod["spec"].get("nodeName") or ""
        if not node:
            return Response(200, [("Content-Type", "text/plain")])
        kubelet = self._kubelets.find(node)
        path = f"/containerLogs/{call.namespace}/{call.info.name}/{container}"
        answer = await kubelet.serve(call.request, path, options.query(), insecure=options.insecure)
        if isinstance(answer, StreamResponse):
            headers = [*answer.headers, ("Cache-Control", "no-cache, private")]
            return StreamResponse(answer.status, headers, answer.chunks)
        return answer

    async def exec(self, call: Call) -> Answer:
        """A command in a container."""
        wanted = wanted_of_client(call.options)
        command = call.options.texts("command")
        options = {"kind": "PodExecOptions", **_shown(wanted), "command": command}
        return await self._command(call, "exec", wanted, options, [("command", word) for word in command])

    async def attach(self, call: Call) -> Answer:
        """A container's own streams."""
        wanted = wanted_of_client(call.options)
        return await self._command(call, "attach", wanted, {"kind": "PodAttachOptions", **_shown(wanted)}, [])

    async def _command(
        self, call: Call, verb: str, wanted: Wanted, options: Object, query: list[tuple[str, str]]
    ) -> Answer:
        await self._check(call)
        pod = await _pod(call)
        container = container_of(pod, call.options.text("container"))
        await connect(call, {**options, "container": container})
        node = _node(pod)
        path = f"/{verb}/{call.namespace}/{call.info.name}/{container}"
        return await self._kubelets.find(node).serve(call.request, path, [*wanted.query(), *query])

    async def port_forward(self, call: Call) -> Answer:
        """Ports of a pod."""
        await self._check(call)
        ports = [text for each in call.options.texts("ports") for text in each.split(",") if text]
        if any(not text.isdigit() for text in ports):
            raise status.bad_request(f'strconv.ParseInt: parsing "{",".join(ports)}": invalid syntax')
        pod = await _pod(call)
        await connect(call, {"kind": "PodPortForwardOptions", "ports": [int(text) for text in ports]})
        query = [("port", ",".join(ports))] if ports else []
        path = f"/portForward/{call.namespace}/{call.info.name}"
        return await self._kubelets.find(_node(pod)).serve(call.request, path, query)

    async def _check(self, call: Call) -> None:
        """Whoever comes with GET, as WebSockets do, needs to be allowed what others need for POST."""
        call.request.cancel_on_disconnect = True
        if call.info.verb != "get":
            return
        info = call.info
        attributes = Attributes(
            call.actor.user, "create", "", "v1", "pods", info.subresource, call.namespace, info.name, info.path
        )
        verdict = await decide(self._authorizer, attributes)
        if not verdict.allowed:
            raise refusal(attributes, verdict.reason)


async def connect(call: Call, options: Object) -> None:
    """Let admission see a connection. Raises StatusError: it is refused."""
    info = call.info
    call.actor.options = {}
    request = AdmissionRequest(
        "CONNECT",
        call.resource,
        info.subresource,
        call.namespace,
        info.name,
        {"apiVersion": "v1", **options},
        None,
        call.actor,
    )
    for phase in (call.env.admission.mutate, call.env.admission.validate):
        waiting = phase(request)
        if waiting is not None:
            await waiting


def container_of(pod: Object, name: str) -> str:
    """The container that is meant: the named one, or the only one. Raises StatusError: 400."""
    spec, pod_name = pod["spec"], pod["metadata"]["name"]
    every = [each["name"] for kind in _KINDS for each in spec.get(kind) or ()]
    if name:
        if name not in every:
            raise status.bad_request(f"container {name} is not valid for pod {pod_name}")
        return name
    containers = spec.get("containers") or []
    if len(containers) == 1:
        return str(containers[0]["name"])
    text = f"a container name must be specified for pod {pod_name}"
    raise status.bad_request(f"{text}, choose one of: [{' '.join(every)}]" if containers else text)


async def _pod(call: Call) -> Object:
    return await reading.find_object(call.env, call.resource, call.namespace, call.info.name)


def _node(pod: Object) -> str:
    node: str = pod["spec"].get("nodeName") or ""
    if not node:
        raise status.bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
    return node


def _shown(wanted: Wanted) -> dict[str, Any]:
    return {name: True for name in ("stdin", "stdout", "stderr", "tty") if getattr(wanted, name)}
