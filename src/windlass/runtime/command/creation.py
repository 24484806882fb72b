"""create and run: making a container, and being there while it runs (runtime-spec, runtime.md, "Lifecycle").

create   reserve the id, make the cgroup, make the process up to its gate: the read end of start.fifo
run      create, start, and (unless detached) wait, delete, and end as the process did
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from windlass.kernel import process
from windlass.kernel.cgroups import container_resources, detect, open_cgroup
from windlass.runtime.command import terminal
from windlass.runtime.command.lifecycle import destroy, open_gate, run_quietly
from windlass.runtime.command.log import Log
from windlass.runtime.command.parser import SPEC_VERSION
from windlass.runtime.command.store import FIFO, CommandError, Container, Record, Store, now, owner_name
from windlass.runtime.container import Process, create_process


def create(store: Store, options: argparse.Namespace, log: Log) -> int:
    """`create ID`."""
    config, bundle = load_bundle(options.bundle)
    terminal.check_socket(_wants_terminal(config), options.console_socket, detached=True)
    container, made = _create(store, options, config, bundle, log)
    os.close(made.pidfd)
    if made.master is not None:
        terminal.send_master(options.console_socket, made.master)
    write_pid_file(options.pid_file, container.record.pid)
    return 0


def run(store: Store, options: argparse.Namespace, log: Log) -> int:
    """`run ID` -> the exit code of the process, unless detached."""
    config, bundle = load_bundle(options.bundle)
    wants_terminal = _wants_terminal(config)
    terminal.check_socket(wants_terminal, options.console_socket, detached=options.detach)
    if not options.detach and not options.no_subreaper:
        process.set_child_subreaper()
    container, made = _create(store, options, config, bundle, log)
    write_pid_file(options.pid_file, made.pid)
    if made.master is not None and options.console_socket:
        terminal.send_master(options.console_socket, made.master)
    open_gate(container)
    run_quietly(container, "poststart", "running", log)
    if options.detach:
        os.close(made.pidfd)
        return 0
    master = -1 if made.master is None or options.console_socket else made.master
    code = terminal.follow(made.pid, made.pidfd, master)
    if not options.keep:
        destroy(store, container, log)
    return code


def load_bundle(path: str) -> tuple[dict[str, Any], Path]:
    """config.json of a bundle, with an absolute root, and the bundle's path.

    Raises:
        CommandError: there is none, or it is no configuration.
    """
    bundle = Path(os.path.abspath(path or "."))
    try:
        config = json.loads((bundle / "config.json").read_bytes())
    except FileNotFoundError:
        raise CommandError("JSON specification file config.json not found") from None
    except (OSError, ValueError) as error:
        raise CommandError(f"{bundle}/config.json: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("root"), dict) or not config["root"].get("path"):
        raise CommandError(f"{bundle}/config.json: root.path is missing")
    config["root"]["path"] = os.path.normpath(bundle / str(config["root"]["path"]))
    return config, bundle


def _create(
    store: Store, options: argparse.Namespace, config: dict[str, Any], bundle: Path, log: Log
) -> tuple[Container, Process]:
    identifier = options.container
    linux = config.get("linux") or {}
    directory = store.reserve(identifier)
    undo: list[Callable[[], None]] = [lambda: store.remove(identifier)]
    try:
        hierarchy = detect()
        cgroup = open_cgroup(str(linux.get("cgroupsPath") or f"/{identifier}"), hierarchy)
        cgroup.create()
        undo += [cgroup.remove, cgroup.kill]
        cgroup.apply(container_resources(linux.get("resources") or {}))
        gate = _make_gate(directory)
        record = Record(
            id=identifier,
            pid=0,
            start_time=0,
            bundle=str(bundle),
            rootfs=config["root"]["path"],
            created=now(),
            oci_version=str(config.get("ociVersion") or SPEC_VERSION),
            annotations=config.get("annotations") or {},
            cgroup=cgroup.path if cgroup.path.startswith("/") else "/" + cgroup.path,
            owner=owner_name(os.geteuid()),
        )
        state = Container(directory, record).state("creating")
        made = create_process(
            config,
            rootfs=None,
            stdio=None if _wants_terminal(config) else (0, 1, 2),
            console_size=terminal.console_size(config.get("process") or {}),
            cgroup=cgroup,
            hierarchy=hierarchy,
            gate=gate,
            state=state,
            preserve=options.preserve_fds + int(os.environ.get("LISTEN_FDS") or 0),
            pivot=not options.no_pivot,
            new_keyring=not options.no_new_keyring,
        )
        os.close(gate)
        for warning in made.warnings:
            log.warning(warning)
        record = record._replace(pid=made.pid, start_time=process.read_stat(made.pid).start_time)
        return store.save(directory, record, config), made
    except BaseException:
        for step in reversed(undo):
            try:
                step()
            except OSError as error:
                log.warning(f"while undoing the creation: {error}")
        raise


def _wants_terminal(config: dict[str, Any]) -> bool:
    return bool((config.get("process") or {}).get("terminal"))


def _make_gate(directory: Path) -> int:
    """The FIFO's descriptor, on which the init waits. Open in both directions, it has no end before somebody writes."""
    path = directory / FIFO
    os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def write_pid_file(path: str, pid: int) -> None:
    """Write a pid where `--pid-file` says, as a whole."""
    if not path:
        return
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(str(pid))
    os.rename(temporary, path)
