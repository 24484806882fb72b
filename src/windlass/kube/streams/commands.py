"""A command's streams at the kubelet: whatever a client speaks, a command sees the same.

    client ── stdin, sizes ──▶ CommandStreams ◀── stdout, stderr, the command's end ── command

Clients choose by their request: WebSocket (v5, v4 and older, base64 for browsers) or SPDY/3.1 (v4 and older). The end
is a Status: Success, or Failure with the reason NonZeroExitCode and the code as a cause.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

import orjson

from windlass.http import Request
from windlass.kube.api import status
from windlass.kube.streams.options import Wanted

Object = dict[str, Any]
STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
SUCCESS: Final[Object] = {"metadata": {}, "status": "Success"}


class CommandStreams(Protocol):
    """A client that runs a command. `serve` reads for all of it and must run meanwhile."""

    async def serve(self) -> None:
        """Read until the client is gone."""

    async def read(self) -> bytes:
        """The next input, none at its end."""
        ...

    async def read_size(self) -> tuple[int, int] | None:
        """The terminal's next size, width and height; None when no more comes."""

    async def write(self, stream: int, data: bytes) -> None:
        """Output, of STDOUT or STDERR. Raises ConnectionError."""

    async def end(self, result: Object) -> None:
        """The command has ended: tell how, and close. A client that is gone is no error."""


def non_zero(code: int) -> Object:
    """The Status of a command that failed by itself."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


@contextlib.asynccontextmanager
async def accept(request: Request, wanted: Wanted) -> AsyncIterator[CommandStreams]:
    """Take the client's connection over.

    Raises:
        StatusError: it asks for no upgrade, or for none that is spoken here.
    """
    from windlass.kube.streams import channels, spdystreams

    upgrade = request.upgrade.lower()
    if upgrade == "websocket":
        yield await channels.accept(request, wanted)
    elif upgrade == "spdy/3.1":
        async with spdystreams.accept(request, wanted) as streams:
            yield streams
    else:
        raise status.bad_request("Upgrade request required")


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height as a client sends them; None for what is none."""
    try:
        found = orjson.loads(data)
        width, height = int(found["Width"]), int(found["Height"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
    return (width, height) if 0 < width < 65536 and 0 < height < 65536 else None
