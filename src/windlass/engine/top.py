"""`docker top`: the host's ps(1), told which processes, so that every option of it works.

ps runs in a process of its own (spawned without a fork of the daemon); its output is cut to the container's processes,
because some options make it list others, too.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Collection
from typing import Any, Final

from windlass.engine import joins
from windlass.engine.container import Container
from windlass.engine.core import Core
from windlass.errors import InvalidParameter, SystemFailure

Document = dict[str, Any]

_DEFAULT: Final = "-ef"
_RENAMED = re.compile(r"\s+([^\s]*)=\s*(PID[^\s]*)")
_BLANKS = re.compile(r"[ \t\n\f\r]+")
_TIMEOUT: Final = 30


def check_arguments(text: str) -> None:
    """Raises `InvalidParameter` if another column is called PID: the processes could not be told apart."""
    for name, title in _RENAMED.findall(text):
        if name != "pid":
            raise InvalidParameter(f'specifying "{name}={title}" is not allowed')


def parse_output(text: str, pids: Collection[int]) -> Document:
    """Titles and the lines of these processes. Raises `SystemFailure` for what is no output of ps."""
    lines = text.split("\n")
    titles = [title for title in _BLANKS.split(lines[0]) if title]
    if "PID" not in titles:
        raise SystemFailure("Couldn't find PID field in ps output")
    place, columns = titles.index("PID"), len(titles)
    processes: list[list[str]] = []
    ours = False
    for line in lines[1:]:
        fields = [field for field in _BLANKS.split(line) if field]
        if len(fields) <= place:
            continue
        # A dash stands for a thread of the process in the line before.
        if fields[place] != "-":
            try:
                ours = int(fields[place]) in pids
            except ValueError:
                raise SystemFailure(f"Unexpected pid '{fields[place]}'") from None
        if ours:
            processes.append([*fields[: columns - 1], " ".join(fields[columns - 1 :])])
    return {"Titles": titles, "Processes": processes}


def _ps(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["ps", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemFailure(f"ps: {error}") from error


def _list(arguments: list[str], pids: list[int]) -> str:
    done = _ps([*arguments, f"-q{','.join(map(str, pids))}"])
    if done.returncode:
        # Some options cannot be used together with a list of processes.
        done = _ps(arguments)
    if done.returncode:
        raise SystemFailure(f"ps: {done.stderr.partition(chr(10))[0] or f'exit status {done.returncode}'}")
    return done.stdout


async def top(core: Core, container: Container, arguments: str) -> Document:
    """`GET /containers/{id}/top`. Raises `Conflict`, `InvalidParameter`, `SystemFailure`."""
    arguments = arguments or _DEFAULT
    check_arguments(arguments)
    if "\0" in arguments:
        raise InvalidParameter("invalid arguments for ps")
    if not container.state.running:
        raise joins.not_running(container)
    if container.state.restarting:
        raise joins.restarting(container)
    try:
        pids = await asyncio.to_thread(core.open_cgroup(container).pids)
    except OSError as error:
        raise SystemFailure(str(error)) from error
    output = await asyncio.to_thread(_list, arguments.split(" "), pids)
    result = parse_output(output, set(pids))
    core.container_event(container, "top")
    return result
