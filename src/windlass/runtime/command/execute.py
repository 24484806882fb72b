"""exec: another process in a running container."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from windlass.kernel import process
from windlass.runtime.command import terminal
from windlass.runtime.command.creation import write_pid_file
from windlass.runtime.command.log import Log
from windlass.runtime.command.store import CommandError, Store
from windlass.runtime.container import exec_process

_HIGHEST_ID = 2**32 - 2


def execute(store: Store, options: argparse.Namespace, log: Log) -> int:
    """`exec [options] ID COMMAND...` -> its exit code, unless detached."""
    container = store.load(options.container)
    status = container.status
    if status == "stopped":
        raise CommandError("cannot exec in a stopped container")
    if status == "paused" and not options.ignore_paused:
        raise CommandError("cannot exec in a paused container (use --ignore-paused to override)")
    config = container.config()
    document = process_document(options, config)
    wants_terminal = bool(document.get("terminal"))
    terminal.check_socket(wants_terminal, options.console_socket, detached=options.detach)
    cgroup = container.cgroup()
    if options.cgroup:
        raise CommandError("exec in a sub-cgroup is not supported")
    if not options.detach:
        process.set_child_subreaper()
    made = exec_process(
        container.record.pid,
        document,
        config,
        stdio=None if wants_terminal else (0, 1, 2),
        console_size=terminal.console_size(document),
        cgroup=cgroup,
        preserve=options.preserve_fds,
    )
    for warning in made.warnings:
        log.warning(warning)
    write_pid_file(options.pid_file, made.pid)
    master = -1 if made.master is None else made.master
    if master >= 0 and options.console_socket:
        terminal.send_master(options.console_socket, master)
        master = -1
    if options.detach:
        os.close(made.pidfd)
        return 0
    return terminal.follow(made.pid, made.pidfd, master)


def process_document(options: argparse.Namespace, config: dict[str, Any]) -> dict[str, Any]:
    """The OCI process document: that of `--process`, or the container's own changed by the options.

    Raises:
        CommandError: it cannot be read, or an option is malformed.
    """
    if options.process:
        try:
            with open(options.process, "rb") as file:
                document = json.load(file)
        except (OSError, ValueError) as error:
            raise CommandError(f"{options.process}: {error}") from None
        if not isinstance(document, dict):
            raise CommandError(f"{options.process}: a JSON object is expected")
        return document
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise CommandError("process args cannot be empty")
    document = {**(config.get("process") or {}), "args": command, "terminal": options.tty}
    document.pop("consoleSize", None)
    if options.cwd:
        document["cwd"] = options.cwd
    if options.env:
        document["env"] = _merge_environment(document.get("env") or [], options.env)
    if options.user or options.additional_gids:
        document["user"] = _user(options, document.get("user") or {})
    if options.cap:
        document["capabilities"] = _with_capabilities(document.get("capabilities") or {}, options.cap)
    if options.no_new_privs:
        document["noNewPrivileges"] = True
    if options.apparmor:
        document["apparmorProfile"] = options.apparmor
    if options.process_label:
        document["selinuxLabel"] = options.process_label
    return document


def _merge_environment(own: list[str], more: list[str]) -> list[str]:
    """Later entries replace earlier ones of the same name."""
    names = {entry.partition("=")[0] for entry in more}
    return [entry for entry in own if entry.partition("=")[0] not in names] + more


def _user(options: argparse.Namespace, own: dict[str, Any]) -> dict[str, Any]:
    user = {**own, "additionalGids": [*(own.get("additionalGids") or ()), *options.additional_gids]}
    if options.user:
        uid, colon, gid = options.user.partition(":")
        user["uid"] = _identity(uid)
        if colon:
            user["gid"] = _identity(gid)
    return user


def _identity(text: str) -> int:
    """Strictly a number that the kernel knows: nothing else may become 0 by being cut off or misread."""
    if not (text.isascii() and text.isdigit()) or int(text) > _HIGHEST_ID:
        raise CommandError(f"bad user or group id {text!r}")
    return int(text)


def _with_capabilities(own: dict[str, Any], more: list[str]) -> dict[str, Any]:
    names = [name if name.startswith("CAP_") else f"CAP_{name}" for name in (word.upper() for word in more)]
    return {
        kind: sorted({*(own.get(kind) or ()), *names}) if kind != "inheritable" else list(own.get(kind) or ())
        for kind in ("bounding", "effective", "permitted", "inheritable")
    } | {"ambient": list(own.get("ambient") or ())}
