"""Blobs of one repository, upwards: only what is missing, by the cheapest way.

    HEAD blobs/<digest>                          200: it is there
    POST blobs/uploads/?mount=<digest>&from=…    201: the registry linked it from another repository of ours
    POST blobs/uploads/                          202, Location: where the bytes may go
    PUT  <location>?digest=…    all bytes        201: stored
    ... the connection breaks ...
    GET  <location>                              204, Range: 0-n: what has arrived
    PATCH <location>  Content-Range: n+1-…       202, then PUT <location>?digest=…

Where the registry has forgotten the upload, it starts again. With `chunk_size` (or where the registry refuses the whole
as too large) the bytes go in PATCH requests of that size.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from windlass.images.registry.failures import ApiError, ConnectionFailure, RegistryFailure, UnexpectedAnswer
from windlass.images.registry.session import RegistrySession
from windlass.images.registry.tokens import repository_scope
from windlass.images.registry.transport import Answer, join_url
from windlass.oci.digest import Digest

OpenAt = Callable[[int], AsyncIterator[bytes]]
"""Opens the blob's bytes from an offset; called again for each try."""
OnProgress = Callable[[int], None]
"""Told the number of bytes that have left, from the beginning of the blob (it falls after a broken connection)."""

_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d+)", re.ASCII)
_CHUNK_SIZE: Final = 16 << 20
_TYPE: Final = {"Content-Type": "application/octet-stream"}


class Outcome(Enum):
    """How a blob came to be in the repository."""

    EXISTS = "exists"
    MOUNTED = "mounted"
    UPLOADED = "uploaded"


@dataclass
class _Upload:
    location: str
    offset: int = 0


