"""The client of registries: every operation of a daemon, over all addresses that may serve a name.

    async with RegistryClient(settings) as client:
        async def use(repository: Repository) -> ResolvedImage:
            return await repository.manifests.resolve(reference, platform)
        image = await client.pulling(reference, credentials, use)

`pulling` tries mirrors, then the registry, TLS before plain HTTP, and goes on to the next address by dockerd's rules:
after a mirror's failure of any kind, after an address where nobody answers, never after a registry's own clear no, and
never down to plain HTTP on a host that has spoken TLS.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import orjson

from windlass.errors import Forbidden, InvalidParameter, SystemFailure, Unauthorized, WindlassError
from windlass.images.registry import manifests as manifest_rules
from windlass.images.registry.blobs import Blobs
from windlass.images.registry.credentials import ANONYMOUS, Credentials
from windlass.images.registry.failures import (
    ApiError,
    AuthorizationFailure,
    ConnectionFailure,
    RegistryFailure,
    UnexpectedAnswer,
    for_pull,
    for_push,
)
from windlass.images.registry.manifests import Manifests
from windlass.images.registry.search import Filters, search
from windlass.images.registry.session import RegistrySession, Sleep
from windlass.images.registry.settings import INDEX_HOST, Endpoint, RegistrySettings, endpoints
from windlass.images.registry.tokens import Clock, Tokens, repository_scope
from windlass.images.registry.transport import Transport
from windlass.images.registry.uploads import Uploads
from windlass.oci import image
from windlass.oci.reference import DEFAULT_DOMAIN, Reference

CATALOGUE_SCOPE: Final = "registry:catalog:*"
_RESERVED: Final = "scratch"

T = TypeVar("T")


@dataclass(frozen=True)
class Repository:
    """One repository at one address."""

    reference: Reference
    endpoint: Endpoint
    manifests: Manifests
    blobs: Blobs
    uploads: Uploads


class RegistryClient:
    """One per daemon: keeps connections, TLS contexts and tokens."""

    def __init__(
        self,
        settings: RegistrySettings,
        *,
        environment: Mapping[str, str] | None = None,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.settings = settings
        self._transport = Transport(settings, environment=environment)
        self._tokens = Tokens(self._transport, clock=clock)
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def pulling(
        self, reference: Reference, credentials: Credentials, use: Callable[[Repository], Awaitable[T]]
    ) -> T:
        """Run `use` against the first address that serves. Raises typed errors with dockerd's texts."""
        _check_name(reference)
        addresses = await endpoints(self.settings, reference.domain)

        async def attempt(endpoint: Endpoint) -> T:
            return await use(await self._repository(endpoint, reference, credentials, "pull"))

        try:
            return await _first(addresses, attempt)
        except WindlassError as error:
            raise for_pull(error, reference) from error

    async def pushing(
        self, reference: Reference, credentials: Credentials, use: Callable[[Repository], Awaitable[T]]
    ) -> T:
        """Run `use` against the registry itself (never a mirror), with the right to push. Raises typed errors."""
        _check_name(reference)
        addresses = await endpoints(self.settings, reference.domain, mirrors=False)

        async def attempt(endpoint: Endpoint) -> T:
            return await use(await self._repository(endpoint, reference, credentials, "pull", "push"))

        try:
            return await _first(addresses, attempt)
        except WindlassError as error:
            raise for_push(error) from error

    async def tags(self, reference: Reference, credentials: Credentials = ANONYMOUS) -> list[str]:
        """The tags of a repository. Raises typed errors."""
        return await self.pulling(reference, credentials, lambda repository: repository.manifests.tags())

    async def catalogue(self, domain: str, credentials: Credentials = ANONYMOUS) -> list[str]:
        """The repositories of a registry. Raises typed errors."""

        async def attempt(endpoint: Endpoint) -> list[str]:
            session = self._session(endpoint, credentials, [CATALOGUE_SCOPE])
            await _pinged(session)
            return await manifest_rules.catalogue(session)

        return await _first(await endpoints(self.settings, domain, mirrors=False), attempt)

    async def inspect(self, reference: Reference, credentials: Credentials = ANONYMOUS) -> dict[str, Any]:
        """What `/distribution/{name}/json` answers: the descriptor and the platforms, without a pull."""
        reference = reference.with_default_tag()

        async def use(repository: Repository) -> dict[str, Any]:
            found = await repository.manifests.get(str(reference.digest or reference.tag))
            return {"Descriptor": found.descriptor, "Platforms": await _platforms(repository, found)}

        return await self.pulling(reference, credentials, use)

    async def search(
        self, term: str, *, limit: int = 0, filters: Filters, credentials: Credentials = ANONYMOUS
    ) -> list[dict[str, Any]]:
        """What `/images/search` answers. Raises `InvalidParameter`, `SystemFailure`."""
        return await search(self._transport, self.settings, term, limit=limit, filters=filters, credentials=credentials)

    async def login(self, credentials: Credentials) -> tuple[str, str]:
        """Try credentials against their registry. Returns the status text and the identity token ("" for none).

        Raises `Unauthorized` where the registry or its token server refuses them, `SystemFailure` where it cannot be
        asked.
        """
        host = _host_of(credentials.server_address)
        last: WindlassError | None = None
        for endpoint in await endpoints(self.settings, host, mirrors=False):
            session = self._session(endpoint, credentials, [], offline=True)
            try:
                await session.ping()
                status = await session.check()
            except AuthorizationFailure as error:
                if isinstance(error.cause, ApiError) and error.cause.code == "UNAUTHORIZED":
                    raise Unauthorized(str(error)) from error
                last = error
            except RegistryFailure as error:
                last = error
            else:
                if status == 200:
                    return "Login Succeeded", session.identity_token
                last = SystemFailure(
                    f"login attempt to {endpoint.url}/v2/ failed with status: {status} {_phrase(status)}".rstrip()
                )
                if status == 401:
                    raise Unauthorized(str(last))
        raise last or SystemFailure(f"no endpoints found for {host}")

    async def _repository(
        self, endpoint: Endpoint, reference: Reference, credentials: Credentials, *actions: str
    ) -> Repository:
        # A mirror is somebody else: it never sees the credentials of the registry that it mirrors.
        allowed = ANONYMOUS if endpoint.mirror else credentials
        session = self._session(endpoint, allowed, [repository_scope(reference.path, *actions)])
        await _pinged(session)
        path = reference.path
        return Repository(reference, endpoint, Manifests(session, path), Blobs(session, path), Uploads(session, path))

    def _session(
        self, endpoint: Endpoint, credentials: Credentials, scopes: Sequence[str], *, offline: bool = False
    ) -> RegistrySession:
        return RegistrySession(
            self._transport,
            self._tokens,
            endpoint,
            credentials,
            scopes,
            attempts=self.settings.max_attempts,
            sleep=self._sleep,
            offline=offline,
        )


