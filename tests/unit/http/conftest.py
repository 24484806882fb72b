"""A bare server on a unix socket, and raw connections to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from support.rawhttp import Client, Serve
from windlass.http import Handler, Server


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """`connect = await serve(handler, limits=…)`, then `reader, writer = await connect()`."""
    servers: list[Server] = []
    writers: list[asyncio.StreamWriter] = []

    async def start(handler: Handler, *, tcp: bool = False, **options: Any) -> Callable[[], Awaitable[Client]]:
        server = Server(handler, **options)
        servers.append(server)
        path = str(tmp_path / f"s{len(servers)}")
        if tcp:
            sock = socket.create_server(("127.0.0.1", 0))
        else:
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(path)
        address = sock.getsockname()
        await server.listen(sock)

        async def connect() -> Client:
            pair = await (asyncio.open_connection(*address) if tcp else asyncio.open_unix_connection(path))
            writers.append(pair[1])
            return pair

        connect.server = server  # type: ignore[attr-defined]
        return connect

    yield start
    for writer in writers:
        writer.close()
    for server in servers:
        await server.close(grace=0.0)
    await asyncio.sleep(0)
