"""/exec, /attach and /run: commands in containers, and the containers' own streams.

Source: https://kubernetes.io/docs/tasks/debug/debug-application/get-shell-running-container/
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from windlass.engine.attach import ClientStream, complete_frames
from windlass.errors import WindlassError
from windlass.http import Response
from windlass.kube.api import status
from windlass.kube.node.runtime import Found
from windlass.kube.node.server.ask import Ask, refused
from windlass.kube.node.server.pods import PodFinder
from windlass.kube.streams.commands import STDERR, STDOUT, SUCCESS, CommandStreams, accept, non_zero
from windlass.kube.streams.options import Wanted, wanted_of_server

Object = dict[str, Any]
Resize = Callable[[int, int], Awaitable[None]]

_MOST_OUTPUT: Final = 16 << 20  # bytes that /run gives


class Commands:
    """See the module."""

    def __init__(self, finder: PodFinder) -> None:
        self._finder = finder
        self._engine = finder.runtime.engine

    def _container(self, ask: Ask, below: str) -> Found:
        """/…/{namespace}/{pod}[/{uid}]/{container}. Raises StatusError."""
        parts = ask.parts(below)
        if len(parts) not in (3, 4):
            raise refused(404, "404 page not found")
        pod = self._finder.pod(parts[0], parts[1])
        if len(parts) == 4 and parts[2] != pod["metadata"]["uid"]:
            raise refused(404, "pod does not exist")
        return self._finder.running(pod, parts[-1])

    async def exec(self, ask: Ask) -> None:
        """Run a command with the client's streams. Raises StatusError."""
        wanted, command = wanted_of_server(ask.options), ask.options.texts("command")
        container = self._container(ask, "/exec/")
        if not command:
            raise refused(400, "you must specify at least one command")
        execs = self._engine.parts.execs
        body: Object = {
            "Cmd": command,
            "Tty": wanted.tty,
            "AttachStdin": wanted.stdin,
            "AttachStdout": wanted.stdout,
            "AttachStderr": wanted.stderr,
        }
        async with _accepted(ask, wanted) as streams:
            try:
                found, stream = await execs.run(self._engine.container_get(container.id), body)
            except WindlassError as error:
                about = f'error executing command in container: failed to start exec in "{container.id[:12]}"'
                await streams.end(status.internal_error(f"{about}: {error}").to_json())
                return

            async def resize(width: int, height: int) -> None:
                await execs.resize(found.id, height=height, width=width)

            await _connect(streams, stream, resize, ends_input=True)
            code = found.exit_code or 0
            await streams.end(non_zero(code) if code else SUCCESS)

    async def attach(self, ask: Ask) -> None:
        """Give the client a container's own streams. Raises StatusError."""
        wanted = wanted_of_server(ask.options)
        container = self._container(ask, "/attach/")
        async with _accepted(ask, wanted) as streams:
            try:
                stream = await self._engine.container_attach(
                    container.id,
                    stdin=wanted.stdin,
                    stdout=wanted.stdout,
                    stderr=wanted.stderr,
                    logs=False,
                    stream=True,
                    detach_keys=None,
                )
            except WindlassError as error:
                await streams.end(status.internal_error(f"error attaching to container: {error}").to_json())
                return

            async def resize(width: int, height: int) -> None:
                await self._engine.container_resize(container.id, height=height, width=width)

            # Who has no more input may still read, unless the container's ends with it.
            once = bool(self._engine.container_get(container.id).config["StdinOnce"])
            await _connect(streams, stream, resize, ends_input=once)
            await streams.end(SUCCESS)

    async def run(self, ask: Ask) -> Response:
        """POST /run/…?cmd=…: a command's output as the answer. Raises StatusError."""
        container = self._container(ask, "/run/")
        try:
            code, output = await self._finder.runtime.exec(
                container.id, ask.options.text("cmd").split(" "), _MOST_OUTPUT
            )
        except WindlassError as error:
            raise refused(500, str(error)) from None
        if code:
            text = output.decode(errors="replace")
            raise refused(500, f"command '{ask.options.text('cmd')}' exited with {code}: {text}")
        return Response(200, [("Content-Type", "application/json")], output)


def _accepted(ask: Ask, wanted: Wanted) -> contextlib.AbstractAsyncContextManager[CommandStreams]:
    return accept(ask.connection(), wanted)


async def _connect(streams: CommandStreams, stream: ClientStream, resize: Resize, *, ends_input: bool) -> None:
    """Copy both ways until the output ends or the client is gone."""

    async def give() -> None:
        while data := await streams.read():
            await stream.write(data)
        if ends_input:
            stream.write_eof()

    async def sizes() -> None:
        while (size := await streams.read_size()) is not None:
            # A command that has just ended has no terminal any more.
            with contextlib.suppress(WindlassError):
                await resize(*size)

    async def take() -> None:
        with contextlib.suppress(ConnectionError):
            while data := await stream.read():
                await _pass_on(streams, stream, data)

    loop = asyncio.get_running_loop()
    output = loop.create_task(take(), name="output")
    serving = loop.create_task(streams.serve(), name="client")
    others = [loop.create_task(give(), name="input"), loop.create_task(sizes(), name="sizes")]
    try:
        await asyncio.wait([output, serving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (output, serving, *others):
            task.cancel()
        results = await asyncio.gather(output, serving, *others, return_exceptions=True)
        await stream.close()
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, ConnectionError):
            raise result


async def _pass_on(streams: CommandStreams, stream: ClientStream, data: bytes) -> None:
    if stream.terminal:
        await streams.write(STDOUT, data)
        return
    for number, start, end in complete_frames(data):
        await streams.write(STDERR if number == 2 else STDOUT, data[start + 8 : end])
