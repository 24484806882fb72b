"""The Docker Engine API over one engine: a handler for `windlass.http.Server`.

request ─▶ clean path ─▶ route ─▶ version ─▶ operation(Call) ─▶ answer
              │ 301        │ 404      │ 400          │ error → status and {"message"}
"""

from __future__ import annotations

import asyncio
import logging
import posixpath
import re
from typing import Final

from windlass.api.docker import (
    build,
    containers,
    distribution,
    execs,
    images,
    networks,
    plugins,
    swarm,
    system,
    volumes,
)
from windlass.api.docker.backend import Backend
from windlass.api.docker.call import Answer, Call
from windlass.api.docker.problems import answer, json_error, message_of
from windlass.api.docker.router import Router
from windlass.api.docker.versions import (
    API_VERSION,
    COMPATIBLE_ENGINE,
    LATEST,
    OLDEST_WITH_JSON_ERRORS,
    check_version,
    parse_version,
)
from windlass.errors import InvalidParameter, WindlassError
from windlass.http import Request, Response
from windlass.http.message import ClientGoneError

_UNCLEAN: Final = re.compile(r"//|/\.{1,2}(/|$)")
_log = logging.getLogger("windlass.api")


def common_headers(*, experimental: bool) -> tuple[tuple[str, str], ...]:
    """What every answer carries; clients negotiate by it."""
    return (
        ("Api-Version", API_VERSION),
        ("Docker-Experimental", "true" if experimental else "false"),
        ("Ostype", "linux"),
        ("Server", f"Docker/{COMPATIBLE_ENGINE} (linux)"),
    )


class DockerAPI:
    """Serves `engine`. Call it with a request."""

    def __init__(self, engine: Backend) -> None:
        self._engine = engine
        tags = (system, containers, execs, images, networks, volumes, distribution, swarm, plugins, build)
        self._router = Router(route for tag in tags for route in tag.ROUTES)

    async def __call__(self, request: Request) -> Answer:
        """The answer to one request; every failure becomes an error answer."""
        try:
            path = request.path
        except InvalidParameter as error:
            return json_error(400, str(error))
        if _UNCLEAN.search(path):
            return _redirect(request, path)
        found = self._router.find(request.method, path)
        if found is None:
            if request.method == "OPTIONS":
                return Response(200)
            return json_error(404, "page not found")
        route, name, version_text = found
        request.cancel_on_disconnect = route.cancellable
        try:
            version = check_version(version_text) if version_text else LATEST
        except InvalidParameter as error:
            return _unsupported(version_text, error)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("Calling %s %s", request.method, request.target)
        try:
            return await route.operation(Call(self._engine, request, name, version))
        except ClientGoneError:
            raise
        except asyncio.CancelledError:
            _log.debug("%s %s was given up by its client", request.method, request.target)
            raise
        except Exception as error:
            return answer(request, error)


def _redirect(request: Request, path: str) -> Response:
    """Doubled slashes and dots are cleaned away, as Go's routers do."""
    clean = posixpath.normpath(path).replace("//", "/")
    if path.endswith("/") and clean != "/":
        clean += "/"
    query = request.target.partition("?")[2]
    from urllib.parse import quote

    return Response(301, [("Location", quote(clean, safe="/:@!$&'()*+,;=~") + (f"?{query}" if query else ""))])


def _unsupported(version: str, error: WindlassError) -> Response:
    """Clients from before JSON errors get plain text, which they print as it is."""
    if parse_version(version) < OLDEST_WITH_JSON_ERRORS:
        return Response(400, [("Content-Type", "text/plain; charset=utf-8")], f"{message_of(error)}\n".encode())
    return json_error(400, message_of(error))
