"""The gRPC health check: one unary call over HTTP/2 in clear text.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md and PROTOCOL-HTTP2.md beside it
"""

from __future__ import annotations

import asyncio
import struct

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from windlass.kube.node.handlers import Answer
from windlass.kube.protobuf import wire

_PATH = "/grpc.health.v1.Health/Check"
_SERVING = 1
_STATES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


async def check(address: str, port: int, service: str) -> Answer:
    """Ask a server for its health, or that of one of its services."""
    try:
        reader, writer = await asyncio.open_connection(address, port)
    except OSError as error:
        return Answer(False, f'timeout: failed to connect service "{address}:{port}": {error}')
    try:
        return await _call(reader, writer, f"{address}:{port}", service)
    except (OSError, EOFError, h2.exceptions.ProtocolError, ValueError) as error:
        return Answer(False, f"error: health rpc failed: {error}")
    finally:
        writer.close()


async def _call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str, service: str) -> Answer:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    message = wire.put_bytes(1, service.encode()) if service else b""
    connection.send_headers(
        1,
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", _PATH),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "kube-probe/1.37"),
        ],
    )
    connection.send_data(1, struct.pack(">BI", 0, len(message)) + message, end_stream=True)
    writer.write(connection.data_to_send())
    body = bytearray()
    headers: dict[str, str] = {}
    while True:
        data = await reader.read(65536)
        if not data:
            raise EOFError("the connection was closed")
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                headers |= {str(name): str(value) for name, value in event.headers or ()}
            elif isinstance(event, h2.events.DataReceived):
                body += event.data
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                return _answer(headers, bytes(body), service)
            elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                raise EOFError("the call was ended by the server")
        writer.write(connection.data_to_send())


def _answer(headers: dict[str, str], body: bytes, service: str) -> Answer:
    code = headers.get("grpc-status", "2")
    if code == "12":
        return Answer(False, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)")
    if code != "0":
        return Answer(False, f"error: health rpc failed with code {code}: {headers.get('grpc-message', '')}")
    # A HealthCheckResponse has one field: status, an enum. Zero is left out.
    state = body[6] if len(body) >= 7 and body[5] == 0x08 else 0
    if state == _SERVING:
        return Answer(True, "")
    shown = _STATES.get(state, str(state))
    return Answer(False, f'service unhealthy (responded with "{shown}")')
