"""Building, sessions and checkpoints, as an engine without builder and without checkpoints answers them."""

from __future__ import annotations

from typing import Final

from windlass.api.docker.call import Answer, Call, json_answer
from windlass.api.docker.router import get, post
from windlass.errors import InvalidParameter, NotImplementedByEngine
from windlass.http import Response

_NO_BUILDER: Final = "the builder is not available in this engine"
_EXPERIMENTAL: Final = (
    "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to "
    "enable it."
)


async def build(call: Call) -> Answer:
    """ImageBuild. Clients send the whole context before they read, so it is taken and thrown away."""
    async for _ in call.stream:
        pass
    raise NotImplementedByEngine(_NO_BUILDER)


async def prune(call: Call) -> Answer:
    """BuildPrune: there is no cache."""
    call.filters("build/prune")
    return json_answer({"CachesDeleted": None, "SpaceReclaimed": 0})


async def cancel(call: Call) -> Answer:
    """BuildCancel: a build that does not run is cancelled already."""
    if not call.text("id"):
        raise InvalidParameter("build ID not provided")
    return Response(200)


async def session(call: Call) -> Answer:
    """Session, GRPC: the channels on which BuildKit talks with its clients."""
    raise NotImplementedByEngine(_NO_BUILDER)


async def checkpoint(call: Call) -> Answer:
    """Checkpoints exist only in experimental mode."""
    raise NotImplementedByEngine(_EXPERIMENTAL)


ROUTES: Final = (
    post("/build", build, cancellable=True),
    post("/build/prune", prune),
    post("/build/cancel", cancel),
    post("/session", session),
    post("/grpc", session),
    get("/containers/{name}/checkpoints", checkpoint),
    post("/containers/{name}/checkpoints", checkpoint),
)
