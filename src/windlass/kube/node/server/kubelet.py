"""The paths of a kubelet, and what answers them. No question here of who asks: see `https`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

from windlass.http import Request, Response, StreamResponse
from windlass.kube.node.server.ask import Ask, refused
from windlass.kube.node.server.commands import Commands
from windlass.kube.node.server.forward import PortForward
from windlass.kube.node.server.logs import ContainerLogs
from windlass.kube.node.server.pods import PodFinder

Object = dict[str, Any]
Answer = Response | StreamResponse | None
Page = Callable[[Ask], Awaitable[Answer]]
_STREAM, _GET = ("GET", "POST"), ("GET", "HEAD")


class Kubelet:
    """Answers for one node. `pages` are further paths: an end in a slash means all below it."""

    def __init__(self, finder: PodFinder, pages: dict[str, Page]) -> None:
        self._finder = finder
        commands = Commands(finder)
        self._pages: dict[str, tuple[Sequence[str], Page]] = {
            "/healthz": (_GET, _ok),
            "/healthz/": (_GET, _ok),
            "/pods": (_GET, self._pods),
            "/runningpods/": (_GET, self._running_pods),
            "/containerLogs/": (_GET, ContainerLogs(finder)),
            "/exec/": (_STREAM, commands.exec),
            "/attach/": (_STREAM, commands.attach),
            "/run/": (("POST",), commands.run),
            "/portForward/": (_STREAM, PortForward(finder)),
            **{path: (_GET, page) for path, page in pages.items()},
        }

    async def serve(
        self, request: Request, path: str, query: Sequence[tuple[str, str]], *, insecure: bool = False
    ) -> Answer:
        """Answer a client's request as if it had asked for this path. Raises StatusError."""
        del insecure  # nothing lies between
        return await self.answer(Ask(request.method, path, query, request))

    async def read(self, path: str, query: Sequence[tuple[str, str]] = ()) -> bytes:
        """A page's content. Raises StatusError."""
        answer = await self.answer(Ask("GET", path, query))
        return answer.body if isinstance(answer, Response) else b""

    async def answer(self, ask: Ask) -> Answer:
        """Raises StatusError."""
        found = self._pages.get(ask.path)
        if found is None:
            below = [path for path in self._pages if path.endswith("/") and ask.path.startswith(path)]
            if not below and f"{ask.path}/" in self._pages:
                below = [f"{ask.path}/"]
            if not below:
                raise refused(404, "404 page not found")
            found = self._pages[max(below, key=len)]
        methods, page = found
        if ask.method not in methods:
            raise refused(405, "Method Not Allowed")
        return await page(ask)

    async def _pods(self, ask: Ask) -> Response:
        del ask
        return _pod_list(list(self._finder.all()))

    async def _running_pods(self, ask: Ask) -> Response:
        del ask
        runtime = self._finder.runtime
        return _pod_list(
            [
                pod
                for pod in self._finder.all()
                if any(each.running for each in runtime.containers(pod["metadata"]["uid"]))
            ]
        )


def _pod_list(pods: list[Object]) -> Response:
    body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}
    return json_page(body)


def json_page(body: Object) -> Response:
    """A document."""
    return Response(200, [("Content-Type", "application/json")], orjson.dumps(body))


async def _ok(ask: Ask) -> Response:
    del ask
    return Response(200, [("Content-Type", "text/plain; charset=utf-8")], b"ok")
