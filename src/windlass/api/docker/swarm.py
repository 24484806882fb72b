"""Tags Swarm, Node, Service, Task, Secret and Config of an engine that is no member of a swarm.

Clients ask these endpoints to find out, and read the answer: 503 with dockerd's words.
"""

from __future__ import annotations

from typing import Final

from windlass.api.docker.call import Answer, Call
from windlass.api.docker.router import Route, delete, get, post
from windlass.errors import NotImplementedByEngine, Unavailable

NOT_A_MANAGER: Final = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)


async def needs_manager(call: Call) -> Answer:
    """Every operation on the state of a cluster."""
    if call.request.method == "POST":
        await call.body("swarm.Spec")
    raise Unavailable(NOT_A_MANAGER)


async def leave(call: Call) -> Answer:
    """SwarmLeave."""
    raise Unavailable("This node is not part of a swarm")


async def enter(call: Call) -> Answer:
    """SwarmInit, SwarmJoin."""
    await call.body("swarm.InitRequest")
    raise NotImplementedByEngine("swarm mode is not available in this engine")


def _collection(name: str, *, removable: bool = True, creatable: bool = True, updatable: bool = True) -> list[Route]:
    routes = [get(f"/{name}", needs_manager), get(f"/{name}/{{name}}", needs_manager)]
    if creatable:
        routes.append(post(f"/{name}/create", needs_manager))
    if removable:
        routes.append(delete(f"/{name}/{{name}}", needs_manager))
    if updatable:
        routes.append(post(f"/{name}/{{name}}/update", needs_manager))
    return routes


ROUTES: Final = (
    post("/swarm/init", enter),
    post("/swarm/join", enter),
    post("/swarm/leave", leave),
    get("/swarm", needs_manager),
    get("/swarm/unlockkey", needs_manager),
    post("/swarm/update", needs_manager),
    post("/swarm/unlock", needs_manager),
    *_collection("nodes", creatable=False),
    *_collection("services"),
    get("/services/{name}/logs", needs_manager),
    *_collection("tasks", removable=False, creatable=False, updatable=False),
    get("/tasks/{name}/logs", needs_manager),
    *_collection("secrets"),
    *_collection("configs"),
)
