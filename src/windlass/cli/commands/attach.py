"""`attach` and `start`."""

from __future__ import annotations

import sys
from typing import Any

from windlass.cli.client import ApiError, segment
from windlass.cli.commands.run import attach_session, exit_code, start_code, wait_for
from windlass.cli.flags import Command, Flag, Options
from windlass.cli.streams import Detached


def inspect(options: Options, container: str) -> dict[str, Any]:
    """What the engine knows of a container."""
    answer: dict[str, Any] = options.client.json("GET", f"/containers/{segment(container)}/json")
    return answer


def run_attach(options: Options) -> int:
    """`windlass attach`."""
    details = inspect(options, options.args[0])
    state = details["State"]
    if not state["Running"]:
        raise ValueError("You cannot attach to a stopped container, start it first")
    if state.get("Paused"):
        raise ValueError("You cannot attach to a paused container, unpause it first")
    if state.get("Restarting"):
        raise ValueError("You cannot attach to a restarting container, wait until it is running")
    tty, stdin = details["Config"]["Tty"], details["Config"]["OpenStdin"] and not options.no_stdin
    session, closing = attach_session(options, details["Id"], tty=tty, stdin=stdin, proxy=options.sig_proxy and not tty)
    with closing:
        waiting = wait_for(options, details["Id"], "not-running")
        try:
            session.run()
        except Detached:
            print("\nread escape sequence", file=sys.stderr)
            return 0
        return exit_code(waiting)


def run_start(options: Options) -> int:
    """`windlass start`."""
    if options.attach or options.interactive:
        if len(options.args) > 1:
            raise ValueError("you cannot start and attach multiple containers at once")
        return _start_attached(options, options.args[0])
    failed = False
    for name in options.args:
        try:
            options.client.request("POST", f"/containers/{segment(name)}/start").read()
            print(name)
        except ApiError as error:
            print(f"Error response from daemon: {error}", file=sys.stderr)
            failed = True
    if failed:
        print(f"Error: failed to start containers: {', '.join(options.args)}", file=sys.stderr)
    return int(failed)


def _start_attached(options: Options, name: str) -> int:
    details = inspect(options, name)
    tty = details["Config"]["Tty"]
    session, closing = attach_session(
        options,
        details["Id"],
        tty=tty,
        stdin=options.interactive and details["Config"]["OpenStdin"],
        proxy=options.sig_proxy and not tty,
    )
    with closing:
        condition = "removed" if details["HostConfig"].get("AutoRemove") else "next-exit"
        waiting = wait_for(options, details["Id"], condition)
        try:
            options.client.request("POST", f"/containers/{details['Id']}/start").read()
        except ApiError as error:
            print(f"Error response from daemon: {error}", file=sys.stderr)
            return 1 if start_code(str(error)) == 125 else start_code(str(error))
        try:
            session.run()
        except Detached:
            print("\nread escape sequence", file=sys.stderr)
            return 0
        return exit_code(waiting)


_STREAM_FLAGS = (
    Flag("detach-keys", "string", "Override the key sequence for detaching a container"),
    Flag("sig-proxy", "bool", "Proxy all received signals to the process", default=True),
)

COMMANDS = {
    "attach": Command(
        "attach",
        "[OPTIONS] CONTAINER",
        "Attach local standard input, output, and error streams to a running container",
        run_attach,
        (*_STREAM_FLAGS, Flag("no-stdin", "bool", "Do not attach STDIN")),
        1,
        1,
        aliases="windlass container attach, windlass attach",
        examples="windlass attach --detach-keys=ctrl-x web",
    ),
    "start": Command(
        "start",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Start one or more stopped containers",
        run_start,
        (
            *_STREAM_FLAGS,
            Flag("attach", "bool", "Attach STDOUT/STDERR and forward signals", "a"),
            Flag("interactive", "bool", "Attach container's STDIN", "i"),
        ),
        1,
        None,
        aliases="windlass container start, windlass start",
        examples="windlass start web db\nwindlass start -ai job",
    ),
}
