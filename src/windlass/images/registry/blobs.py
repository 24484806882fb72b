"""Blobs of one repository, downwards: streams that survive broken connections.

    GET /v2/<name>/blobs/<digest>                        200, or a redirect to where the bytes lie
    ... the connection breaks after n bytes ...
    GET /v2/<name>/blobs/<digest>   Range: bytes=n-      206, and the stream goes on as if nothing had happened

The reader never gets a byte more than the descriptor promises, and an end that comes early is a failure. The digest is
the reader's to check while it stores the bytes (`read` does it for small ones), since hashing belongs in the thread
that also decompresses.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, Callable
from typing import Final

from windlass.images.registry.failures import ApiError, ConnectionFailure, UnexpectedAnswer, VerificationFailure
from windlass.images.registry.session import RegistrySession
from windlass.images.registry.transport import Answer
from windlass.oci.digest import Digest, matches
from windlass.oci.image import MAX_DOCUMENT, Descriptor

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d*)/", re.ASCII)
_MAX_BREAKS: Final = 1000

OnBreak = Callable[[Exception], None]


class Blobs:
    """The blobs of one repository. `path` is the repository without its domain."""

    def __init__(self, session: RegistrySession, path: str) -> None:
        self._session = session
        self._path = path

    async def size(self, digest: Digest) -> int | None:
        """The size of a blob in bytes, or None where the repository does not have it. Raises `ApiError`."""
        async with self._session.exchange("HEAD", self._url(digest)) as answer:
            if answer.status == 404:
                return None
            if not answer.ok:
                raise await answer.failure()
            return answer.length if answer.length is not None else -1

    async def read(self, descriptor: Descriptor, *, what: str = "image config", limit: int = MAX_DOCUMENT) -> bytes:
        """A small blob, whole and verified. Raises `ApiError`, `VerificationFailure`."""
        if descriptor["size"] > limit:
            raise VerificationFailure(f"{what} {descriptor['digest']} is larger than the allowed {limit} bytes")
        async with contextlib.aclosing(self.stream(descriptor)) as stream:
            data = b"".join([chunk async for chunk in stream])
        if not matches(descriptor["digest"], data):
            raise VerificationFailure(f"{what} verification failed for digest {descriptor['digest']}")
        return data

    async def stream(
        self, descriptor: Descriptor, *, offset: int = 0, on_break: OnBreak | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of a blob from `offset`, exactly as many as the descriptor says; the digest is not checked here.

        A broken connection is taken up again where it broke, after a pause; `on_break` hears of it. The tries are
        counted anew whenever bytes have come. Close it when leaving early: it holds a connection. Raises `ApiError`,
        `ConnectionFailure`, `VerificationFailure`.
        """
        digest, size = descriptor["digest"], descriptor["size"]
        backoff = self._session.backoff()
        for _ in range(_MAX_BREAKS):
            start = offset
            failure: ConnectionFailure | VerificationFailure
            try:
                async with self._session.exchange(
                    "GET", self._url(digest), headers=_range(offset), backoff=backoff
                ) as answer:
                    skip = await self._start(answer, digest, offset)
                    while chunk := await answer.chunk():
                        piece = chunk[skip:] if skip else chunk
                        skip -= len(chunk) - len(piece)
                        offset += len(piece)
                        if offset > size:
                            raise VerificationFailure(f"blob {digest} has more than the promised {size} bytes")
                        if piece:
                            yield piece
                if offset == size:
                    return
                failure = VerificationFailure(f"blob {digest} ended after {offset} of {size} bytes")
            except ConnectionFailure as error:
                failure = error
            if offset > start:
                backoff = self._session.backoff()
            if on_break is not None:
                on_break(failure)
            if not await backoff.again():
                raise failure
        raise ConnectionFailure(f"blob {digest}: the connection broke {_MAX_BREAKS} times")

    async def _start(self, answer: Answer, digest: Digest, offset: int) -> int:
        """Check the head of the answer; how many bytes to pass over (a server that ignores ranges starts at 0)."""
        if not answer.ok:
            failure = await answer.failure()
            if answer.status == 404 and isinstance(failure, ApiError) and failure.code == "UNKNOWN":
                raise ApiError(404, [("BLOB_UNKNOWN", "")])
            raise failure
        if answer.status != 206:
            return offset
        stated = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
        if stated is None or int(stated[1]) > offset:
            raise UnexpectedAnswer(f"blob {digest}: asked for bytes from {offset}, got another range")
        return offset - int(stated[1])

    def _url(self, digest: Digest) -> str:
        return f"{self._path}/blobs/{digest}"


def _range(offset: int) -> dict[str, str]:
    return {"Range": f"bytes={offset}-"} if offset else {}
