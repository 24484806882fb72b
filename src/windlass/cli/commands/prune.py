"""`container|image|network|volume|system prune`."""

from __future__ import annotations

import sys
from typing import Any

from windlass.cli.commands.ps import parse_filters
from windlass.cli.flags import Command, Flag, Options
from windlass.cli.units import human_size

WARNINGS = {
    "container": "WARNING! This will remove all stopped containers.",
    "image": "WARNING! This will remove all dangling images.",
    "image -a": "WARNING! This will remove all images without at least one container associated to them.",
    "network": "WARNING! This will remove all custom networks not used by at least one container.",
    "volume": "WARNING! This will remove anonymous local volumes not used by at least one container.",
    "volume -a": "WARNING! This will remove all local volumes not used by at least one container.",
}


def agreed(options: Options, warning: str) -> bool:
    """Ask, unless --force says yes."""
    if options.force:
        return True
    sys.stdout.write(f"{warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def prune(options: Options, kind: str, filters: dict[str, list[str]]) -> int:
    """Prune one kind and say what went; returns the bytes that came free."""
    path = {"container": "/containers", "image": "/images", "network": "/networks", "volume": "/volumes"}[kind]
    answer: dict[str, Any] = options.client.json("POST", f"{path}/prune", query={"filters": filters or None})
    if kind == "image":
        lines = [f"{verb.lower()}: {what}" for item in answer["ImagesDeleted"] or () for verb, what in item.items()]
    else:
        lines = (
            answer.get(
                {"container": "ContainersDeleted", "network": "NetworksDeleted", "volume": "VolumesDeleted"}[kind]
            )
            or []
        )
    if lines:
        print(f"Deleted {kind.capitalize()}s:" if kind != "image" else "Deleted Images:")
        print("\n".join(lines) + "\n")
    return int(answer.get("SpaceReclaimed") or 0)


def run_prune(options: Options) -> int:
    """One kind."""
    kind = options.command.name.split(" ")[0]
    everything = kind in {"image", "volume"} and options.all
    if not agreed(options, WARNINGS[f"{kind} -a" if everything else kind]):
        return 1
    filters = parse_filters(options.filter) or {}
    if everything:
        filters |= {"dangling": ["false"]} if kind == "image" else {"all": ["true"]}
    reclaimed = prune(options, kind, filters)
    if kind != "network":
        print(f"Total reclaimed space: {human_size(reclaimed)}")
    return 0


def run_system_prune(options: Options) -> int:
    """Everything that nothing uses."""
    kinds = ["container", "network", *(["volume"] if options.volumes else []), "image"]
    listed = {
        "container": "all stopped containers",
        "network": "all networks not used by at least one container",
        "volume": "all anonymous volumes not used by at least one container",
        "image": "all images without at least one container associated to them"
        if options.all
        else "all dangling images",
    }
    if not agreed(options, "WARNING! This will remove:\n" + "".join(f"  - {listed[kind]}\n" for kind in kinds)):
        return 1
    filters = parse_filters(options.filter) or {}
    total = 0
    for kind in kinds:
        extra = {"dangling": ["false"]} if kind == "image" and options.all else {}
        total += prune(options, kind, filters | extra)
    print(f"Total reclaimed space: {human_size(total)}")
    return 0


_FLAGS = (
    Flag("filter", "list", 'Provide filter values (e.g. "until=24h")'),
    Flag("force", "bool", "Do not prompt for confirmation", "f"),
)
_ALL = Flag("all", "bool", "Remove all unused ones, not just dangling or anonymous ones", "a")
PRUNES = {
    "container": Command("container prune", "[OPTIONS]", "Remove all stopped containers", run_prune, _FLAGS),
    "image": Command("image prune", "[OPTIONS]", "Remove unused images", run_prune, (*_FLAGS, _ALL)),
    "network": Command("network prune", "[OPTIONS]", "Remove all unused networks", run_prune, _FLAGS),
    "volume": Command("volume prune", "[OPTIONS]", "Remove unused local volumes", run_prune, (*_FLAGS, _ALL)),
    "system": Command(
        "system prune",
        "[OPTIONS]",
        "Remove unused data",
        run_system_prune,
        (*_FLAGS, _ALL, Flag("volumes", "bool", "Prune anonymous volumes")),
    ),
}


def command_for(group: str) -> Command:
    """`container prune` and the like."""
    return PRUNES[group]
