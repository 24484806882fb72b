"""`version`, `info`, `events`."""

from __future__ import annotations

import json
import platform
import sys
from typing import Any

from windlass import __version__
from windlass.cli.client import ClientError
from windlass.cli.commands.ps import parse_filters
from windlass.cli.flags import Command, Flag, Options
from windlass.cli.templates import Template, to_json
from windlass.cli.units import bytes_size, parse_since


def _print(options: Options, document: Any) -> bool:
    """By --format; False where there is none."""
    if not options.format:
        return False
    print(to_json(document) if options.format == "json" else Template(options.format).render(document))
    return True


def run_version(options: Options) -> int:
    """`windlass version`."""
    client = {
        "Version": __version__,
        "ApiVersion": "1.51",
        "Os": "linux",
        "Arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "PythonVersion": platform.python_version(),
    }
    problem = None
    try:
        server = options.client.json("GET", "/version")
    except ClientError as error:
        server, problem = None, error
    if not _print(options, {"Client": client, "Server": server}):
        print(
            f"Client: Windlass\n Version:           {client['Version']}\n API version:       {client['ApiVersion']}\n"
            f" Python version:    {client['PythonVersion']}\n OS/Arch:           {client['Os']}/{client['Arch']}"
        )
        if server:
            print("\nServer:")
            for component in server.get("Components") or ():
                details = component.get("Details") or {}
                print(f" {component['Name']}:\n  {'Version:':<17}{component['Version']}")
                for name, value in details.items():
                    print(f"  {name + ':':<17}{value}")
    if problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def run_info(options: Options) -> int:
    """`windlass info`."""
    info = options.client.json("GET", "/info")
    if _print(options, info):
        return 0
    print(f"Client:\n Version:    {__version__}\n\nServer:")
    for line in _info_lines(info):
        print(f" {line}")
    for warning in info.get("Warnings") or ():
        print(warning, file=sys.stderr)
    return 0


def _info_lines(info: dict[str, Any]) -> list[str]:
    states = {"Running": "ContainersRunning", "Paused": "ContainersPaused", "Stopped": "ContainersStopped"}
    lines = [f"Containers: {info['Containers']}", *(f" {name}: {info[key]}" for name, key in states.items())]
    lines += [f"Images: {info['Images']}", f"Server Version: {info['ServerVersion']}"]
    lines.append(f"Storage Driver: {info['Driver']}")
    lines += [f" {name}: {value}" for name, value in info.get("DriverStatus") or ()]
    lines += [f"Logging Driver: {info['LoggingDriver']}", f"Cgroup Driver: {info['CgroupDriver']}"]
    lines.append(f"Cgroup Version: {info.get('CgroupVersion', '')}")
    plugins = info.get("Plugins") or {}
    lines.append("Plugins:")
    lines += [f" {kind}: {' '.join(plugins[kind] or ())}" for kind in ("Volume", "Network", "Log") if kind in plugins]
    lines.append(f"Swarm: {(info.get('Swarm') or {}).get('LocalNodeState', 'inactive')}")
    lines.append(f"Runtimes: {' '.join(sorted(info.get('Runtimes') or ()))}")
    lines.append(f"Default Runtime: {info['DefaultRuntime']}")
    if options := info.get("SecurityOptions"):
        lines.append("Security Options:")
        for option in options:
            name, *rest = option.split(",")
            lines.append(f" {name.removeprefix('name=')}")
            lines += [f"  {part.replace('=', ': ', 1).capitalize()}" for part in rest]
    lines += [
        f"Kernel Version: {info['KernelVersion']}",
        f"Operating System: {info['OperatingSystem']}",
        f"OSType: {info['OSType']}",
        f"Architecture: {info['Architecture']}",
        f"CPUs: {info['NCPU']}",
        f"Total Memory: {bytes_size(info['MemTotal'])}",
        f"Name: {info['Name']}",
        f"ID: {info['ID']}",
        f"Root Dir: {info['DockerRootDir']}",
        f"Debug Mode: {str(info['Debug']).lower()}",
    ]
    if labels := info.get("Labels"):
        lines += ["Labels:", *(f" {label}" for label in labels)]
    lines.append(f"Experimental: {str(info.get('ExperimentalBuild', False)).lower()}")
    registries = info.get("RegistryConfig") or {}
    lines.append("Insecure Registries:")
    named = [n for n, c in (registries.get("IndexConfigs") or {}).items() if not c.get("Secure", True)]
    lines += [f" {name}" for name in sorted([*named, *(registries.get("InsecureRegistryCIDRs") or ())])]
    if mirrors := registries.get("Mirrors"):
        lines += ["Registry Mirrors:", *(f" {mirror}" for mirror in mirrors)]
    lines.append(f"Live Restore Enabled: {str(info.get('LiveRestoreEnabled', False)).lower()}")
    return lines


def run_events(options: Options) -> int:
    """`windlass events`."""
    query = {
        "since": parse_since(options.since) if options.since else None,
        "until": parse_since(options.until) if options.until else None,
        "filters": parse_filters(options.filter),
    }
    response = options.client.request("GET", "/events", query=query, new=True)
    template = Template(options.format) if options.format not in {"", "json"} else None
    for event in response.objects():
        if template:
            print(template.render(event), flush=True)
        elif options.format == "json":
            print(json.dumps(event, separators=(",", ":")), flush=True)
        else:
            print(_event_line(event), flush=True)
    return 0


def _event_line(event: dict[str, Any]) -> str:
    import time

    seconds, nanoseconds = divmod(event["timeNano"], 10**9)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", local) + f".{nanoseconds:09d}{zone[:3]}:{zone[3:]}"
    attributes = ", ".join(f"{key}={value}" for key, value in sorted((event["Actor"].get("Attributes") or {}).items()))
    return f"{stamp} {event['Type']} {event['Action']} {event['Actor']['ID']}" + (
        f" ({attributes})" if attributes else ""
    )


_FORMAT = Flag("format", "string", "Format output: 'json', or a Go template", "f")
COMMANDS = {
    "version": Command("version", "[OPTIONS]", "Show the version of client and engine", run_version, (_FORMAT,)),
    "info": Command(
        "info",
        "[OPTIONS]",
        "Display system-wide information",
        run_info,
        (_FORMAT,),
        aliases="windlass system info, windlass info",
    ),
    "events": Command(
        "events",
        "[OPTIONS]",
        "Get real time events from the engine",
        run_events,
        (
            Flag("filter", "list", "Filter output based on conditions provided", "f"),
            Flag("format", "string", "Format output: 'json', or a Go template"),
            Flag("since", "string", "Show all events created since timestamp"),
            Flag("until", "string", "Stream events until this timestamp"),
        ),
        aliases="windlass system events, windlass events",
        examples="windlass events --since 10m --filter type=container --filter event=die",
    ),
}
