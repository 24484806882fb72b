"""Images as the Engine API describes them: lists, details, history (API 1.51)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from windlass.errors import WindlassError
from windlass.images.catalog import Catalog
from windlass.images.filters import Filters, created_ns, is_labelled, matches_name, parse_flag, parse_time, parse_until
from windlass.images.image import Image, familiar
from windlass.images.removal import InUse
from windlass.images.snapshots import Driver, layer_name

Document = dict[str, Any]
_EXECUTION: Final[Document] = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}


def unix_time(image: Image) -> int:
    """When it was created, whole seconds since the epoch; 0 where it does not say."""
    return created_ns(image) // 10**9


def summaries(
    images: Sequence[Image],
    everything: Sequence[Image],
    *,
    shared_size: bool,
    in_use: Mapping[str, Sequence[InUse]] | None,
) -> list[Document]:
    """The entries of `GET /images/json`."""
    users = Counter(layer.chain_id for image in everything for layer in image.record.layers)
    found = []
    for image in images:
        shared = sum(layer.size for layer in image.record.layers if users[layer.chain_id] > 1)
        found.append(
            {
                "Containers": len(in_use.get(image.id, ())) if in_use is not None else -1,
                "Created": unix_time(image),
                "Id": image.id,
                "Labels": image.execution.get("Labels"),
                "ParentId": image.parent,
                "Descriptor": dict(image.manifest),
                "RepoDigests": image.repo_digests,
                "RepoTags": image.repo_tags,
                "SharedSize": shared if shared_size else -1,
                "Size": image.size,
            }
        )
    return found


def select(catalog: Catalog, filters: Filters, *, all: bool) -> list[Image]:
    """The images that the filters of `GET /images/json` let through, with the names that they let through.

    Raises InvalidParameter, NotFound.
    """
    everything = catalog.all()
    parents = {image.parent for image in everything}
    dangling = parse_flag(filters, "dangling", False)
    patterns = filters.get("reference") or ()
    before = min((created_ns(catalog.resolve(value)) for value in filters.get("before") or ()), default=None)
    since = max((created_ns(catalog.resolve(value)) for value in filters.get("since") or ()), default=None)
    until = parse_until(filters)
    found = []
    for image in everything:
        created = created_ns(image)
        if (before is not None and created >= before) or (since is not None and created <= since):
            continue
        if (until is not None and created > until) or not is_labelled(image, filters):
            continue
        if patterns:
            names = [n for n in image.references if any(matches_name(pattern, familiar(n)) for pattern in patterns)]
            image = dataclasses.replace(image, references=tuple(names))
        if image.references:
            if dangling and image.repo_tags:
                continue
        elif patterns or (image.id in parents and not all) or ("dangling" in filters and not dangling):
            continue
        found.append(image)
    return found


def inspection(image: Image, driver: Driver) -> Document:
    """`GET /images/{name}/json`."""
    config = image.config
    execution = {**_EXECUTION, **image.execution}
    document: Document = {
        "Id": image.id,
        "RepoTags": image.repo_tags,
        "RepoDigests": image.repo_digests,
        "Parent": image.parent,
        "Comment": config.get("comment") or _last_comment(image),
        "Created": image.created or "0001-01-01T00:00:00Z",
        "DockerVersion": config.get("docker_version") or "",
        "Author": config.get("author") or "",
        "Config": execution,
        "Architecture": config["architecture"],
        "Os": config["os"],
        "Size": image.size,
        "GraphDriver": {"Name": driver.name, "Data": _graph(image, driver)},
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        "Metadata": {"LastTagTime": _tag_time(image)},
        "Descriptor": dict(image.manifest),
    }
    if variant := config.get("variant"):
        document["Variant"] = variant
    return document


def _last_comment(image: Image) -> str:
    entries = image.config.get("history") or []
    return str(entries[-1].get("comment") or "") if entries else ""


def _graph(image: Image, driver: Driver) -> Document | None:
    if image.chain_id is None:
        return None
    try:
        mounts = driver.view(layer_name(image.chain_id))
    except WindlassError:
        return None  # it is being removed
    lower = list(mounts[0].lower or (mounts[0].source,))
    data = {"UpperDir": lower[0]}
    if len(lower) > 1:
        data["LowerDir"] = ":".join(lower[1:])
    return data


def _tag_time(image: Image) -> str:
    if not image.record.tagged:
        return "0001-01-01T00:00:00Z"
    seconds, nanoseconds = divmod(image.record.tagged, 10**9)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{nanoseconds:09d}Z"


def history(image: Image) -> list[Document]:
    """`GET /images/{name}/history`, the youngest step first."""
    entries = list(image.config.get("history") or ())
    layers = list(image.record.layers)
    found = []
    position = 0
    for entry in entries:
        size = 0
        if not entry.get("empty_layer") and position < len(layers):
            size = layers[position].size
            position += 1
        found.append(_step(entry.get("created") or "", entry.get("created_by") or "", size, entry.get("comment") or ""))
    for layer in layers[position:]:
        found.append(_step("", "", layer.size, ""))
    found.reverse()
    if found:
        found[0]["Id"] = image.id
        found[0]["Tags"] = image.repo_tags or None
    return found


def _step(created: str, created_by: str, size: int, comment: str) -> Document:
    moment = (parse_time(created) or 0) // 10**9
    return {
        "Id": "<missing>",
        "Created": moment,
        "CreatedBy": created_by,
        "Tags": None,
        "Size": size,
        "Comment": comment,
    }
