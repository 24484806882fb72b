"""Tag Volume."""

from __future__ import annotations

from typing import Final

from windlass.api.docker.call import NO_CONTENT, Answer, Call, json_answer
from windlass.api.docker.router import delete, get, post, put
from windlass.api.docker.swarm import NOT_A_MANAGER
from windlass.errors import InvalidParameter, Unavailable


async def list_(call: Call) -> Answer:
    """VolumeList."""
    try:
        filters = call.filters("volumes")
    except InvalidParameter as error:
        raise InvalidParameter(f"error reading volume filters: {error}") from None
    return json_answer(await call.engine.volume_list(filters=filters))


async def create(call: Call) -> Answer:
    """VolumeCreate."""
    body = await call.body("volume.CreateOptions")
    if body.get("ClusterVolumeSpec") is not None and not call.older(1, 42):
        raise Unavailable(NOT_A_MANAGER)
    return json_answer(await call.engine.volume_create(body=body), 201)


async def inspect(call: Call) -> Answer:
    """VolumeInspect."""
    return json_answer(await call.engine.volume_inspect(call.name))


async def update(call: Call) -> Answer:
    """VolumeUpdate: only cluster volumes can be updated."""
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")


async def remove(call: Call) -> Answer:
    """VolumeDelete."""
    await call.engine.volume_delete(call.name, force=call.flag("force"))
    return NO_CONTENT


async def prune(call: Call) -> Answer:
    """VolumePrune; before 1.42 named volumes were pruned too."""
    filters = call.filters("volumes/prune")
    if call.older(1, 42):
        filters["all"] = ["true"]
    return json_answer(await call.engine.volume_prune(filters=filters))


ROUTES: Final = (
    get("/volumes", list_),
    post("/volumes/create", create),
    post("/volumes/prune", prune),
    get("/volumes/{name}", inspect),
    put("/volumes/{name}", update),
    delete("/volumes/{name}", remove),
)
