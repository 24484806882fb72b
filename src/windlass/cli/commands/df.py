"""`system df`."""

from __future__ import annotations

from typing import Any

from windlass.cli.flags import Command, Flag, Options
from windlass.cli.tables import print_rows, print_table
from windlass.cli.units import ago, human_size


def _row(kind: str, total: int, active: int, size: int, reclaimable: int) -> dict[str, Any]:
    percent = f" ({100 * reclaimable // size}%)" if size else ""
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": human_size(size),
        "Reclaimable": human_size(reclaimable) + percent,
    }


def rows(usage: dict[str, Any]) -> list[dict[str, Any]]:
    """What the table shows, from the API's answer."""
    images, containers = usage.get("Images") or [], usage.get("Containers") or []
    volumes, cache = usage.get("Volumes") or [], usage.get("BuildCache") or []
    layers = usage.get("LayersSize") or 0
    used = sum(i["Size"] - max(i.get("SharedSize", 0), 0) for i in images if i.get("Containers", 0) > 0)
    running = [c for c in containers if c["State"] in {"running", "paused", "restarting"}]
    container_size = sum(c.get("SizeRw") or 0 for c in containers)
    container_free = sum(c.get("SizeRw") or 0 for c in containers if c not in running)
    volume_size = sum(max(v["UsageData"]["Size"], 0) for v in volumes)
    volume_free = sum(max(v["UsageData"]["Size"], 0) for v in volumes if v["UsageData"]["RefCount"] == 0)
    cache_size = sum(c["Size"] for c in cache if not c.get("Shared"))
    cache_free = sum(c["Size"] for c in cache if not c.get("Shared") and not c.get("InUse"))
    return [
        _row(
            "Images", len(images), sum(1 for i in images if i.get("Containers", 0) > 0), layers, max(layers - used, 0)
        ),
        _row("Containers", len(containers), len(running), container_size, container_free),
        _row(
            "Local Volumes",
            len(volumes),
            sum(1 for v in volumes if v["UsageData"]["RefCount"]),
            volume_size,
            volume_free,
        ),
        _row("Build Cache", len(cache), sum(1 for c in cache if c.get("InUse")), cache_size, cache_free),
    ]


def run_df(options: Options) -> int:
    """`windlass system df`."""
    usage = options.client.json("GET", "/system/df")
    if not options.verbose:
        columns = ("Type", "TotalCount", "Active", "Size", "Reclaimable")
        print_rows(rows(usage), columns=columns, titles={"TotalCount": "TOTAL"}, template=options.format)
        return 0
    print("Images space usage:\n")
    shown = []
    for image in usage.get("Images") or ():
        for name in image.get("RepoTags") or ["<none>:<none>"]:
            repository, _, tag = name.rpartition(":")
            shared = max(image.get("SharedSize", 0), 0)
            sizes = (human_size(image["Size"]), human_size(shared), human_size(image["Size"] - shared))
            count = str(max(image.get("Containers", 0), 0))
            shown.append([repository, tag, image["Id"][7:19], ago(image["Created"]), *sizes, count])
    print_table(("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"), shown)
    print("\nContainers space usage:\n")
    print_table(
        ("CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"),
        (
            [
                c["Id"][:12],
                c["Image"],
                f'"{c["Command"][:18]}"',
                str(sum(1 for m in c.get("Mounts") or () if m.get("Type") == "volume")),
                human_size(c.get("SizeRw") or 0),
                ago(c["Created"]),
                c["Status"],
                ",".join(name.lstrip("/") for name in c["Names"]),
            ]
            for c in usage.get("Containers") or ()
        ),
    )
    print("\nLocal Volumes space usage:\n")
    print_table(
        ("VOLUME NAME", "LINKS", "SIZE"),
        (
            [v["Name"], str(v["UsageData"]["RefCount"]), human_size(max(v["UsageData"]["Size"], 0))]
            for v in usage.get("Volumes") or ()
        ),
    )
    return 0


COMMANDS = {
    "df": Command(
        "system df",
        "[OPTIONS]",
        "Show disk usage",
        run_df,
        (
            Flag("format", "string", "Format output: 'table', 'table TEMPLATE', 'json', or a Go template"),
            Flag("verbose", "bool", "Show detailed information on space usage", "v"),
        ),
    )
}