class Uploads:
    """Uploads into one repository. `path` is the repository without its domain."""

    def __init__(self, session: RegistrySession, path: str, *, chunk_size: int = 0) -> None:
        self._session = session
        self._path = path
        self._chunk_size = chunk_size

    async def exists(self, digest: Digest) -> bool:
        """Whether the repository has the blob. Raises `ApiError` for other answers than yes and no."""
        async with self._session.exchange("HEAD", f"{self._path}/blobs/{digest}") as answer:
            if answer.ok:
                return True
            if answer.status == 404:
                return False
            raise await answer.failure()

    async def push(
        self,
        digest: Digest,
        size: int,
        open_at: OpenAt,
        *,
        mount_from: Sequence[str] = (),
        on_progress: OnProgress = lambda sent: None,
    ) -> tuple[Outcome, str]:
        """Bring a blob into the repository. Returns how, and the repository that it was mounted from.

        Raises `ApiError` where the registry refuses, `ConnectionFailure` where the tries are used up.
        """
        if await self.exists(digest):
            return Outcome.EXISTS, ""
        for source in mount_from:
            upload = await self._mount(digest, source)
            if upload is None:
                return Outcome.MOUNTED, source
            await self._cancel(upload)
        await self._send(digest, size, open_at, on_progress)
        return Outcome.UPLOADED, ""

    async def _mount(self, digest: Digest, source: str) -> _Upload | None:
        """None where the registry linked the blob; else the upload that it opened instead."""
        query, scopes = {"mount": digest, "from": source}, [repository_scope(source, "pull")]
        try:
            return await self._open(query, scopes)
        except RegistryFailure:
            return _Upload("")  # may not read there, or does not mount: upload

    async def _open(self, query: dict[str, str] | None = None, scopes: Sequence[str] = ()) -> _Upload | None:
        path = f"{self._path}/blobs/uploads/"
        async with self._session.exchange(
            "POST", path, query=query, headers={"Content-Length": "0"}, extra_scopes=scopes
        ) as answer:
            if answer.status == 201 and query is not None:
                return None
            if answer.status != 202:
                raise await self._failure(answer)
            return _Upload(self._location(answer))

    async def _send(self, digest: Digest, size: int, open_at: OpenAt, on_progress: OnProgress) -> None:
        backoff = self._session.backoff()
        chunk_size = self._chunk_size
        upload: _Upload | None = None
        furthest = 0
        while True:
            try:
                if upload is None:
                    upload = await self._open()
                    assert upload is not None
                if upload.offset == 0 and not chunk_size:
                    await self._put_whole(upload, digest, size, open_at, on_progress)
                else:
                    await self._patch(upload, size, chunk_size or size, open_at, on_progress)
                    await self._commit(upload, digest)
                return
            except ApiError as error:
                if error.status == 413 and not chunk_size:
                    upload, chunk_size = None, _CHUNK_SIZE
                    continue
                if error.status not in (404, 416, 429) or upload is None or not await backoff.again():
                    raise
                upload = None  # the registry has forgotten the upload, or wants us to come back later
            except (ConnectionFailure, UnexpectedAnswer) as error:
                if isinstance(error, UnexpectedAnswer) and error.status < 500:
                    raise
                if not await backoff.again():
                    raise
                upload = await self._ask(upload)
                if upload is not None and upload.offset > furthest:
                    furthest, backoff = upload.offset, self._session.backoff()
            on_progress(upload.offset if upload is not None else 0)

    async def _put_whole(
        self, upload: _Upload, digest: Digest, size: int, open_at: OpenAt, on_progress: OnProgress
    ) -> None:
        async with contextlib.AsyncExitStack() as opened:
            await self._store(upload, digest, size, lambda: _counted(opened, open_at, 0, size, on_progress))

    async def _patch(
        self, upload: _Upload, size: int, chunk_size: int, open_at: OpenAt, on_progress: OnProgress
    ) -> None:
        while upload.offset < size:
            start, end = upload.offset, min(upload.offset + chunk_size, size)
            headers = {**_TYPE, "Content-Range": f"{start}-{end - 1}", "Content-Length": str(end - start)}

            async with contextlib.AsyncExitStack() as opened:
                body = functools.partial(_counted, opened, open_at, start, end, on_progress)
                answer = await opened.enter_async_context(
                    self._session.exchange("PATCH", upload.location, headers=headers, body=body, retry=False)
                )
                if answer.status not in (201, 202, 204):
                    raise await self._failure(answer)
                upload.location, upload.offset = self._location(answer), end

    async def _commit(self, upload: _Upload, digest: Digest) -> None:
        await self._store(upload, digest, 0, None)

    async def _store(
        self, upload: _Upload, digest: Digest, size: int, body: Callable[[], AsyncIterator[bytes]] | None
    ) -> None:
        headers = {**_TYPE, "Content-Length": str(size)}
        async with self._session.exchange(
            "PUT", upload.location, query={"digest": digest}, headers=headers, body=body, retry=False
        ) as answer:
            if answer.status not in (201, 202, 204):
                raise await self._failure(answer)

    async def _ask(self, upload: _Upload | None) -> _Upload | None:
        """How far a broken upload has come; None where it must start again."""
        if upload is None:
            return None
        try:
            async with self._session.exchange("GET", upload.location, retry=False) as answer:
                arrived = _RANGE.fullmatch(answer.headers.get("Range", ""))
                if answer.status != 204 or arrived is None:
                    return None
                # "0-0" means nothing or one byte: servers differ, so it is taken as nothing.
                offset = int(arrived[1]) + 1 if int(arrived[1]) else 0
                location = self._location(answer) if "Location" in answer.headers else upload.location
                return _Upload(location, offset) if offset else None
        except RegistryFailure:
            return None

    async def _cancel(self, upload: _Upload) -> None:
        """Tell the registry that an upload it opened for us is not wanted; its answer does not matter."""
        if not upload.location:
            return
        try:
            async with self._session.exchange("DELETE", upload.location, retry=False):
                pass
        except RegistryFailure:
            pass

    def _location(self, answer: Answer) -> str:
        location = answer.headers.get("Location", "")
        if not location:
            raise UnexpectedAnswer(f"{answer.url}: the registry did not say where to upload")
        url = join_url(answer.url, location)
        if url.startswith("http://") and self._session.endpoint.verify:
            raise UnexpectedAnswer(f"refusing to upload to {url[:200]}: it does not use TLS as the registry does")
        return url

    async def _failure(self, answer: Answer) -> RegistryFailure:
        return (
            await answer.failure()
            if not answer.ok
            else UnexpectedAnswer(f"received unexpected HTTP status: {answer.status}", status=answer.status)
        )


def _counted(
    opened: contextlib.AsyncExitStack, open_at: OpenAt, start: int, end: int, on_progress: OnProgress
) -> AsyncIterator[bytes]:
    """Exactly the bytes from `start` to `end`, reported as they leave; `opened` closes the blob."""
    chunks = open_at(start)

    async def count() -> AsyncGenerator[bytes, None]:
        sent = start
        async for chunk in chunks:
            piece = chunk[: end - sent]
            if piece:
                sent += len(piece)
                yield piece
                on_progress(sent)
            if sent == end:
                break
        if sent != end:
            raise UnexpectedAnswer(f"the local blob ended after {sent} of {end} bytes")

    counted = count()
    if isinstance(chunks, AsyncGenerator):
        opened.push_async_callback(chunks.aclose)
    opened.push_async_callback(counted.aclose)
    return counted
