"""Tag Network."""

from __future__ import annotations

from typing import Final

from windlass.api.docker.call import NO_CONTENT, Answer, Call, json_answer
from windlass.api.docker.router import delete, get, post
from windlass.http import Response


async def list_(call: Call) -> Answer:
    """NetworkList."""
    return json_answer(await call.engine.network_list(filters=call.filters("networks")))


async def inspect(call: Call) -> Answer:
    """NetworkInspect."""
    verbose = call.strict_flag("verbose")
    return json_answer(await call.engine.network_inspect(call.name, verbose=verbose, scope=call.text("scope")))


async def create(call: Call) -> Answer:
    """NetworkCreate."""
    body = await call.body("network.CreateRequest")
    if call.older(1, 48):
        body.pop("EnableIPv4", None)
    return json_answer(await call.engine.network_create(body=body), 201)


async def connect(call: Call) -> Answer:
    """NetworkConnect."""
    await call.engine.network_connect(call.name, body=await call.body("network.ConnectOptions"))
    return Response(200)


async def disconnect(call: Call) -> Answer:
    """NetworkDisconnect."""
    await call.engine.network_disconnect(call.name, body=await call.body("network.DisconnectOptions"))
    return Response(200)


async def remove(call: Call) -> Answer:
    """NetworkDelete."""
    await call.engine.network_delete(call.name)
    return NO_CONTENT


async def prune(call: Call) -> Answer:
    """NetworkPrune."""
    return json_answer(await call.engine.network_prune(filters=call.filters("networks/prune")))


ROUTES: Final = (
    get("/networks", list_),
    get("/networks/", list_),
    get("/networks/{name}", inspect),
    post("/networks/create", create),
    post("/networks/prune", prune),
    post("/networks/{name}/connect", connect),
    post("/networks/{name}/disconnect", disconnect),
    delete("/networks/{name}", remove),
)
