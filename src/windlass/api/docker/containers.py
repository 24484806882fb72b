"""Tag Container: create, list, inspect, start … remove; their streams are in `container_streams`."""

from __future__ import annotations

from typing import Any, Final

from windlass.api.docker import container_streams as streams
from windlass.api.docker.call import NO_CONTENT, Answer, Call, json_answer
from windlass.api.docker.create import adapt_create
from windlass.api.docker.router import delete, get, head, post, put
from windlass.errors import InvalidParameter, WindlassError
from windlass.http import Response

_LEGACY_MODES: Final = ("default", "bridge", "host", "none", "")


async def create(call: Call) -> Answer:
    """ContainerCreate."""
    name = call.text("name")
    body = await call.body("container.CreateRequest", required=True)
    platform = "" if call.older(1, 41) else call.text("platform")
    adapted = adapt_create(body, call.version)
    created = await call.engine.container_create(
        name=name,
        platform=platform,
        body=adapted.body,
        default_read_only_non_recursive=call.older(1, 44),
    )
    warnings = [*(created.get("Warnings") or ()), *adapted.warnings]
    return json_answer({"Id": created["Id"], "Warnings": warnings}, 201)


async def list_(call: Call) -> Answer:
    """ContainerList."""
    filters = call.filters("containers")
    for key in ("since", "before"):
        if call.text(key):  # parameters of their own before filters were
            filters.setdefault(key, []).append(call.text(key))
    found = await call.engine.container_list(
        all=call.flag("all"), limit=call.integer("limit") or 0, size=call.flag("size"), filters=filters
    )
    if call.older(1, 48):
        found = [_without_newer_fields(container, annotations=not call.older(1, 46)) for container in found]
    return json_answer(found)


def _without_newer_fields(container: dict[str, Any], *, annotations: bool) -> dict[str, Any]:
    container = {key: value for key, value in container.items() if key != "ImageManifestDescriptor"}
    if not annotations and "HostConfig" in container:
        host_config = container["HostConfig"] or {}
        container["HostConfig"] = {key: value for key, value in host_config.items() if key != "Annotations"}
    return container


async def inspect(call: Call) -> Answer:
    """ContainerInspect."""
    document = await call.engine.container_inspect(call.name, size=call.flag("size"))
    if call.older(1, 48):
        document = {key: value for key, value in document.items() if key != "ImageManifestDescriptor"}
    if call.older(1, 45):
        settings = document.get("NetworkSettings") or {}
        networks = {
            name: _with_short_alias(endpoint, document) if name not in _LEGACY_MODES else endpoint
            for name, endpoint in (settings.get("Networks") or {}).items()
        }
        document = {**document, "NetworkSettings": {**settings, "Networks": networks}}
    return json_answer(document)


