"""Transfers: the light object in front; what it imports, what a reload does, what ends with it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from memory_store import MemoryStore

from support.fake_registry import FakeRegistry, Reply
from windlass.errors import InvalidParameter, SystemFailure
from windlass.images.registry import registry_settings
from windlass.images.registry.search import split_term
from windlass.images.transfer import Transfers
from windlass.oci.reference import parse_reference


class RegistryAuth(NamedTuple):
    """Credentials as the API hands them on."""

    username: str = ""
    password: str = ""
    server_address: str = ""
    identity_token: str = ""
    registry_token: str = ""


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as fake:
        yield fake


@pytest.fixture
async def transfers() -> AsyncIterator[Transfers]:
    found = Transfers(registry_settings(), MemoryStore())
    yield found
    await found.close()


def test_a_daemon_that_never_pulls_does_not_import_the_http_client() -> None:
    code = "import sys, windlass.images.transfer, windlass.images.registry; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_pull_push_and_ask(registry: FakeRegistry, transfers: Transfers) -> None:
    registry.require_basic("user", "secret")
    digest = registry.add_image("1", layers=[b"a"])
    reference = parse_reference(f"{registry.host}/x:1")
    auth = RegistryAuth("user", "secret", registry.host)
    assert [one["status"] async for one in transfers.pull(reference, auth=auth)][-2] == f"Digest: {digest}"
    assert [one async for one in transfers.push(reference, auth=auth)][-1]["aux"]["Digest"] == digest
    as_document = {"username": "user", "password": "secret", "serveraddress": registry.host}
    assert await transfers.login(as_document) == {"Status": "Login Succeeded", "IdentityToken": ""}
    assert (await transfers.inspect(reference, auth=auth))["Descriptor"]["digest"] == digest
    assert "1" in await transfers.tags(reference, auth=auth)
    with pytest.raises(SystemFailure, match="no basic auth credentials"):
        await transfers.tags(reference)


async def test_new_settings_are_for_new_requests(registry: FakeRegistry) -> None:
    registry.add_image("1", layers=[b"a" * 100_000])
    store = MemoryStore()
    store.gate = asyncio.Event()
    transfers = Transfers(registry_settings(), store)
    reference = parse_reference(f"{registry.host}/x:1")
    stream = transfers.pull(reference)
    await anext(stream)
    transfers.reload(registry_settings(mirrors=[registry.url]))
    assert transfers.settings.mirrors == (f"{registry.url}/",)
    assert await transfers.tags(parse_reference("x"))  # by the mirror
    store.gate.set()
    assert [one["status"] async for one in stream][-1].startswith("Status: Downloaded")
    await transfers.close()


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("debian", ("docker.io", "debian")),
        ("team/x", ("docker.io", "team/x")),
        ("library/debian", ("docker.io", "debian")),
        ("docker.io/library/debian", ("docker.io", "debian")),
        ("index.docker.io/debian", ("docker.io", "debian")),
        ("r.example/team/x", ("r.example", "team/x")),
        ("localhost/x", ("localhost", "x")),
    ],
)
def test_where_a_search_goes(term: str, expected: tuple[str, str]) -> None:
    assert split_term(term) == expected


async def test_search_filters_what_comes(registry: FakeRegistry, transfers: Transfers) -> None:
    body = (
        b'{"results": [{"name": "a", "description": null, "star_count": 9, "is_official": true, "is_automated": true},'
        b'{"name": "b", "description": "B", "star_count": 3, "is_official": false}]}'
    )
    registry.script("GET /v1/search", *[Reply(body=body)] * 5)
    term = f"{registry.host}/some thing"
    everything = await transfers.search(term)
    assert registry.log[-1].query == [("q", "some thing"), ("n", "25")]
    assert everything[0] == {
        "name": "a",
        "description": "",
        "star_count": 9,
        "is_official": True,
        "is_automated": False,
    }
    assert [one["name"] for one in everything] == ["a", "b"]
    stars = await transfers.search(term, filters={"stars": ["2", "5"]})
    assert [one["name"] for one in stars] == ["a"]
    assert [one["name"] for one in await transfers.search(term, filters={"is-official": ["false"]})] == ["b"]
    assert await transfers.search(term, filters={"is-automated": ["true"]}) == []


@pytest.mark.parametrize(
    ("limit", "filters", "message"),
    [
        (101, {}, r"limit 101 is outside the range of \[1, 100\]"),
        (-1, {}, "limit -1 is outside"),
        (1, {"stars": ["many"]}, "invalid filter 'stars=many'"),
        (1, {"is-official": ["maybe"]}, "invalid filter 'is-official="),
    ],
)
async def test_bad_searches(transfers: Transfers, limit: int, filters: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        await transfers.search("x", limit=limit, filters=filters)
    with pytest.raises(InvalidParameter, match="should not have a scheme"):
        await transfers.search("https://x")


@pytest.mark.parametrize("reply", [Reply(500), Reply(body=b"x"), Reply(body=b'{"results": 1}')])
async def test_searches_that_fail(registry: FakeRegistry, transfers: Transfers, reply: Reply) -> None:
    registry.script("GET /v1/search", reply)
    with pytest.raises(SystemFailure):
        await transfers.search(f"{registry.host}/x")
