"""`ps` and `container ls`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from windlass.cli.flags import Command, Flag, Options
from windlass.cli.tables import print_rows
from windlass.cli.units import ago, human_size, stamp

COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
TITLES = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "CreatedAt": "CREATED AT",
    "LocalVolumes": "LOCAL VOLUMES",
}


def parse_filters(values: Iterable[str]) -> dict[str, list[str]] | None:
    """`--filter key=value` words as the API's filters. Raises ValueError."""
    found: dict[str, list[str]] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            raise ValueError(
                f'invalid argument "{value}" for "-f, --filter" flag: bad format of filter (expected name=value)'
            )
        found.setdefault(key.strip().lower(), []).append(text.strip())
    return found or None


def format_ports(ports: Iterable[dict[str, Any]]) -> str:
    """`0.0.0.0:8080->80/tcp, 443/tcp`, ranges joined as docker joins them."""
    groups: dict[tuple[str, str, bool], list[tuple[int, int]]] = {}
    for port in ports:
        public = port.get("PublicPort") or 0
        groups.setdefault((port.get("IP", ""), port["Type"], bool(public)), []).append((port["PrivatePort"], public))
    shown = []
    for (address, protocol, published), pairs in groups.items():
        runs: list[list[tuple[int, int]]] = []
        for private, public in sorted(set(pairs)):
            last = runs[-1][-1] if runs else None
            if last and private == last[0] + 1 and (not published or public == last[1] + 1):
                runs[-1].append((private, public))
            else:
                runs.append([(private, public)])
        for run in runs:
            inside = f"{run[0][0]}" if len(run) == 1 else f"{run[0][0]}-{run[-1][0]}"
            if not published:
                shown.append((run[0][0], f"{inside}/{protocol}"))
                continue
            outside = f"{run[0][1]}" if len(run) == 1 else f"{run[0][1]}-{run[-1][1]}"
            host = f"[{address}]" if ":" in address else address
            shown.append((run[0][0], f"{host}:{outside}->{inside}/{protocol}"))
    return ", ".join(text for _, text in sorted(shown))


def row(container: dict[str, Any], *, truncate: bool, sizes: bool) -> dict[str, Any]:
    """A container as the fields of `--format`."""
    names = [name.lstrip("/") for name in container["Names"]]
    if truncate:
        names = [name for name in names if "/" not in name]
    command = f'"{container["Command"]}"'
    if truncate and len(command) > 22:
        command = f'"{container["Command"][:18]}…"'
    image = container["Image"] or "<no image>"
    if truncate and image.startswith("sha256:"):
        image = image[7:19]
    labels = container["Labels"] or {}
    mounts = [m.get("Name") or m["Source"] for m in container.get("Mounts") or ()]
    size = human_size(container.get("SizeRw") or 0)
    if virtual := container.get("SizeRootFs"):
        size += f" (virtual {human_size(virtual)})"
    return {
        "ID": container["Id"][:12] if truncate else container["Id"],
        "Names": ",".join(names),
        "Image": image,
        "Command": command,
        "CreatedAt": stamp(container["Created"]),
        "RunningFor": ago(container["Created"]),
        "Ports": format_ports(container.get("Ports") or ()),
        "State": container["State"],
        "Status": container["Status"],
        "Size": size if sizes else "0B",
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "Mounts": ",".join(_shorten(name) if truncate else name for name in mounts),
        "LocalVolumes": str(sum(1 for m in container.get("Mounts") or () if m.get("Driver") == "local")),
        "Networks": ",".join((container.get("NetworkSettings") or {}).get("Networks") or {}),
        "Label": lambda name: labels.get(name, ""),
    }


def _shorten(name: str) -> str:
    return name if len(name) <= 15 else name[:14] + "…"


def run_ps(options: Options) -> int:
    """`windlass ps`."""
    template = options.format
    sizes = options.size or ".Size" in template
    query = {
        "all": options.all or options.latest or bool(options.last) or None,
        "limit": 1 if options.latest else options.last or None,
        "size": sizes or None,
        "filters": parse_filters(options.filter),
    }
    containers = options.client.json("GET", "/containers/json", query=query)
    rows = [row(container, truncate=not options.no_trunc, sizes=sizes) for container in containers]
    columns = (*COLUMNS, "Size") if sizes else COLUMNS
    quiet = "ID" if options.quiet and not template else None
    print_rows(rows, columns=columns, titles=TITLES, template=template, quiet_field=quiet)
    return 0


_PS = Command(
    "ps",
    "[OPTIONS]",
    "List containers",
    run_ps,
    (
        Flag("all", "bool", "Show all containers (default shows just running)", "a"),
        Flag("filter", "list", "Filter output based on conditions provided", "f"),
        Flag("format", "string", "Format output: 'table', 'table TEMPLATE', 'json', or a Go template"),
        Flag("last", "int", "Show n last created containers (includes all states)", "n"),
        Flag("latest", "bool", "Show the latest created container (includes all states)", "l"),
        Flag("no-trunc", "bool", "Don't truncate output"),
        Flag("quiet", "bool", "Only display container IDs", "q"),
        Flag("size", "bool", "Display total file sizes", "s"),
    ),
    aliases="windlass container ls, windlass container list, windlass container ps, windlass ps",
    examples="windlass ps -a --filter status=exited\nwindlass ps --format 'table {{.Names}}\\t{{.Status}}'",
)
COMMANDS = {"ps": _PS, "ls": _PS}
