"""Tag System: ping, version, info, disk usage, events, registry login."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from windlass.api.docker import credentials
from windlass.api.docker.call import Answer, Call, json_answer
from windlass.api.docker.jsonbody import BODY_LIMIT, parse
from windlass.api.docker.router import get, head, post
from windlass.api.docker.streams import close, documents
from windlass.errors import InvalidParameter
from windlass.http import Response

_DISK_USAGE_TYPES: Final = ("container", "image", "volume", "build-cache")
_NO_CACHE: Final = (
    ("Builder-Version", "1"),
    ("Swarm", "inactive"),
    ("Cache-Control", "no-cache, no-store, must-revalidate"),
    ("Pragma", "no-cache"),
    ("Content-Type", "text/plain; charset=utf-8"),
)


async def ping(call: Call) -> Answer:
    """SystemPing, SystemPingHead."""
    return Response(200, _NO_CACHE, b"" if call.request.method == "HEAD" else b"OK")


async def version(call: Call) -> Answer:
    """SystemVersion."""
    return json_answer(await call.engine.system_version())


async def info(call: Call) -> Answer:
    """SystemInfo, with the fields that clients of older APIs expect."""
    document = dict(await call.engine.system_info())
    if call.older(1, 25):
        document["SecurityOptions"] = [_option_name(option) for option in document.get("SecurityOptions") or ()]
    if call.older(1, 39):
        document["KernelVersion"] = document.get("KernelVersion") or "<unknown>"
        document["OperatingSystem"] = document.get("OperatingSystem") or "<unknown>"
    if call.older(1, 44):
        document["Runtimes"] = {
            name: {key: value for key, value in runtime.items() if key != "status"}
            for name, runtime in (document.get("Runtimes") or {}).items()
        }
    if call.older(1, 46):
        document.pop("Containerd", None)
    if call.older(1, 47):
        nothing = {"AllowNondistributableArtifactsCIDRs": None, "AllowNondistributableArtifactsHostnames": None}
        document["RegistryConfig"] = {**(document.get("RegistryConfig") or {}), **nothing}
    if call.older(1, 49):
        document.pop("FirewallBackend", None)
        for name in ("ContainerdCommit", "RuncCommit", "InitCommit"):
            commit = document.get(name) or {}
            document[name] = {**commit, "Expected": commit.get("ID", "")}
    if not call.older(1, 42):
        document.pop("KernelMemory", None)
    if call.older(1, 50):
        document.pop("DiscoveredDevices", None)
        document["BridgeNfIptables"] = document["BridgeNfIp6tables"] = False
    return json_answer(document)


def _option_name(option: str) -> str:
    """`name=seccomp,profile=builtin` as `seccomp`."""
    fields = dict(part.partition("=")[::2] for part in option.split(","))
    return fields.get("name", option)


async def disk_usage(call: Call) -> Answer:
    """SystemDataUsage."""
    wanted = list(_DISK_USAGE_TYPES)
    if "type" in call.form and not call.older(1, 42):
        wanted = call.texts("type")
        for name in wanted:
            if name not in _DISK_USAGE_TYPES:
                raise InvalidParameter(f"unknown object type: {name}")
    document = {
        "LayersSize": 0,
        "Images": None,
        "Containers": None,
        "Volumes": None,
        "BuildCache": None,
        **await call.engine.system_data_usage(types=wanted),
    }
    if call.older(1, 44):
        document["Images"] = [{**image, "VirtualSize": image.get("Size", 0)} for image in document["Images"] or ()]
    if call.older(1, 42):
        cache = document["BuildCache"] or []
        document["BuilderSize"] = sum(record.get("Size", 0) for record in cache)
        document["BuildCache"] = [{k: v for k, v in record.items() if k != "Parents"} for record in cache]
    return json_answer(document)


async def events(call: Call) -> Answer:
    """SystemEvents: one document a line, until the client leaves or `until` has come."""
    since, until = call.moment("since"), call.moment("until")
    if until is not None and until < (since or 0):
        raise InvalidParameter(
            f"`since` time ({call.text('since')}) cannot be after `until` time ({call.text('until')})"
        )
    source = await call.engine.system_events(since=since, until=until, filters=call.filters("events"))
    return documents(_shaped(source, hide_image_create=call.older(1, 46)))


async def _shaped(events: AsyncIterator[dict[str, Any]], *, hide_image_create: bool) -> AsyncIterator[dict[str, Any]]:
    """Events with the old names beside the new ones: `status`, `id` and `from` were all there was before 1.22."""
    try:
        async for event in events:
            kind, action = event.get("Type"), event.get("Action")
            if hide_image_create and kind == "image" and action == "create":
                continue
            if kind in ("container", "image") and "status" not in event:
                actor = event.get("Actor") or {}
                event = {**event, "status": action, "id": actor.get("ID", "")}
                if kind == "container":
                    event["from"] = (actor.get("Attributes") or {}).get("image", "")
            yield event
    finally:
        await close(events)


async def login(call: Call) -> Answer:
    """SystemAuth."""
    auth = credentials.from_document(parse(await call.request.read(BODY_LIMIT)))
    return json_answer(await call.engine.system_auth(auth=auth))


ROUTES: Final = (
    get("/_ping", ping),
    head("/_ping", ping),
    get("/version", version),
    get("/info", info),
    get("/system/df", disk_usage),
    get("/events", events),
    post("/auth", login, cancellable=True),
)
