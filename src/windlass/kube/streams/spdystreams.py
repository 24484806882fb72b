"""A command's streams as streams of a SPDY connection: the header streamType of each says which it is.

    the client opens error, stdin, stdout, stderr, resize: those that its request asks for; then the command starts

What the error stream says depends on X-Stream-Protocol-Version: a Status from v4 on, text before; sizes from v3 on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import orjson

from windlass.http import Request
from windlass.http.spdy import Session, Stream
from windlass.kube.api import status
from windlass.kube.streams.commands import STDOUT, size_of
from windlass.kube.streams.options import Wanted

Object = dict[str, Any]

_HEADER: Final = "X-Stream-Protocol-Version"
PROTOCOLS: Final = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
_PATIENCE: Final = 30.0
_LONGEST_SIZE: Final = 4096


async def accept_session(
    request: Request, protocols: Sequence[str], streams: asyncio.Queue[Stream]
) -> tuple[Session, str]:
    """Take a connection over; its streams come into the queue. The protocol is "" where the client names none.

    Raises:
        StatusError: 403, it offers none of ours.
    """
    offered = [name.strip() for name in request.headers.get(_HEADER.lower(), "").split(",") if name.strip()]
    chosen = next((name for name in protocols if name in offered), "")
    if offered and not chosen:
        text = f"unable to upgrade: unable to negotiate protocol: client supports {offered}, server accepts"
        raise status.StatusError(403, "Forbidden", f"{text} {list(protocols)}")
    fields = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")]
    if chosen:
        fields.append((_HEADER, chosen))
    return Session(await request.hijack(101, fields), streams.put_nowait), chosen


@contextlib.asynccontextmanager
async def accept(request: Request, wanted: Wanted) -> AsyncIterator[SPDYStreams]:
    """Take a connection over for a command, and wait for its streams. Raises StatusError, ConnectionError."""
    arrived: asyncio.Queue[Stream] = asyncio.Queue()
    session, protocol = await accept_session(request, PROTOCOLS, arrived)
    serving = asyncio.create_task(session.run(), name="spdy")
    try:
        names = {"error"}
        names |= {name for name in ("stdin", "stdout", "stderr") if getattr(wanted, name)}
        if wanted.tty and protocol.startswith(("v3", "v4")):
            names.add("resize")
        found = await _gather(arrived, names, serving)
        yield SPDYStreams(session, serving, protocol, found)
        await session.leave()
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _gather(arrived: asyncio.Queue[Stream], names: set[str], serving: asyncio.Task[None]) -> dict[str, Stream]:
    found: dict[str, Stream] = {}
    try:
        async with asyncio.timeout(_PATIENCE):
            while names - found.keys():
                coming = asyncio.ensure_future(arrived.get())
                await asyncio.wait([coming, serving], return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    raise ConnectionResetError("the client is gone")
                stream = coming.result()
                found[stream.headers.get("streamtype", "")] = stream
    except TimeoutError:
        raise ConnectionResetError("Timed out waiting for client to create streams") from None
    return found


class SPDYStreams:
    """See `CommandStreams`."""

    def __init__(
        self, session: Session, serving: asyncio.Task[None], protocol: str, streams: dict[str, Stream]
    ) -> None:
        self._session = session
        self._serving = serving
        self._protocol = protocol
        self._streams = streams
        self._rest = b""

    async def serve(self) -> None:
        """See `CommandStreams`."""
        await asyncio.wait([self._serving])

    async def read(self) -> bytes:
        """See `CommandStreams`."""
        stdin = self._streams.get("stdin")
        return await stdin.read() if stdin is not None else b""

    async def read_size(self) -> tuple[int, int] | None:
        """See `CommandStreams`."""
        stream = self._streams.get("resize")
        if stream is None:
            return None
        # One JSON document after the other; borders are not those of frames.
        while True:
            line, end, rest = self._rest.partition(b"}")
            if end:
                self._rest = rest
                if (size := size_of(line.strip() + end)) is not None:
                    return size
                continue
            data = await stream.read()
            if not data or len(self._rest) > _LONGEST_SIZE:
                return None
            self._rest += data

    async def write(self, stream: int, data: bytes) -> None:
        """See `CommandStreams`."""
        found = self._streams.get("stdout" if stream == STDOUT else "stderr")
        if found is not None:
            await found.write(data)

    async def end(self, result: Object) -> None:
        """See `CommandStreams`."""
        for name in ("stdout", "stderr"):
            if name in self._streams:
                await self._streams[name].close()
        error = self._streams["error"]
        with contextlib.suppress(ConnectionError):
            if self._protocol.startswith("v4"):
                await error.write(orjson.dumps(result))
            elif result.get("status") != "Success":
                await error.write(str(result.get("message", "")).encode())
        await error.close()
        for name in ("stdin", "resize"):
            if name in self._streams:
                await self._streams[name].close()
