"""`volume create`, `volume ls`, `volume rm`."""

from __future__ import annotations

from windlass.cli.client import segment
from windlass.cli.commands.create_body import pairs
from windlass.cli.commands.lifecycle import for_each
from windlass.cli.commands.ps import parse_filters
from windlass.cli.flags import Command, Flag, Options
from windlass.cli.tables import print_rows


def run_create(options: Options) -> int:
    """`windlass volume create`."""
    body = {
        "Name": options.args[0] if options.args else "",
        "Driver": options.driver,
        "DriverOpts": pairs(options.opt),
        "Labels": pairs(options.label),
    }
    print(options.client.json("POST", "/volumes/create", body=body)["Name"])
    return 0


def run_ls(options: Options) -> int:
    """`windlass volume ls`."""
    answer = options.client.json("GET", "/volumes", query={"filters": parse_filters(options.filter)})
    rows = []
    for volume in sorted(answer["Volumes"] or (), key=lambda volume: volume["Name"]):
        labels = volume.get("Labels") or {}
        rows.append(
            {
                "Name": volume["Name"],
                "Driver": volume["Driver"],
                "Mountpoint": volume["Mountpoint"],
                "Scope": volume["Scope"],
                "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
                "Label": lambda name, labels=labels: labels.get(name, ""),
            }
        )
    quiet = "Name" if options.quiet else None
    print_rows(
        rows, columns=("Driver", "Name"), titles={"Name": "VOLUME NAME"}, template=options.format, quiet_field=quiet
    )
    return 0


def run_rm(options: Options) -> int:
    """`windlass volume rm`."""

    def remove(name: str) -> str:
        options.client.request("DELETE", f"/volumes/{segment(name)}", query={"force": options.force or None}).read()
        return name

    return for_each(options, options.args, remove)


COMMANDS = {
    "create": Command(
        "volume create",
        "[OPTIONS] [VOLUME]",
        "Create a volume",
        run_create,
        (
            Flag("driver", "string", "Specify volume driver name", "d", "local"),
            Flag("label", "list", "Set metadata for a volume"),
            Flag("opt", "list", "Set driver specific options", "o"),
        ),
        0,
        1,
        examples="windlass volume create --opt type=tmpfs --opt device=tmpfs --opt o=size=100m scratch",
    ),
    "ls": Command(
        "volume ls",
        "[OPTIONS]",
        "List volumes",
        run_ls,
        (
            Flag("filter", "list", "Provide filter values (e.g. dangling=true)", "f"),
            Flag("format", "string", "Format output: 'table', 'table TEMPLATE', 'json', or a Go template"),
            Flag("quiet", "bool", "Only display volume names", "q"),
        ),
        aliases="windlass volume ls, windlass volume list",
    ),
    "rm": Command(
        "volume rm",
        "[OPTIONS] VOLUME [VOLUME...]",
        "Remove one or more volumes",
        run_rm,
        (Flag("force", "bool", "Force the removal of one or more volumes", "f"),),
        1,
        None,
        aliases="windlass volume rm, windlass volume remove",
    ),
}
