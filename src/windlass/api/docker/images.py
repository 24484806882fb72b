"""Tag Image: list, inspect, pull and import, push, tag, save and load, remove."""

from __future__ import annotations

from typing import Any, Final

from windlass.api.docker.call import Answer, Call, json_answer
from windlass.api.docker.router import delete, get, post
from windlass.api.docker.streams import TAR, binary, progress
from windlass.errors import Forbidden, InvalidParameter
from windlass.http import Response

# Fields of an image's Config that answers carry also when they are empty.
_ALWAYS: Final = {
    "Cmd": None,
    "Entrypoint": None,
    "Env": None,
    "Labels": None,
    "OnBuild": None,
    "User": "",
    "Volumes": None,
    "WorkingDir": "",
}
_BEFORE_1_50: Final = {
    "AttachStderr": False,
    "AttachStdin": False,
    "AttachStdout": False,
    "Domainname": "",
    "Hostname": "",
    "Image": "",
    "OpenStdin": False,
    "StdinOnce": False,
    "Tty": False,
}


async def list_(call: Call) -> Answer:
    """ImageList."""
    filters = call.filters("images")
    if call.older(1, 41) and call.text("filter"):
        filters.setdefault("reference", []).append(call.text("filter"))
    found = await call.engine.image_list(
        all=call.flag("all"),
        filters=filters,
        shared_size=not call.older(1, 42) and call.flag("shared-size"),
        manifests=not call.older(1, 47) and call.flag("manifests"),
    )
    return json_answer([_summary(call, image) for image in found] if call.older(1, 51) else found)


def _summary(call: Call, image: dict[str, Any]) -> dict[str, Any]:
    image = {**image, "Containers": -1}
    if call.older(1, 43) and not image.get("RepoTags") and not image.get("RepoDigests"):
        image["RepoTags"], image["RepoDigests"] = ["<none>:<none>"], ["<none>@<none>"]
    if call.older(1, 44):
        image["VirtualSize"] = image.get("Size", 0)
    if call.older(1, 48):
        image.pop("Descriptor", None)
    return image


async def inspect(call: Call) -> Answer:
    """ImageInspect."""
    manifests = not call.older(1, 48) and call.flag("manifests")
    platform = None if call.older(1, 49) else call.platform()
    if manifests and platform is not None:
        raise InvalidParameter("conflicting options: manifests and platform options cannot both be set")
    document = dict(await call.engine.image_inspect(call.name, manifests=manifests, platform=platform))
    document["RepoTags"] = document.get("RepoTags") or []
    document["RepoDigests"] = document.get("RepoDigests") or []
    legacy = {**_ALWAYS, **_BEFORE_1_50} if call.older(1, 50) else _ALWAYS
    document["Config"] = {**legacy, **(document.get("Config") or {})}
    if call.older(1, 44):
        document["VirtualSize"] = document.get("Size", 0)
        document["Created"] = document.get("Created") or "0001-01-01T00:00:00Z"
    if call.older(1, 45):
        document.setdefault("Container", "")
        document.setdefault("ContainerConfig", None)
    else:
        document.pop("Container", None)
        document.pop("ContainerConfig", None)
    if call.older(1, 48):
        document.pop("Descriptor", None)
    return json_answer(document)


async def history(call: Call) -> Answer:
    """ImageHistory."""
    platform = None if call.older(1, 48) else call.platform()
    return json_answer(await call.engine.image_history(call.name, platform=platform))


async def create(call: Call) -> Answer:
    """ImageCreate: pull `fromImage`, or import `fromSrc`."""
    image = call.text("fromImage").removesuffix(":")  # "pull --all-tags" sends a bare colon
    if image.removeprefix("docker.io/").removeprefix("library/").partition(":")[0] == "scratch":
        raise Forbidden("'scratch' is a reserved name")
    source = call.text("fromSrc")
    message = call.text("message")
    if not image and not message:
        message = f"Imported from {source}"
    call.request.cancel_on_disconnect = True  # a pull that nobody waits for is given up
    return await progress(
        call.engine.image_create(
            from_image=image,
            from_src=source,
            repo=call.text("repo"),
            tag=call.text("tag"),
            message=message,
            changes=call.texts("changes"),
            platform="" if call.older(1, 32) else call.text("platform"),
            auth=call.auth,
            body=call.stream,
        )
    )


async def push(call: Call) -> Answer:
    """ImagePush; without a tag all tags are pushed."""
    platform = None if call.older(1, 46) else call.platform()
    return await progress(call.engine.image_push(call.name, tag=call.text("tag"), platform=platform, auth=call.auth))


async def tag(call: Call) -> Answer:
    """ImageTag."""
    await call.engine.image_tag(call.name, repo=call.text("repo"), tag=call.text("tag"))
    return Response(201)


async def remove(call: Call) -> Answer:
    """ImageDelete."""
    if not call.name.strip():
        raise InvalidParameter("image name cannot be blank")
    platforms = [] if call.older(1, 50) else [_platform(call, text) for text in call.texts("platforms")]
    removed = await call.engine.image_delete(
        call.name, force=call.flag("force"), noprune=call.flag("noprune"), platforms=platforms
    )
    return json_answer(removed)


def _platform(call: Call, text: str) -> dict[str, Any]:
    from windlass.api.docker.call import decode_platform

    return decode_platform(text)


async def search(call: Call) -> Answer:
    """ImageSearch."""
    limit = call.text("limit")
    if limit and not (limit.isascii() and limit.isdigit()):
        raise InvalidParameter("invalid limit specified")
    found = await call.engine.image_search(
        term=call.text("term"), limit=int(limit or 0), filters=call.filters("images/search"), auth=call.auth
    )
    return json_answer(found)


async def prune(call: Call) -> Answer:
    """ImagePrune."""
    return json_answer(await call.engine.image_prune(filters=call.filters("images/prune")))


def _one_platform(call: Call) -> dict[str, Any] | None:
    if call.older(1, 48):
        return None
    if len(call.texts("platform")) > 1:
        raise InvalidParameter("multiple platform parameters not supported")
    return call.platform()


async def save(call: Call) -> Answer:
    """ImageGet, ImageGetAll."""
    names = [call.name] if call.name else call.texts("names")
    return await binary(call.engine.image_get(names=names, platform=_one_platform(call)), TAR)


async def load(call: Call) -> Answer:
    """ImageLoad. dockerd answers 200 whatever happens; the failure stands in the stream."""
    platform = _one_platform(call)
    quiet = call.flag("quiet", default=True)
    source = call.engine.image_load(quiet=quiet, platform=platform, body=call.stream)
    return await progress(source, always_ok=True)


ROUTES: Final = (
    get("/images/json", list_),
    get("/images/search", search),
    get("/images/get", save),
    get("/images/{name}/get", save),
    get("/images/{name}/history", history),
    get("/images/{name}/json", inspect),
    post("/images/load", load),
    post("/images/create", create),
    post("/images/{name}/push", push, cancellable=True),
    post("/images/{name}/tag", tag),
    post("/images/prune", prune),
    delete("/images/{name}", remove),
)
