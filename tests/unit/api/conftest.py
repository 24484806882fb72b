"""The API over an engine that a test drives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.fakeapi import Client, FakeEngine
from windlass.api.docker.app import DockerAPI, common_headers
from windlass.http import Server
from windlass.http.listeners import bind_unix


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Client]:
    engine = FakeEngine()
    server = Server(DockerAPI(engine), headers=common_headers(experimental=False))  # type: ignore[arg-type]
    listener = bind_unix(str(tmp_path / "api.sock"))
    await server.listen(listener.sock)
    client = Client(listener.path, engine)
    yield client
    for writer in client.writers:
        writer.close()
    await server.close(grace=0)
