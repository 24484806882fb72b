"""Search: the one call of the old index protocol that is still alive.

    GET https://index.docker.io/v1/search?q=<term>&n=<limit>     {"results": [{"name", "description", "star_count", …}]}

`registry.example/term` asks that registry. Filters are applied here: `is-official`, `is-automated` (Docker Hub no
longer tells, so `true` finds nothing) and `stars`, of which the largest counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from windlass.errors import InvalidParameter, SystemFailure
from windlass.images.registry.credentials import Credentials
from windlass.images.registry.failures import ConnectionFailure
from windlass.images.registry.settings import INDEX_HOST, Endpoint, RegistrySettings, endpoints
from windlass.images.registry.transport import Request, Transport
from windlass.oci.reference import DEFAULT_DOMAIN

_DEFAULT_LIMIT: Final = 25
_MAX_LIMIT: Final = 100
_MAX_ANSWER: Final = 4 << 20
_BOOLEANS: Final = {"1": True, "true": True, "0": False, "false": False}

Filters = Mapping[str, Sequence[str]]


async def search(
    transport: Transport,
    settings: RegistrySettings,
    term: str,
    *,
    limit: int,
    filters: Filters,
    credentials: Credentials,
) -> list[dict[str, Any]]:
    """Search results in the Engine API's shape. Raises `InvalidParameter`, `SystemFailure`."""
    limit = limit or _DEFAULT_LIMIT
    if not 1 <= limit <= _MAX_LIMIT:
        raise InvalidParameter(f"limit {limit} is outside the range of [1, {_MAX_LIMIT}]")
    if "://" in term:
        raise InvalidParameter(f"invalid repository name: repository name ({term}) should not have a scheme")
    official, stars = _boolean(filters, "is-official"), _stars(filters)
    if _boolean(filters, "is-automated"):
        return []
    domain, name = split_term(term)
    addresses = (
        [Endpoint(f"https://{INDEX_HOST}", INDEX_HOST)]
        if domain == DEFAULT_DOMAIN
        else await endpoints(settings, domain, mirrors=False)
    )
    found = await _ask(transport, addresses, name, limit, credentials)
    return [one for one in found if one["star_count"] >= stars and (official is None or one["is_official"] is official)]


def split_term(term: str) -> tuple[str, str]:
    """The registry to ask, and for what."""
    first, slash, rest = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost") and first != INDEX_HOST:
        return (first, rest) if first != DEFAULT_DOMAIN else (DEFAULT_DOMAIN, rest.removeprefix("library/"))
    return DEFAULT_DOMAIN, (rest if slash and first == INDEX_HOST else term).removeprefix("library/")


async def _ask(
    transport: Transport, addresses: Sequence[Endpoint], name: str, limit: int, credentials: Credentials
) -> list[dict[str, Any]]:
    last: ConnectionFailure | None = None
    for endpoint in addresses:
        query = Request.with_query("GET", f"{endpoint.url}/v1/search", {"q": name, "n": str(limit)})
        try:
            async with transport.send(endpoint, query, credentials.basic) as answer:
                if answer.status != 200:
                    raise SystemFailure(f"Unexpected status code {answer.status}")
                return _results(await answer.read(_MAX_ANSWER))
        except ConnectionFailure as error:
            last = error
    assert last is not None, "a registry name has at least one address"
    raise last


def _results(data: bytes) -> list[dict[str, Any]]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise SystemFailure(f"error decoding registry search results: {error}") from None
    results = document.get("results") if isinstance(document, dict) else None
    if results is None:
        return []
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise SystemFailure("error decoding registry search results: not a list of objects")
    return [
        {
            "star_count": stars if isinstance(stars := one.get("star_count"), int) else 0,
            "is_official": one.get("is_official") is True,
            "name": str(one.get("name") or ""),
            "is_automated": False,
            "description": str(one.get("description") or ""),
        }
        for one in results
    ]


def _boolean(filters: Filters, name: str) -> bool | None:
    values = {value.lower() for value in filters.get(name, ())}
    if not values:
        return None
    if len(values) != 1 or (value := values.pop()) not in _BOOLEANS:
        raise InvalidParameter(f"invalid filter '{name}={list(filters[name])}'")
    return _BOOLEANS[value]


def _stars(filters: Filters) -> int:
    most = 0
    for value in filters.get("stars", ()):
        if not value.isdecimal():
            raise InvalidParameter(f"invalid filter 'stars={value}'")
        most = max(most, int(value[:9]))
    return most