class _UnreachableError(WindlassError):
    """Nobody spoke the protocol at this address; carries the reason past the rules for failures of a registry."""

    def __init__(self, cause: RegistryFailure) -> None:
        super().__init__(str(cause))
        self.cause = cause


async def _pinged(session: RegistrySession) -> None:
    try:
        await session.ping()
    except ConnectionFailure as error:
        raise _UnreachableError(error) from error


async def _first(addresses: Sequence[Endpoint], attempt: Callable[[Endpoint], Awaitable[T]]) -> T:
    """The result of the first address that works; the last failure where none does."""
    last: WindlassError | None = None
    spoke_tls: set[str] = set()
    for endpoint in addresses:
        if endpoint.plain and endpoint.host in spoke_tls:
            continue
        try:
            return await attempt(endpoint)
        except _UnreachableError as unreachable:
            last = unreachable.cause
        except WindlassError as error:
            if not endpoint.plain:
                spoke_tls.add(endpoint.host)
            if not _goes_on(error, endpoint):
                raise
            last = error
    assert last is not None, "a registry name has at least one address"
    raise last


def _goes_on(error: WindlassError, endpoint: Endpoint) -> bool:
    """Whether another address may do better: always after a mirror, else after answers that no registry gives."""
    if endpoint.mirror:
        return True
    return isinstance(error, UnexpectedAnswer | ConnectionFailure)


async def _platforms(repository: Repository, found: manifest_rules.FetchedManifest) -> list[dict[str, Any]]:
    if found.kind == "index":
        entries = image.parse_index(found.data)["manifests"]
        return [{**entry["platform"]} for entry in entries if entry.get("platform")]
    config = image.parse_manifest(found.data)["config"]
    if config["mediaType"] not in image.CONFIG_TYPES:
        return []
    try:
        document = orjson.loads(await repository.blobs.read(config))
    except (WindlassError, orjson.JSONDecodeError):
        return []  # the platform is a courtesy here: the descriptor is the answer
    keys = ("architecture", "os", "os.version", "os.features", "variant")
    platform = {key: document[key] for key in keys if isinstance(document, dict) and document.get(key)}
    return [platform] if platform else []


def _check_name(reference: Reference) -> None:
    if reference.familiar_name() == _RESERVED:
        raise Forbidden(f"'{_RESERVED}' is a reserved name")


def _host_of(server_address: str) -> str:
    if not server_address:
        return DEFAULT_DOMAIN
    address = server_address if "://" in server_address else f"https://{server_address}"
    try:
        host = urlsplit(address).netloc.rpartition("@")[2]
    except ValueError:
        host = ""
    if not host:
        raise InvalidParameter(f"unable to parse server address: {server_address[:200]}")
    return DEFAULT_DOMAIN if host == INDEX_HOST else host


def _phrase(status: int) -> str:
    return {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}.get(status, "")
