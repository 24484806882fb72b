"""`stats`: one row for each container, drawn again with each sample."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from windlass.cli.client import ApiError, ClientError, segment
from windlass.cli.flags import Command, Flag, Options
from windlass.cli.tables import format_table, print_rows
from windlass.cli.units import bytes_size, human_size

COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
TITLES = {
    "ID": "CONTAINER ID",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
}


def row(sample: dict[str, Any], *, truncate: bool) -> dict[str, Any]:
    """A sample of the API as the fields of `--format`."""
    cpu, before = sample["cpu_stats"], sample["precpu_stats"]
    used = cpu["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    elapsed = cpu.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    online = cpu.get("online_cpus") or len(cpu["cpu_usage"].get("percpu_usage") or ()) or 1
    percent = used / elapsed * online * 100 if used > 0 and elapsed > 0 else 0.0
    memory = sample.get("memory_stats") or {}
    details = memory.get("stats") or {}
    # The page cache that can be dropped at once is not counted, as docker's client does.
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    usage = memory.get("usage", 0)
    usage -= cache if cache < usage else 0
    limit = memory.get("limit", 0)
    networks = (sample.get("networks") or {}).values()
    received, sent = (sum(n[key] for n in networks) for key in ("rx_bytes", "tx_bytes"))
    read = written = 0
    for entry in (sample.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ():
        if entry["op"].lower() == "read":
            read += entry["value"]
        elif entry["op"].lower() == "write":
            written += entry["value"]
    return {
        "Container": sample["id"][:12] if truncate else sample["id"],
        "ID": sample["id"][:12] if truncate else sample["id"],
        "Name": sample["name"].lstrip("/"),
        "CPUPerc": f"{percent:.2f}%",
        "MemUsage": f"{bytes_size(usage)} / {bytes_size(limit)}",
        "MemPerc": f"{usage / limit * 100 if limit else 0:.2f}%",
        "NetIO": f"{human_size(received)} / {human_size(sent)}",
        "BlockIO": f"{human_size(read)} / {human_size(written)}",
        "PIDs": str((sample.get("pids_stats") or {}).get("current", 0)),
    }


def _names(options: Options) -> list[str]:
    if options.args:
        return list(options.args)
    query = {"all": options.all or None}
    return [container["Id"] for container in options.client.json("GET", "/containers/json", query=query)]


def run_stats(options: Options) -> int:
    """`windlass stats`."""
    names = _names(options)
    if options.no_stream:
        from concurrent.futures import ThreadPoolExecutor

        def sample(name: str) -> dict[str, Any]:
            found: dict[str, Any] = options.client.json(
                "GET", f"/containers/{segment(name)}/stats", query={"stream": 0}, new=True
            )
            return found

        with ThreadPoolExecutor(16) as pool:
            rows = [row(found, truncate=not options.no_trunc) for found in pool.map(sample, names)]
        print_rows(rows, columns=COLUMNS, titles=TITLES, template=options.format)
        return 0
    return _watch(options, names)


def _watch(options: Options, names: list[str]) -> int:
    """Draw all rows again once a second, from one thread for each container's stream."""
    import threading
    import time

    rows: dict[str, dict[str, Any]] = {}
    errors: list[Exception] = []

    def follow(name: str) -> None:
        try:
            path = f"/containers/{segment(name)}/stats"
            samples: Iterator[dict[str, Any]] = options.client.request(
                "GET", path, query={"stream": 1}, new=True
            ).objects()
            for sample in samples:
                rows[name] = row(sample, truncate=not options.no_trunc)
        except (ApiError, ClientError, OSError) as error:
            errors.append(error)
        rows.pop(name, None)

    threads = [threading.Thread(target=follow, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        shown = [rows[name] for name in names if name in rows]
        if options.format:
            print_rows(shown, columns=COLUMNS, titles=TITLES, template=options.format)
        else:
            titles = [TITLES.get(name, name.upper()) for name in COLUMNS]
            table = format_table(titles, [[entry[name] for name in COLUMNS] for entry in shown])
            if sys.stdout.isatty():
                sys.stdout.write("\x1b[H\x1b[2J")
            sys.stdout.write(table)
        sys.stdout.flush()
        time.sleep(1)
    if errors:
        raise errors[0]
    return 0


COMMANDS = {
    "stats": Command(
        "stats",
        "[OPTIONS] [CONTAINER...]",
        "Display a live stream of container(s) resource usage statistics",
        run_stats,
        (
            Flag("all", "bool", "Show all containers (default shows just running)", "a"),
            Flag("format", "string", "Format output: 'table', 'table TEMPLATE', 'json', or a Go template"),
            Flag("no-stream", "bool", "Disable streaming stats and only pull the first result"),
            Flag("no-trunc", "bool", "Do not truncate output"),
        ),
        0,
        None,
        aliases="windlass container stats, windlass stats",
        examples="windlass stats --no-stream --format '{{.Name}}: {{.MemUsage}}'",
    )
}
