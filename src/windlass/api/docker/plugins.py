"""Tag Plugin of an engine without managed plugins: there are none, and none can be installed."""

from __future__ import annotations

from typing import Final

from windlass.api.docker.call import Answer, Call, json_answer
from windlass.api.docker.router import delete, get, post
from windlass.errors import NotFound, NotImplementedByEngine


async def list_(call: Call) -> Answer:
    """PluginList."""
    call.filters("plugins")
    return json_answer([])


async def unknown(call: Call) -> Answer:
    """Every operation on an installed plugin."""
    raise NotFound(f'plugin "{call.name}" not found')


async def install(call: Call) -> Answer:
    """PluginPull, PluginCreate, GetPluginPrivileges."""
    raise NotImplementedByEngine("managed plugins are not available in this engine")


ROUTES: Final = (
    get("/plugins", list_),
    get("/plugins/privileges", install),
    post("/plugins/pull", install),
    post("/plugins/create", install),
    get("/plugins/{name}/json", unknown),
    delete("/plugins/{name}", unknown),
    post("/plugins/{name}/enable", unknown),
    post("/plugins/{name}/disable", unknown),
    post("/plugins/{name}/upgrade", unknown),
    post("/plugins/{name}/push", unknown),
    post("/plugins/{name}/set", unknown),
)
