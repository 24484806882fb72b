"""Manifests and tags of one repository.

    HEAD /v2/<name>/manifests/<tag>        a digest, without the bytes (asks for the least)
    GET  /v2/<name>/manifests/<digest>     the bytes, which must have that digest
    index ──▶ the manifest for our platform, or the index inside it that has one

A manifest is bounded in size, must be of a known shape, and the digest is always computed, never believed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from windlass.errors import InvalidParameter, NotFound
from windlass.images.registry.failures import (
    ApiError,
    UnexpectedAnswer,
    UnsupportedContent,
    VerificationFailure,
)
from windlass.images.registry.session import RegistrySession
from windlass.images.registry.transport import join_url
from windlass.oci import image
from windlass.oci.digest import Digest, is_digest, matches, parse_digest, sha256_digest
from windlass.oci.image import Descriptor
from windlass.oci.platform import Platform, platform_from_json, rank
from windlass.oci.reference import Reference

ACCEPTED: Final = ", ".join(
    (
        image.MEDIA_OCI_INDEX,
        image.MEDIA_DOCKER_LIST,
        image.MEDIA_OCI_MANIFEST,
        image.MEDIA_DOCKER_MANIFEST,
        # Old ones are asked for only to be refused with a reason.
        image.MEDIA_DOCKER_SCHEMA1_SIGNED,
    )
)
_MAX_DEPTH: Final = 4
_MAX_PAGES: Final = 1000
_MAX_PAGE: Final = 8 << 20
_NEXT: Final = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')

Local = Callable[[Digest], bytes | None]
"""Looks a manifest up in the content store."""


@dataclass(frozen=True)
class FetchedManifest:
    """A manifest or index whose digest has been verified."""

    descriptor: Descriptor
    data: bytes
    kind: str
    """`manifest` or `index`."""


@dataclass(frozen=True)
class ResolvedImage:
    """What a reference means for a platform: the document it names, and the image manifest in or under it."""

    target: FetchedManifest
    manifest: FetchedManifest
    path: tuple[FetchedManifest, ...]
    """From the target to the manifest, both included."""


class Manifests:
    """The manifests of one repository. `path` is the repository without its domain."""

    def __init__(self, session: RegistrySession, path: str) -> None:
        self._session = session
        self._path = path

    async def head(self, tag: str) -> Descriptor | None:
        """The descriptor of a tag or digest by HEAD; None where the answer does not tell (then ask `get`)."""
        async with self._session.exchange("HEAD", self._url(tag), headers={"Accept": ACCEPTED}) as answer:
            digest = answer.headers.get("Docker-Content-Digest", "")
            if not answer.ok or not is_digest(digest):
                return None
            media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
            return Descriptor(mediaType=media_type, digest=parse_digest(digest), size=answer.length or 0)

    async def get(self, tag: str, *, expected: Descriptor | None = None) -> FetchedManifest:
        """The manifest of a tag or digest, verified.

        Raises `ApiError` (MANIFEST_UNKNOWN, …), `VerificationFailure`, `UnsupportedContent` for schema 1,
        `InvalidParameter` for a malformed document.
        """
        async with self._session.exchange("GET", self._url(tag), headers={"Accept": ACCEPTED}) as answer:
            if not answer.ok:
                raise await answer.failure()
            data = await answer.read(image.MAX_DOCUMENT)
            media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
            stated = answer.headers.get("Docker-Content-Digest", "")
        digest = sha256_digest(data)
        # A tag's digest is only what the registry says; a digest that we asked for is a promise.
        promised = parse_digest(tag) if is_digest(tag) else parse_digest(stated) if is_digest(stated) else digest
        if not matches(promised, data):
            raise VerificationFailure(f"manifest verification failed for digest {promised}")
        if expected is not None and expected["size"] and expected["size"] != len(data):
            raise VerificationFailure(
                f"manifest verification failed for digest {promised}: {len(data)} bytes, not {expected['size']}"
            )
        return fetched_manifest(data, media_type, promised)

    async def put(self, tag: str, media_type: str, data: bytes) -> Digest:
        """Store a manifest under a tag or its digest. Raises `ApiError`, `VerificationFailure`."""
        digest = sha256_digest(data)
        headers = {"Content-Type": media_type}
        async with self._session.exchange("PUT", self._url(tag), headers=headers, body=data) as answer:
            if not answer.ok:
                raise await answer.failure()
            stated = answer.headers.get("Docker-Content-Digest", "")
        if stated.startswith("sha256:") and stated != digest:
            raise VerificationFailure(f"the registry stored manifest {digest} as {stated}")
        return digest

    async def tags(self) -> list[str]:
        """All tags, page by page. Raises `ApiError`."""
        return await _paged(self._session, f"{self._path}/tags/list", "tags")

    async def resolve(
        self, reference: Reference, platform: Platform, *, shown: Platform | None = None, local: Local | None = None
    ) -> ResolvedImage:
        """Find the image manifest that a reference means on a platform.

        `local` saves downloads of what is here already; `shown` is the platform that an error names.
        Raises `NotFound` where an index has nothing for the platform, and what `get` raises.
        """
        tag = str(reference.digest or reference.tag)
        descriptor = await self.head(tag) if reference.digest is None else None
        digest = reference.digest or (descriptor["digest"] if descriptor else None)
        target = _look_up(local, digest, descriptor["mediaType"] if descriptor else "") if digest else None
        if target is None:
            target = await self.get(str(digest) if digest else tag)
        path = await self._descend(target, platform, local, _MAX_DEPTH)
        if path is None:
            raise NotFound(f"no matching manifest for {shown or platform} in the manifest list entries")
        return ResolvedImage(target, path[-1], tuple(path))

    async def _descend(
        self, found: FetchedManifest, platform: Platform, local: Local | None, depth: int
    ) -> list[FetchedManifest] | None:
        if found.kind == "manifest":
            return [found]
        if depth == 0:
            raise InvalidParameter("index: nested too deeply")
        for entry in matching(image.parse_index(found.data)["manifests"], platform):
            inner = _look_up(local, entry["digest"], entry["mediaType"])
            if inner is None:
                inner = await self.get(entry["digest"], expected=entry)
            below = await self._descend(inner, platform, local, depth - 1)
            if below is not None:
                return [found, *below]
        return None

    def _url(self, tag: str) -> str:
        return f"{self._path}/manifests/{tag}"


def matching(entries: Sequence[Descriptor], platform: Platform) -> list[Descriptor]:
    """The entries of an index that serve a platform, best first; those that name none come last, in order.

    Entries of media types that are no manifest are passed over, as the image specification asks.
    """
    ranked: list[tuple[int, int, Descriptor]] = []
    for number, entry in enumerate(entries):
        if entry["mediaType"] and entry["mediaType"] not in image.MANIFEST_TYPES | image.INDEX_TYPES:
            continue
        stated = entry.get("platform")
        fit = rank(platform_from_json(stated), platform) if stated else 1 << 16
        if fit is not None:
            ranked.append((fit, number, entry))
    return [entry for _, _, entry in sorted(ranked, key=lambda item: item[:2])]


def fetched_manifest(data: bytes, media_type: str, digest: Digest) -> FetchedManifest:
    """Look at a verified document: its kind and its media type. Raises `UnsupportedContent`, `InvalidParameter`."""
    kind = image.document_kind(data, media_type)
    if kind == "schema1":
        raise UnsupportedContent(
            "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. "
            "More information at https://docs.docker.com/go/deprecated-image-specs/"
        )
    if kind not in ("manifest", "index"):
        raise UnsupportedContent("unsupported manifest format")
    stated = orjson.loads(data).get("mediaType") or media_type
    if kind == "manifest" and stated not in image.MANIFEST_TYPES:
        stated = image.MEDIA_OCI_MANIFEST
    if kind == "index" and stated not in image.INDEX_TYPES:
        stated = image.MEDIA_OCI_INDEX
    return FetchedManifest(Descriptor(mediaType=stated, digest=digest, size=len(data)), data, kind)


def _look_up(local: Local | None, digest: Digest, media_type: str) -> FetchedManifest | None:
    data = local(digest) if local is not None else None
    return fetched_manifest(data, media_type, digest) if data is not None else None


async def catalogue(session: RegistrySession) -> list[str]:
    """The repositories of a registry, where it tells. Raises `ApiError`."""
    return await _paged(session, "_catalog", "repositories")


async def _paged(session: RegistrySession, path: str, field: str) -> list[str]:
    found: list[str] = []
    query: dict[str, str] | None = {"n": "1000"}
    for _ in range(_MAX_PAGES):
        async with session.exchange("GET", path, query=query) as answer:
            if not answer.ok:
                raise await answer.failure()
            names = _names(await answer.read(_MAX_PAGE), field)
            following = _NEXT.search(answer.headers.get("Link", ""))
            base = answer.url
        found += names
        if following is None:
            return found
        path, query = join_url(base, following[1]), None
    raise UnexpectedAnswer(f"{path}: more than {_MAX_PAGES} pages")


def _names(data: bytes, field: str) -> list[str]:
    try:
        document: Any = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UnexpectedAnswer(f"unable to decode {field}: {error}") from None
    names = document.get(field) if isinstance(document, dict) else None
    if names is None and isinstance(document, dict):
        return []  # Go writes an empty list as null
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UnexpectedAnswer(f"unable to decode {field}: not a list of names")
    return names


def is_unknown(error: Exception) -> bool:
    """Whether a failure says that the thing asked for does not exist."""
    return isinstance(error, ApiError) and (
        error.status == 404 or error.code in ("MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN")
    )
