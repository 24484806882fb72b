"""`images`, `pull`, `push`, `tag`, `rmi`, `history`, `search`."""

from __future__ import annotations

import sys
from typing import Any

from windlass.cli.client import segment
from windlass.cli.commands.lifecycle import for_each
from windlass.cli.commands.ps import parse_filters
from windlass.cli.credentials import Credentials, header, server_of
from windlass.cli.flags import Command, Flag, Options
from windlass.cli.progress import StreamError, show_progress
from windlass.cli.tables import print_rows
from windlass.cli.units import ago, human_size, stamp

COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
TITLES = {"ID": "IMAGE ID", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY"}


def _rows(image: dict[str, Any], options: Options) -> list[dict[str, Any]]:
    """An image as the fields of `--format`, one row for each name."""
    names = [name for name in image.get("RepoTags") or () if name != "<none>:<none>"]
    digests = {name.partition("@")[0]: name.partition("@")[2] for name in image.get("RepoDigests") or ()}
    pairs = [(name.rpartition(":")[0], name.rpartition(":")[2]) for name in names]
    if not pairs:
        pairs = [(next(iter(digests), "<none>"), "<none>")]
    return [
        {
            "ID": image["Id"] if options.no_trunc else image["Id"].removeprefix("sha256:")[:12],
            "Repository": repository,
            "Tag": tag,
            "Digest": digests.get(repository, "<none>"),
            "CreatedSince": ago(image["Created"]) if image["Created"] > 0 else "N/A",
            "CreatedAt": stamp(image["Created"]),
            "Size": human_size(image["Size"]),
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
            "VirtualSize": human_size(image["Size"]),
            "Containers": "N/A",
        }
        for repository, tag in pairs
    ]


def run_images(options: Options) -> int:
    """`windlass images`."""
    filters = parse_filters(options.filter) or {}
    if options.args:
        filters.setdefault("reference", []).append(options.args[0])
    images = options.client.json("GET", "/images/json", query={"all": options.all or None, "filters": filters or None})
    rows = [row for image in images for row in _rows(image, options)]
    quiet = options.quiet and not options.format
    if quiet:
        rows = list({row["ID"]: row for row in rows}.values())
    columns = ("Repository", "Tag", "Digest", *COLUMNS[2:]) if options.digests else COLUMNS
    print_rows(rows, columns=columns, titles=TITLES, template=options.format, quiet_field="ID" if quiet else None)
    return 0


def pull_image(
    options: Options, image: str, *, platform: str = "", quiet: bool = False, to_stderr: bool = False
) -> None:
    """Pull with our credentials, drawing the progress. Raises ApiError or StreamError."""
    auth = Credentials(options.config).get(server_of(image))
    name, tag = split_reference(image)
    response = options.client.request(
        "POST",
        "/images/create",
        query={"fromImage": name, "tag": tag or None, "platform": platform or None},
        headers={"X-Registry-Auth": header(auth)},
        new=True,
    )
    show_progress(response.objects(), quiet=quiet, to_stderr=to_stderr)


def split_reference(image: str) -> tuple[str, str]:
    """(name, tag or digest); the tag is `latest` where none is named."""
    if "@" in image:
        name, _, digest = image.partition("@")
        return name, digest
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")


def run_pull(options: Options) -> int:
    """`windlass pull`."""
    image = options.args[0]
    name, tag = split_reference(image)
    if options.all_tags and tag != "latest":
        raise ValueError("tag can't be used with --all-tags/-a")
    if tag == "latest" and not options.all_tags and not options.quiet and "@" not in image and image == name:
        print("Using default tag: latest")
    try:
        pull_image(options, name if options.all_tags else image, platform=options.platform, quiet=options.quiet)
    except StreamError as error:
        print(error, file=sys.stderr)
        return 1
    separator = "@" if tag.startswith("sha") and ":" in tag else ":"
    full = name if "/" in name else f"library/{name}"
    first = full.partition("/")[0]
    domain = "" if "." in first or ":" in first or first == "localhost" else "docker.io/"
    print(f"{domain}{full}{separator}{tag}")
    return 0


def run_push(options: Options) -> int:
    """`windlass push`."""
    image = options.args[0]
    name, tag = split_reference(image)
    auth = Credentials(options.config).get(server_of(image))
    query = {"tag": None if options.all_tags else tag, "platform": options.platform or None}
    if not options.quiet and not options.all_tags and image == name:
        print("Using default tag: latest")
    response = options.client.request(
        "POST", f"/images/{segment(name)}/push", query=query, headers={"X-Registry-Auth": header(auth)}, new=True
    )
    try:
        show_progress(response.objects(), quiet=options.quiet)
    except StreamError as error:
        print(error, file=sys.stderr)
        return 1
    if options.quiet:
        print(image)
    return 0


def run_tag(options: Options) -> int:
    """`windlass tag`."""
    source, target = options.args
    name, tag = split_reference(target)
    options.client.request("POST", f"/images/{segment(source)}/tag", query={"repo": name, "tag": tag}).read()
    return 0


def run_rmi(options: Options) -> int:
    """`windlass rmi`."""
    query = {"force": options.force or None, "noprune": options.no_prune or None}

    def remove(name: str) -> None:
        for item in options.client.json("DELETE", f"/images/{segment(name)}", query=query):
            for verb, what in item.items():
                print(f"{verb}: {what}")

    return for_each(options, options.args, remove)


def run_history(options: Options) -> int:
    """`windlass history`."""
    layers = options.client.json("GET", f"/images/{segment(options.args[0])}/history")
    rows = []
    for layer in layers:
        created_by = layer["CreatedBy"].replace("\t", " ")
        if not options.no_trunc and len(created_by) > 45:
            created_by = created_by[:44] + "…"
        identity = layer["Id"]
        rows.append(
            {
                "ID": identity if options.no_trunc else identity.removeprefix("sha256:")[:12],
                "CreatedSince": ago(layer["Created"]) if layer["Created"] > 0 else "N/A",
                "CreatedAt": stamp(layer["Created"]),
                "CreatedBy": created_by,
                "Size": human_size(layer["Size"]) if options.human else str(layer["Size"]),
                "Comment": layer.get("Comment", ""),
            }
        )
    columns = ("ID", "CreatedSince" if options.human else "CreatedAt", "CreatedBy", "Size", "Comment")
    quiet = "ID" if options.quiet else None
    print_rows(rows, columns=columns, titles=TITLES | {"ID": "IMAGE"}, template=options.format, quiet_field=quiet)
    return 0


def run_search(options: Options) -> int:
    """`windlass search`."""
    query = {"term": options.args[0], "limit": options.limit or None, "filters": parse_filters(options.filter)}
    rows = [
        {
            "Name": found["name"],
            "Description": found["description"] if options.no_trunc else found["description"][:45],
            "StarCount": str(found["star_count"]),
            "IsOfficial": "[OK]" if found["is_official"] else "",
        }
        for found in options.client.json("GET", "/images/search", query=query)
    ]
    titles = {"StarCount": "STARS", "IsOfficial": "OFFICIAL"}
    print_rows(rows, columns=("Name", "Description", "StarCount", "IsOfficial"), titles=titles, template=options.format)
    return 0


_QUIET = Flag("quiet", "bool", "Only show image IDs", "q")
_FORMAT = Flag("format", "string", "Format output: 'table', 'table TEMPLATE', 'json', or a Go template")
_FILTER = Flag("filter", "list", "Filter output based on conditions provided", "f")
_NO_TRUNC = Flag("no-trunc", "bool", "Don't truncate output")
_PLATFORM = Flag("platform", "string", "Set platform if server is multi-platform capable")

_IMAGES = Command(
    "images",
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    run_images,
    (
        Flag("all", "bool", "Show all images (default hides intermediate images)", "a"),
        Flag("digests", "bool", "Show digests"),
        _FILTER,
        _FORMAT,
        _NO_TRUNC,
        _QUIET,
    ),
    0,
    1,
    aliases="windlass image ls, windlass image list, windlass images",
    examples="windlass images --filter dangling=true -q",
)
_REMOVE = Command(
    "rmi",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    run_rmi,
    (
        Flag("force", "bool", "Force removal of the image", "f"),
        Flag("no-prune", "bool", "Do not delete untagged parents"),
    ),
    1,
    None,
    aliases="windlass image rm, windlass image remove, windlass rmi",
)
COMMANDS = {
    "images": _IMAGES,
    "ls": _IMAGES,
    "rmi": _REMOVE,
    "rm": _REMOVE,
    "pull": Command(
        "pull",
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        run_pull,
        (
            Flag("all-tags", "bool", "Download all tagged images in the repository", "a"),
            _PLATFORM,
            Flag("quiet", "bool", "Suppress verbose output", "q"),
        ),
        1,
        1,
        aliases="windlass image pull, windlass pull",
        examples="windlass pull registry.example.org/team/app:v2",
    ),
    "push": Command(
        "push",
        "[OPTIONS] NAME[:TAG]",
        "Upload an image to a registry",
        run_push,
        (
            Flag("all-tags", "bool", "Push all tags of an image to the repository", "a"),
            _PLATFORM,
            Flag("quiet", "bool", "Suppress verbose output", "q"),
        ),
        1,
        1,
        aliases="windlass image push, windlass push",
    ),
    "tag": Command(
        "tag",
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        run_tag,
        (),
        2,
        2,
        aliases="windlass image tag, windlass tag",
    ),
    "history": Command(
        "history",
        "[OPTIONS] IMAGE",
        "Show the history of an image",
        run_history,
        (
            _FORMAT,
            Flag("human", "bool", "Print sizes and dates in human readable format", "H", True),
            _NO_TRUNC,
            _QUIET,
        ),
        1,
        1,
        aliases="windlass image history, windlass history",
    ),
    "search": Command(
        "search",
        "[OPTIONS] TERM",
        "Search a registry for images",
        run_search,
        (_FILTER, _FORMAT, Flag("limit", "int", "Max number of search results"), _NO_TRUNC),
        1,
        1,
    ),
}
