"""`exec`."""

from __future__ import annotations

import contextlib
import os
import sys

from windlass.cli.client import ApiError, segment
from windlass.cli.commands.create_body import environment
from windlass.cli.commands.run import resizer, start_code
from windlass.cli.flags import Command, Flag, Options
from windlass.cli.streams import Detached, Session, terminal_size


def run_exec(options: Options) -> int:
    """`windlass exec`: create, start on a hijacked connection, then ask for the exit code."""
    container, *command = options.args
    if options.tty and options.interactive and not options.detach and not os.isatty(0):
        print("the input device is not a TTY", file=sys.stderr)
        return 1
    size = terminal_size() if options.tty else None
    body = {
        "User": options.user,
        "Privileged": options.privileged,
        "Tty": options.tty,
        "AttachStdin": options.interactive and not options.detach,
        "AttachStdout": not options.detach,
        "AttachStderr": not options.detach,
        "Detach": options.detach,
        "DetachKeys": options.detach_keys,
        "Env": environment(options.env, options.env_file) or None,
        "WorkingDir": options.workdir,
        "Cmd": command,
    }
    if size:
        body["ConsoleSize"] = list(size)
    identity = options.client.json("POST", f"/containers/{segment(container)}/exec", body=body)["Id"]
    start = {"Detach": options.detach, "Tty": options.tty} | ({"ConsoleSize": list(size)} if size else {})
    if options.detach:
        options.client.request("POST", f"/exec/{identity}/start", body=start).read()
        return 0
    try:
        connection, _ = options.client.hijack(f"/exec/{identity}/start", body=start)
    except ApiError as error:
        print(f"Error response from daemon: {error}", file=sys.stderr)
        return 1 if start_code(str(error)) == 125 else start_code(str(error))
    with contextlib.closing(connection):
        session = Session(
            connection,
            tty=options.tty,
            stdin=options.interactive,
            detach_keys=options.detach_keys,
            resize=resizer(options, f"/exec/{identity}/resize"),
        )
        try:
            session.run()
        except Detached:
            print("\nread escape sequence", file=sys.stderr)
            return 0
    return int(options.client.json("GET", f"/exec/{identity}/json")["ExitCode"] or 0)


COMMANDS = {
    "exec": Command(
        "exec",
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        run_exec,
        (
            Flag("detach", "bool", "Detached mode: run command in the background", "d"),
            Flag("detach-keys", "string", "Override the key sequence for detaching a container"),
            Flag("env", "list", "Set environment variables", "e"),
            Flag("env-file", "list", "Read in a file of environment variables"),
            Flag("interactive", "bool", "Keep STDIN open even if not attached", "i"),
            Flag("privileged", "bool", "Give extended privileges to the command"),
            Flag("tty", "bool", "Allocate a pseudo-TTY", "t"),
            Flag("user", "string", "Username or UID (format: <name|uid>[:<group|gid>])", "u"),
            Flag("workdir", "string", "Working directory inside the container", "w"),
        ),
        2,
        None,
        interspersed=False,
        aliases="windlass container exec, windlass exec",
        examples="windlass exec -it web sh\nwindlass exec -e LEVEL=debug -w /srv web ls",
    )
}
