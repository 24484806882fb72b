"""From a request's verb and resource to the handler that answers it.

resource                get, list, watch, create, update, patch, delete, deletecollection
resource/status         get, update, patch
resource/scale …        subresources/
reviews                 answered at once, nothing is stored
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from windlass.http import Response, StreamResponse
from windlass.kube.api import status
from windlass.kube.api.handlers import lists, single, watches
from windlass.kube.api.handlers.call import Call
from windlass.kube.api.negotiation import negotiate
from windlass.kube.api.subresources import others, pods, scale

Answer = Response | StreamResponse | None
Handler = Callable[[Call], Awaitable[Answer]]
"""Answers a call; None where it took the connection over."""


async def _watch(call: Call) -> Answer:
    accept = call.request.headers.get("accept", "")
    call.form = negotiate(accept, lists.WATCH_TRANSFORMS, not call.resource.is_custom)
    return await watches.watch(call, lists.selection_of(call))


async def _list(call: Call) -> Answer:
    return await lists.list_objects(call)


VERBS: Mapping[str, Handler] = {
    "get": single.get,
    "list": _list,
    "watch": _watch,
    "create": single.create,
    "update": single.update,
    "patch": single.patch,
    "delete": single.delete,
    "deletecollection": lists.delete_collection,
}
_STATUS: Mapping[str, Handler] = {"get": single.get, "update": single.update, "patch": single.patch}
_PARTS: Mapping[tuple[str, str], Handler] = {
    ("pods", "binding"): pods.bind,
    ("pods", "eviction"): pods.evict,
    ("pods", "ephemeralcontainers"): pods.ephemeral_containers,
    ("pods", "resize"): pods.resize,
    ("namespaces", "finalize"): others.finalize,
    ("certificatesigningrequests", "approval"): others.approve,
}


class Dispatcher:
    """The handlers of one server: the common ones, and those that need a part of the server.

    `special` maps (plural, subresource) to a handler, ("tokenreviews", "") for one.
    """

    def __init__(self, special: Mapping[tuple[str, str], Handler]) -> None:
        self._special = {**_PARTS, ("bindings", ""): pods.bind, **special}

    def handler(self, call: Call) -> Handler:
        """Who answers.

        Raises:
            StatusError: 404 (no such subresource), 405 (no such verb).
        """
        resource, info = call.resource, call.info
        part = info.subresource
        if part:
            declared = resource.subresources.get(part)
            if declared is None:
                raise status.StatusError(404, "NotFound", "the server could not find the requested resource")
            special = self._special.get((resource.plural, part))
            if info.verb not in declared.verbs:
                raise status.method_not_supported(resource.plural, resource.group, info.verb)
            if special is not None:
                return special
            if part == "scale" and resource.scale is not None:
                return scale.handle
            if part == "status":
                return _STATUS[info.verb]
            raise status.StatusError(404, "NotFound", "the server could not find the requested resource")
        if info.verb not in resource.verbs:
            raise status.method_not_supported(resource.plural, resource.group, info.verb)
        return self._special.get((resource.plural, "")) or VERBS[info.verb]