def _with_short_alias(endpoint: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Before 1.45 the aliases named the short identifier and the host name too."""
    names = [*(endpoint.get("Aliases") or ()), document["Id"][:12], (document.get("Config") or {}).get("Hostname", "")]
    return {**endpoint, "Aliases": list(dict.fromkeys(names))}


async def top(call: Call) -> Answer:
    """ContainerTop."""
    return json_answer(await call.engine.container_top(call.name, ps_args=call.text("ps_args")))


async def changes(call: Call) -> Answer:
    """ContainerChanges."""
    return json_answer(await call.engine.container_changes(call.name))


async def start(call: Call) -> Answer:
    """ContainerStart."""
    length = call.request.content_length
    if length is None or length > 7:  # "{}", "null" and the like are forgiven
        raise InvalidParameter(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    await call.engine.container_start(
        call.name,
        detach_keys=call.text("detachKeys"),
        checkpoint=call.text("checkpoint"),
        checkpoint_dir=call.text("checkpoint-dir"),
    )
    return NO_CONTENT


async def stop(call: Call) -> Answer:
    """ContainerStop."""
    signal = "" if call.older(1, 42) else call.text("signal")
    await call.engine.container_stop(call.name, signal=signal, timeout=call.integer("t"))
    return NO_CONTENT


async def restart(call: Call) -> Answer:
    """ContainerRestart."""
    signal = "" if call.older(1, 42) else call.text("signal")
    await call.engine.container_restart(call.name, signal=signal, timeout=call.integer("t"))
    return NO_CONTENT


async def kill(call: Call) -> Answer:
    """ContainerKill."""
    try:
        await call.engine.container_kill(call.name, signal=call.text("signal"))
    except WindlassError as error:
        raise type(error)(f"cannot kill container: {call.name}: {error}") from error
    return NO_CONTENT


async def pause(call: Call) -> Answer:
    """ContainerPause."""
    await call.engine.container_pause(call.name)
    return NO_CONTENT


async def unpause(call: Call) -> Answer:
    """ContainerUnpause."""
    await call.engine.container_unpause(call.name)
    return NO_CONTENT


async def rename(call: Call) -> Answer:
    """ContainerRename."""
    await call.engine.container_rename(call.name, name=call.text("name"))
    return NO_CONTENT


async def update(call: Call) -> Answer:
    """ContainerUpdate."""
    body = await call.body("container.UpdateConfig")
    if call.older(1, 40):
        body.pop("PidsLimit", None)
    if not call.older(1, 42):
        body.pop("KernelMemory", None)
    limit = body.get("PidsLimit")
    if isinstance(limit, int) and limit <= 0:
        body["PidsLimit"] = 0  # any of them says "unlimited"
    return json_answer(await call.engine.container_update(call.name, body=body))


async def resize(call: Call) -> Answer:
    """ContainerResize."""
    height, width = call.uint32("h", "resize height"), call.uint32("w", "resize width")
    await call.engine.container_resize(call.name, height=height, width=width)
    return Response(200)


async def remove(call: Call) -> Answer:
    """ContainerDelete."""
    await call.engine.container_delete(call.name, v=call.flag("v"), force=call.flag("force"), link=call.flag("link"))
    return NO_CONTENT


async def prune(call: Call) -> Answer:
    """ContainerPrune."""
    return json_answer(await call.engine.container_prune(filters=call.filters("containers/prune")))


async def commit(call: Call) -> Answer:
    """ImageCommit; the document's tag is Image, its words are about a container."""
    created = await call.engine.image_commit(
        container=call.text("container"),
        repo=call.text("repo"),
        tag=call.text("tag"),
        comment=call.text("comment"),
        author=call.text("author"),
        pause=call.flag("pause", default=True),
        changes=call.texts("changes"),
        body=await call.body("container.CreateRequest"),
    )
    return json_answer(created, 201)


ROUTES: Final = (
    get("/containers/json", list_),
    post("/containers/create", create),
    post("/containers/prune", prune),
    post("/commit", commit),
    get("/containers/{name}/json", inspect),
    get("/containers/{name}/top", top),
    get("/containers/{name}/changes", changes),
    get("/containers/{name}/logs", streams.logs),
    get("/containers/{name}/stats", streams.stats),
    get("/containers/{name}/export", streams.export),
    get("/containers/{name}/attach/ws", streams.attach_websocket),
    post("/containers/{name}/attach", streams.attach, cancellable=True),
    post("/containers/{name}/wait", streams.wait, cancellable=True),
    head("/containers/{name}/archive", streams.archive_info),
    get("/containers/{name}/archive", streams.archive),
    put("/containers/{name}/archive", streams.put_archive),
    post("/containers/{name}/start", start),
    post("/containers/{name}/stop", stop),
    post("/containers/{name}/restart", restart),
    post("/containers/{name}/kill", kill),
    post("/containers/{name}/pause", pause),
    post("/containers/{name}/unpause", unpause),
    post("/containers/{name}/rename", rename),
    post("/containers/{name}/update", update),
    post("/containers/{name}/resize", resize),
    delete("/containers/{name}", remove),
)
