"""A registry that answers anything to anything: every pull ends with an image or a typed error, nothing half-done."""

from __future__ import annotations

import asyncio
import random

import orjson
import pytest
from memory_store import MemoryStore

from support.fake_registry import FakeRegistry, Incoming, Reply
from windlass.errors import WindlassError
from windlass.images.registry import registry_settings
from windlass.images.registry.client import RegistryClient
from windlass.images.transfer.pull import Puller
from windlass.oci import image
from windlass.oci.reference import parse_reference


async def no_pause(seconds: float) -> None:
    await asyncio.sleep(0)


class Chaos:
    """Spoils about one answer in four, in a way chosen by a seed."""

    def __init__(self, registry: FakeRegistry, seed: int) -> None:
        self._registry = registry
        self._random = random.Random(seed)

    def __call__(self, request: Incoming) -> Reply | None:
        if request.path == "/v2/" or self._random.random() > 0.25:
            return None
        honest = self._registry._store(request)
        choices = [self.status, self.cut, self.flip, self.grow, self.shrink, self.headers, self.document, self.redirect]
        return self._random.choice(choices)(honest)

    def status(self, reply: Reply) -> Reply:
        reply.status = self._random.choice([200, 201, 204, 206, 301, 400, 401, 403, 404, 416, 429, 500, 503, 599])
        return reply

    def cut(self, reply: Reply) -> Reply:
        reply.cut = self._random.randrange(len(reply.body) + 1)
        return reply

    def flip(self, reply: Reply) -> Reply:
        if reply.body:
            place = self._random.randrange(len(reply.body))
            reply.body = reply.body[:place] + bytes([self._random.randrange(256)]) + reply.body[place + 1 :]
        return reply

    def grow(self, reply: Reply) -> Reply:
        reply.body += self._random.randbytes(self._random.randrange(100_000))
        return reply

    def shrink(self, reply: Reply) -> Reply:
        reply.body = reply.body[: self._random.randrange(len(reply.body) + 1)]
        return reply

    def headers(self, reply: Reply) -> Reply:
        wild = [
            ("WWW-Authenticate", 'Bearer realm="http://127.0.0.1:1/",scope="x'),
            ("Content-Range", "bytes 5-4/1"),
            ("Docker-Content-Digest", "sha256:" + "e" * 64),
            ("Content-Type", image.MEDIA_OCI_INDEX),
            ("Retry-After", "-3"),
            ("Content-Encoding", "gzip"),
            ("Link", "<::>; rel=next"),
        ]
        reply.headers |= dict(self._random.sample(wild, 2))
        return reply

    def document(self, reply: Reply) -> Reply:
        values = [None, [], {}, -1, "x", {"schemaVersion": 2, "manifests": []}, {"schemaVersion": 2, "layers": [1]}]
        reply.body = orjson.dumps(self._random.choice(values))
        return reply

    def redirect(self, reply: Reply) -> Reply:
        places = ["/v2/", "http://127.0.0.1:1/", "//", "ftp://x/", "http://[", "/v2/x/blobs/y", "\\", ""]
        return Reply(307, {"Location": self._random.choice(places)})


@pytest.mark.parametrize("seed", range(60))
async def test_chaos(seed: int) -> None:
    async with FakeRegistry() as registry:
        registry.add_image("1", layers=[b"a" * 50_000, b"b" * 70_000, b"c"])
        registry.script(".", *[Chaos(registry, seed)] * 500)
        store, reference = MemoryStore(), parse_reference(f"{registry.host}/x:1")
        async with RegistryClient(registry_settings(), environment={}, sleep=no_pause) as client:
            puller = Puller(client, store)
            try:
                async with asyncio.timeout(30):
                    messages = [entry async for entry in puller.pull(reference)]
            except WindlassError:
                assert store.state() == ({}, {}, set(), {})
            else:
                assert messages[-1]["status"].startswith("Status: Downloaded newer image")
                assert len(store.layers) == 3
        assert store.holds == 0 and store.active == 0
