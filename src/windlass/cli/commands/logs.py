"""`logs`."""

from __future__ import annotations

from windlass.cli.client import segment
from windlass.cli.flags import Command, Flag, Options
from windlass.cli.streams import Demultiplexer, write_all
from windlass.cli.units import parse_since


def run_logs(options: Options) -> int:
    """`windlass logs`."""
    details = options.client.json("GET", f"/containers/{segment(options.args[0])}/json")
    query = {
        "stdout": 1,
        "stderr": 1,
        "follow": options.follow or None,
        "timestamps": options.timestamps or None,
        "details": options.details or None,
        "tail": options.tail,
        "since": parse_since(options.since) if options.since else None,
        "until": parse_since(options.until) if options.until else None,
    }
    response = options.client.request("GET", f"/containers/{details['Id']}/logs", query=query, new=True)
    if details["Config"]["Tty"]:
        for chunk in response.chunks():
            write_all(1, chunk)
        return 0
    frames = Demultiplexer(lambda data: write_all(1, data), lambda data: write_all(2, data))
    for chunk in response.chunks():
        frames.feed(chunk)
    return 0


COMMANDS = {
    "logs": Command(
        "logs",
        "[OPTIONS] CONTAINER",
        "Fetch the logs of a container",
        run_logs,
        (
            Flag("details", "bool", "Show extra details provided to logs"),
            Flag("follow", "bool", "Follow log output", "f"),
            Flag("since", "string", 'Show logs since timestamp (e.g. "2026-01-02T13:23:37Z") or relative (e.g. "42m")'),
            Flag("tail", "string", "Number of lines to show from the end of the logs", "n", "all"),
            Flag("timestamps", "bool", "Show timestamps", "t"),
            Flag(
                "until", "string", 'Show logs before a timestamp (e.g. "2026-01-02T13:23:37Z") or relative (e.g. "42m")'
            ),
        ),
        1,
        1,
        aliases="windlass container logs, windlass logs",
        examples="windlass logs -f --tail 20 web\nwindlass logs --since 10m -t web",
    )
}
