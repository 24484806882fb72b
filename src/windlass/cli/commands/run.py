"""`run` and `create`.

The order is docker's: create (pulling where the image is not there), attach, wait, start. Attaching before the start
sees the first byte; waiting before it sees the shortest life.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

from windlass.cli.client import ApiError, ClientError, Response, segment
from windlass.cli.commands.create_flags import CREATE_FLAGS, RUN_FLAGS
from windlass.cli.flags import Command, Options, UsageError
from windlass.cli.streams import Detached, Session

EXAMPLES = """
windlass run --rm -it busybox sh
windlass run -d --name web -p 8080:80 -v data:/srv busybox httpd -f -h /srv
windlass run --rm -m 64m --cpus 0.5 --read-only --tmpfs /tmp --user 1000:1000 busybox id
"""


def start_code(message: str) -> int:
    """The exit code for a start that the engine refused, by docker's rules."""
    if any(
        words in message for words in ("executable file not found", "no such file or directory", "system cannot find")
    ):
        return 127
    if any(
        words in message for words in ("permission denied", "not a directory", "is a directory", "exec format error")
    ):
        return 126
    return 125


def create(options: Options) -> dict[str, Any]:
    """Create a container as the flags say, with the image pulled by policy; returns the engine's answer."""
    from windlass.cli.commands.create_body import create_body

    if options.pull not in {"always", "missing", "never"}:
        raise ValueError(f'invalid pull option: \'{options.pull}\': must be one of "always", "missing" or "never"')
    body = create_body(options)
    query = {"name": options.name or None, "platform": options.platform or None}
    if options.cidfile and os.path.exists(options.cidfile):
        raise ValueError(
            f"container ID file found, make sure the other container isn't running or delete {options.cidfile}"
        )
    if options.pull == "always":
        _pull(options)
    try:
        answer: dict[str, Any] = options.client.json("POST", "/containers/create", query=query, body=body)
    except ApiError as error:
        if error.status != 404 or "No such image" not in str(error) or options.pull != "missing":
            raise
        print(f"Unable to find image '{_with_tag(body['Image'])}' locally", file=sys.stderr)
        _pull(options)
        answer = options.client.json("POST", "/containers/create", query=query, body=body)
    for warning in answer.get("Warnings") or ():
        print(f"WARNING: {warning}", file=sys.stderr)
    if options.cidfile:
        with open(options.cidfile, "x") as file:
            file.write(answer["Id"])
    return answer


def _with_tag(name: str) -> str:
    return name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"


def _pull(options: Options) -> None:
    from windlass.cli.commands.images import pull_image

    pull_image(options, options.args[0], platform=options.platform, quiet=options.quiet, to_stderr=True)


def run_create(options: Options) -> int:
    """`windlass create`."""
    try:
        print(create(options)["Id"])
    except (ApiError, ClientError, ValueError) as error:
        _complain(options, error)
        return 125 if isinstance(error, ValueError) else 1
    return 0


def _complain(options: Options, error: Exception) -> None:
    prefix = "Error response from daemon: " if isinstance(error, ApiError) else ""
    hint = f"\n\nRun 'windlass {options.command.name} --help' for more information"
    print(f"windlass: {prefix}{error}{hint}", file=sys.stderr)


def run_run(options: Options) -> int:
    """`windlass run`."""
    if options.detach and options.attach:
        raise UsageError("conflicting options: cannot specify both --attach and --detach", options.command)
    if options.tty and options.interactive and not options.detach and not os.isatty(0):
        print("the input device is not a TTY", file=sys.stderr)
        return 1
    try:
        container = create(options)["Id"]
        return _detached(options, container) if options.detach else _attached(options, container)
    except (ApiError, ClientError, ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        _complain(options, error)
        return start_code(str(error)) if isinstance(error, ApiError) else 125


def _detached(options: Options, container: str) -> int:
    options.client.request("POST", f"/containers/{container}/start")
    print(container)
    return 0


def _attached(options: Options, container: str) -> int:
    streams = [name.lower() for name in options.attach]
    stdin = options.interactive and (not streams or "stdin" in streams)
    session, closing = attach_session(
        options,
        container,
        tty=options.tty,
        stdin=stdin,
        stdout=not streams or "stdout" in streams,
        stderr=not streams or "stderr" in streams,
        proxy=options.sig_proxy and not options.tty,
    )
    with closing:
        waiting = wait_for(options, container, "removed" if options.rm else "next-exit")
        options.client.request("POST", f"/containers/{container}/start").read()
        try:
            session.run()
        except Detached:
            print("\nread escape sequence", file=sys.stderr)
            return 0
        return exit_code(waiting)


def attach_session(
    options: Options,
    container: str,
    *,
    tty: bool,
    stdin: bool,
    stdout: bool = True,
    stderr: bool = True,
    proxy: bool = False,
) -> tuple[Session, contextlib.closing[Any]]:
    """A session on a container's streams, and what closes its connection."""
    query = {"stream": 1, "stdin": stdin, "stdout": stdout, "stderr": stderr, "detachKeys": options.detach_keys or None}
    connection, _ = options.client.hijack(f"/containers/{segment(container)}/attach", query=query)
    session = Session(
        connection,
        tty=tty,
        stdin=stdin,
        detach_keys=options.detach_keys,
        resize=resizer(options, f"/containers/{segment(container)}/resize"),
        kill=killer(options, container) if proxy else None,
        stdout=stdout,
        stderr=stderr,
    )
    return session, contextlib.closing(connection)


def resizer(options: Options, path: str) -> Callable[[int, int], None]:
    """What tells the engine a terminal's size; the process may have ended, which is no error."""

    def resize(height: int, width: int) -> None:
        with contextlib.suppress(ApiError, ClientError, OSError):
            options.client.request("POST", path, query={"h": height, "w": width}).read()

    return resize


def killer(options: Options, container: str) -> Callable[[int], None]:
    """What forwards a signal."""

    def kill(number: int) -> None:
        with contextlib.suppress(ApiError, ClientError, OSError):
            options.client.request("POST", f"/containers/{segment(container)}/kill", query={"signal": number}).read()

    return kill


def wait_for(options: Options, container: str, condition: str) -> Response:
    """Ask to be told of the exit; the engine listens from the moment its headers are here."""
    path = f"/containers/{segment(container)}/wait"
    return options.client.request("POST", path, query={"condition": condition}, new=True)


def exit_code(waiting: Response) -> int:
    """The exit code, once it is known."""
    answer = waiting.json()
    if error := (answer.get("Error") or {}).get("Message"):
        print(f"windlass: Error waiting for container: {error}", file=sys.stderr)
        return 125
    return int(answer["StatusCode"])


COMMANDS = {
    "run": Command(
        "run",
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        run_run,
        RUN_FLAGS,
        1,
        None,
        interspersed=False,
        aliases="windlass container run, windlass run",
        examples=EXAMPLES,
    ),
    "create": Command(
        "create",
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create a new container",
        run_create,
        CREATE_FLAGS,
        1,
        None,
        interspersed=False,
        aliases="windlass container create, windlass create",
        examples="windlass create --name job busybox sh -c 'echo done'\nwindlass start -a job",
    ),
}
