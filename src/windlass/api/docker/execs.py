"""Tag Exec: further processes in a running container."""

from __future__ import annotations

import logging
from typing import Any, Final

from windlass.api.docker import hijack
from windlass.api.docker.backend import AttachStream
from windlass.api.docker.call import Answer, Call, json_answer
from windlass.api.docker.problems import message_of, status_of
from windlass.api.docker.router import get, post
from windlass.errors import InvalidParameter
from windlass.http import Response

_log = logging.getLogger("windlass.api")


async def create(call: Call) -> Answer:
    """ContainerExec."""
    body = await call.body("container.ExecOptions")
    if not body.get("Cmd"):
        raise InvalidParameter("No exec command specified")
    if call.older(1, 42):
        body.pop("ConsoleSize", None)
    return json_answer(await call.engine.container_exec(call.name, body=body), 201)


async def start(call: Call) -> Answer:
    """ExecStart. A process that cannot be started says so on the stream, as dockerd's does."""
    options = await call.body("container.ExecStartOptions")
    detach, tty = options.get("Detach") is True, options.get("Tty") is True
    size = _console_size(options.get("ConsoleSize")) if tty and not call.older(1, 42) else None
    await call.engine.exec_inspect(call.name)  # an exec that does not exist is an ordinary 404
    try:
        stream = await call.engine.exec_start(call.name, detach=detach, tty=tty, console_size=size)
    except Exception as error:
        if detach or status_of(error) in (404, 409):
            raise
        _log.error("Error running exec %s in container: %s", call.name, message_of(error))
        duplex = await hijack.open_raw(call, terminal=tty)
        text = f"{message_of(error)}\r\n".encode()
        await duplex.write(text if tty else hijack.frame(hijack.STDOUT, text))
        return None
    if stream is None:
        return Response(200)
    try:
        duplex = await hijack.open_raw(call, terminal=tty)
    except BaseException:
        await stream.close()
        raise
    await hijack.serve_raw(duplex, _Framed(stream) if stream.terminal and not tty else stream)
    return None


class _Framed:
    """A terminal's stream for a client that said at the start that it has none: dockerd frames it all the same."""

    terminal = False

    def __init__(self, stream: AttachStream) -> None:
        self._stream = stream
        self.write = stream.write
        self.write_eof = stream.write_eof
        self.close = stream.close

    async def read(self) -> bytes:
        """The next piece, in a frame."""
        data = await self._stream.read()
        return hijack.frame(hijack.STDOUT, data) if data else b""


def _console_size(value: Any) -> tuple[int, int] | None:
    """Height and width. Raises `InvalidParameter`."""
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(number) is int and 0 <= number < 1 << 32 for number in value):
        raise InvalidParameter(
            "invalid JSON: json: cannot unmarshal into Go struct field ExecStartOptions.ConsoleSize of type [2]uint"
        )
    height, width = [*value, 0, 0][:2]
    return (height, width) if height and width else None


async def resize(call: Call) -> Answer:
    """ExecResize."""
    height, width = call.uint32("h", "resize height"), call.uint32("w", "resize width")
    await call.engine.exec_resize(call.name, height=height, width=width)
    return Response(200)


async def inspect(call: Call) -> Answer:
    """ExecInspect."""
    return json_answer(await call.engine.exec_inspect(call.name))


ROUTES: Final = (
    post("/containers/{name}/exec", create),
    post("/exec/{name}/start", start, cancellable=False),
    post("/exec/{name}/resize", resize),
    get("/exec/{name}/json", inspect),
)
