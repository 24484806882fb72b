"""WebSocket (RFC 6455) on a hijacked request; wsproto does the frames.

Only `accept` imports wsproto, so that a daemon whose clients never ask for a WebSocket does not pay for it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from windlass.errors import InvalidParameter
from windlass.http.duplex import Duplex
from windlass.http.message import ClientGoneError, Request

if TYPE_CHECKING:
    from wsproto.connection import Connection as Frames

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class WebSocket:
    """The server's end of one WebSocket."""

    def __init__(self, duplex: Duplex, frames: Frames, subprotocol: str = "") -> None:
        self.subprotocol = subprotocol
        self._duplex = duplex
        self._frames = frames

    async def receive(self) -> bytes | None:
        """The next piece of data, text or binary, message borders ignored; `None` once the client has closed."""
        piece = await self._piece()
        return None if piece is None else piece[0]

    async def message(self, limit: int) -> bytes | None:
        """The next whole message, text or binary; `None` once the client has closed, or sent one beyond `limit`."""
        parts: list[bytes] = []
        size = 0
        while (piece := await self._piece()) is not None:
            data, is_last = piece
            size += len(data)
            if size > limit:
                await self.close(1009, "the message is too long")
                return None
            if is_last and not parts:
                return data
            parts.append(data)
            if is_last:
                return b"".join(parts)
        return None

    async def _piece(self) -> tuple[bytes, bool] | None:
        """Data, and whether it ends its message."""
        from wsproto import events
        from wsproto.connection import ConnectionState
        from wsproto.utilities import RemoteProtocolError

        while True:
            try:
                for event in self._frames.events():
                    if isinstance(event, events.TextMessage):
                        return event.data.encode(), event.message_finished
                    if isinstance(event, events.BytesMessage):
                        return bytes(event.data), event.message_finished
                    if isinstance(event, events.Ping):
                        await self._duplex.write(self._frames.send(event.response()))
                    elif isinstance(event, events.CloseConnection):
                        if self._frames.state is not ConnectionState.CLOSED:
                            await self._duplex.write(self._frames.send(event.response()))
                        return None
                data = await self._duplex.read()
                if not data:
                    return None
                self._frames.receive_data(data)
            except RemoteProtocolError as error:
                await self.close(getattr(error.event_hint, "code", 1002), str(error)[:100])
                return None
            except ClientGoneError:
                return None

    async def send(self, data: bytes, *, text: bool = False) -> None:
        """Send one message. Raises `ConnectionResetError` when the client is gone."""
        from wsproto import events
        from wsproto.utilities import LocalProtocolError

        event: events.Event
        event = events.TextMessage(data.decode("utf-8", "replace")) if text else events.BytesMessage(data)
        try:
            await self._duplex.write(self._frames.send(event))
        except LocalProtocolError as error:
            raise ClientGoneError("the WebSocket is closed") from error

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye; nothing may be sent afterwards."""
        from wsproto import events
        from wsproto.utilities import LocalProtocolError

        try:
            await self._duplex.write(self._frames.send(events.CloseConnection(code, reason)))
        except (LocalProtocolError, ClientGoneError):
            pass  # it was closed before


async def accept(request: Request, subprotocols: Sequence[str] = ()) -> WebSocket:
    """Upgrade `request`; the first of `subprotocols` that the client offers is chosen.

    Raises `InvalidParameter` when the request is not a WebSocket handshake of version 13.
    """
    headers = request.headers
    key = headers.get("sec-websocket-key", "")
    try:
        nonce = base64.b64decode(key, validate=True)
    except binascii.Error:
        nonce = b""
    if request.method != "GET" or request.upgrade.lower() != "websocket" or len(nonce) != 16:
        raise InvalidParameter("not a websocket handshake")
    if headers.get("sec-websocket-version") != "13":
        raise InvalidParameter("unsupported websocket version: must be 13")

    from wsproto.connection import Connection, ConnectionType

    digest = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()
    fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", digest)]
    offered = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
    chosen = next((name for name in subprotocols if name in offered), None)
    if chosen is not None:
        fields.append(("Sec-WebSocket-Protocol", chosen))
    duplex = await request.hijack(101, fields)
    return WebSocket(duplex, Connection(ConnectionType.SERVER), chosen or "")
