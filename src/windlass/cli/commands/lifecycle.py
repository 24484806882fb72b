"""Commands that ask one thing of each named container: stop, restart, kill, rm, pause, wait, rename, port, top."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from windlass.cli.client import ApiError, ClientError, segment
from windlass.cli.flags import Command, Flag, Options
from windlass.cli.tables import print_table


def for_each(options: Options, names: list[str], action: Callable[[str], str | None]) -> int:
    """Do it for every name, going on after errors; prints what the action returns. Exit code 1 if one failed."""
    failed = 0
    for name in names:
        try:
            if (text := action(name)) is not None:
                print(text, flush=True)
        except (ApiError, ClientError) as error:
            prefix = "Error response from daemon: " if isinstance(error, ApiError) else ""
            print(f"{prefix}{error}", file=sys.stderr)
            failed = 1
    return failed


def _post(options: Options, verb: str, **query: Any) -> int:
    def action(name: str) -> str:
        options.client.request("POST", f"/containers/{segment(name)}/{verb}", query=query).read()
        return name

    return for_each(options, options.args, action)


def _stopping(verb: str) -> Callable[[Options], int]:
    def run(options: Options) -> int:
        timeout = options.timeout if options.given("timeout") else options.time if options.given("time") else None
        return _post(options, verb, t=timeout, signal=options.signal or None)

    return run


def run_kill(options: Options) -> int:
    """`windlass kill`."""
    return _post(options, "kill", signal=options.signal)


def run_rm(options: Options) -> int:
    """`windlass rm`: several at once, because a removal waits for the kernel."""
    query = {"force": options.force, "v": options.volumes, "link": options.link}

    def remove(name: str) -> str:
        path = f"/containers/{segment(name.lstrip('/'))}"
        if len(options.args) == 1:
            options.client.request("DELETE", path, query=query).read()
        else:
            options.client.request("DELETE", path, query=query, new=True).read()
        return name

    if len(options.args) < 3:
        return for_each(options, options.args, remove)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        pending = {name: pool.submit(remove, name) for name in options.args}
        return for_each(options, options.args, lambda name: pending[name].result())


def run_pause(options: Options) -> int:
    """`windlass pause`."""
    return _post(options, "pause")


def run_unpause(options: Options) -> int:
    """`windlass unpause`."""
    return _post(options, "unpause")


def run_wait(options: Options) -> int:
    """`windlass wait`."""

    def action(name: str) -> str:
        return str(options.client.json("POST", f"/containers/{segment(name)}/wait")["StatusCode"])

    return for_each(options, options.args, action)


def run_rename(options: Options) -> int:
    """`windlass rename`."""
    old, new = options.args
    options.client.request("POST", f"/containers/{segment(old)}/rename", query={"name": new}).read()
    return 0


def run_port(options: Options) -> int:
    """`windlass port`."""
    name, *wanted = options.args
    ports = options.client.json("GET", f"/containers/{segment(name)}/json")["NetworkSettings"]["Ports"] or {}
    if wanted:
        port = wanted[0] if "/" in wanted[0] else f"{wanted[0]}/tcp"
        if not ports.get(port):
            raise ValueError(f"no public port '{port}' published for {name}")
        ports = {port: ports[port]}
    for port, bindings in sorted(ports.items(), key=lambda item: int(item[0].partition("/")[0])):
        for binding in bindings or ():
            host = binding["HostIp"]
            address = f"[{host}]:{binding['HostPort']}" if ":" in host else f"{host}:{binding['HostPort']}"
            print(address if wanted else f"{port} -> {address}")
    return 0


def run_top(options: Options) -> int:
    """`windlass top`."""
    name, *arguments = options.args
    query = {"ps_args": " ".join(arguments) or None}
    answer = options.client.json("GET", f"/containers/{segment(name)}/top", query=query)
    print_table(answer["Titles"], answer["Processes"] or [])
    return 0


_STOP_FLAGS = (
    Flag("signal", "string", "Signal to send to the container", "s"),
    Flag("timeout", "int", "Seconds to wait before killing the container", "t"),
    Flag("time", "int", "Seconds to wait before killing the container (older name of --timeout)"),
)
_MANY = "CONTAINER [CONTAINER...]"


def _command(
    name: str,
    usage: str,
    summary: str,
    run: Callable[[Options], int],
    flags: tuple[Flag, ...] = (),
    minimum: int = 1,
    maximum: int | None = None,
    examples: str = "",
    interspersed: bool = True,
) -> Command:
    aliases = f"windlass container {name}, windlass {name}"
    return Command(name, usage, summary, run, flags, minimum, maximum, interspersed, aliases, examples)


COMMANDS = {
    "stop": _command(
        "stop",
        f"[OPTIONS] {_MANY}",
        "Stop one or more running containers",
        _stopping("stop"),
        _STOP_FLAGS,
        examples="windlass stop -t 3 web db",
    ),
    "restart": _command(
        "restart", f"[OPTIONS] {_MANY}", "Restart one or more containers", _stopping("restart"), _STOP_FLAGS
    ),
    "kill": _command(
        "kill",
        f"[OPTIONS] {_MANY}",
        "Kill one or more running containers",
        run_kill,
        (Flag("signal", "string", "Signal to send to the container", "s", "KILL"),),
        examples="windlass kill -s HUP web",
    ),
    "rm": _command(
        "rm",
        f"[OPTIONS] {_MANY}",
        "Remove one or more containers",
        run_rm,
        (
            Flag("force", "bool", "Force the removal of a running container (uses SIGKILL)", "f"),
            Flag("link", "bool", "Remove the specified link", "l"),
            Flag("volumes", "bool", "Remove anonymous volumes associated with the container", "v"),
        ),
        examples="windlass rm -f $(windlass ps -aq)",
    ),
    "pause": _command("pause", _MANY, "Pause all processes within one or more containers", run_pause),
    "unpause": _command("unpause", _MANY, "Unpause all processes within one or more containers", run_unpause),
    "wait": _command("wait", _MANY, "Block until one or more containers stop, then print their exit codes", run_wait),
    "rename": _command("rename", "CONTAINER NEW_NAME", "Rename a container", run_rename, (), 2, 2),
    "port": _command(
        "port",
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings or a specific mapping for the container",
        run_port,
        (),
        1,
        2,
    ),
    "top": _command(
        "top",
        "CONTAINER [ps OPTIONS]",
        "Display the running processes of a container",
        run_top,
        interspersed=False,
        examples="windlass top web -o pid,comm,rss",
    ),
}
