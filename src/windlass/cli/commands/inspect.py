"""`inspect`, of any kind of object or of one kind."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from windlass.cli.client import ApiError, segment
from windlass.cli.flags import Command, Flag, Options
from windlass.cli.templates import Template, to_json

# In the order in which docker looks for a name.
PATHS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
    "node": "/nodes/{}",
    "service": "/services/{}",
    "task": "/tasks/{}",
    "secret": "/secrets/{}",
    "config": "/configs/{}",
    "plugin": "/plugins/{}/json",
}


def find(options: Options, name: str, kind: str) -> Any:
    """The object of that name; of any kind where `kind` is empty. Raises ApiError where there is none."""
    for candidate in [kind] if kind else list(PATHS):
        if candidate not in PATHS:
            raise ValueError(f'"{candidate}" is not a valid value for --type')
        query = {"size": 1} if candidate == "container" and options.given("size") else None
        try:
            return options.client.json("GET", PATHS[candidate].format(segment(name)), query=query)
        except ApiError as error:
            # Without Swarm or plugins the engine says so; for a name of unknown kind that is "not found".
            if kind or error.status not in {404, 501, 503}:
                raise
    raise ApiError(404, f"No such object: {name}")


def print_objects(options: Options, objects: list[Any]) -> None:
    """As JSON, indented as docker does, or by the template."""
    if not options.format:
        sys.stdout.write(json.dumps(objects, indent=4, ensure_ascii=False) + "\n")
    elif options.format == "json":
        sys.stdout.write(to_json(objects) + "\n")
    else:
        template = Template(options.format)
        for item in objects:
            sys.stdout.write(template.render(item) + "\n")


def runner(kind: str) -> Callable[[Options], int]:
    """`inspect` for one kind; any kind (or --type) for ""."""

    def run(options: Options) -> int:
        found, failed = [], 0
        for name in options.args:
            try:
                found.append(find(options, name, kind or options.type))
            except ApiError as error:
                prefix = "Error: " if error.status == 404 and not kind else "Error response from daemon: "
                print(f"{prefix}{error}", file=sys.stderr)
                failed = 1
        if found or not options.format:
            print_objects(options, found)
        return failed

    return run


FLAGS = (
    Flag("format", "string", "Format output: 'json', or a Go template", "f"),
    Flag("size", "bool", "Display total file sizes if the type is container", "s"),
)
COMMANDS = {
    "inspect": Command(
        "inspect",
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Return low-level information on windlass objects",
        runner(""),
        (*FLAGS, Flag("type", "string", "Only inspect objects of the given type")),
        1,
        None,
        examples="windlass inspect --format '{{.NetworkSettings.IPAddress}}' web",
    )
}


def command_for(kind: str) -> Command:
    """`container inspect` and the like."""
    summary = f"Display detailed information on one or more {kind}s"
    return Command("inspect", f"[OPTIONS] {kind.upper()} [{kind.upper()}...]", summary, runner(kind), FLAGS, 1, None)
