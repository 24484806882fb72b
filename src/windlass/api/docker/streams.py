"""Answers that go on: progress, events, archives. An error before the first item is an ordinary HTTP error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any, Final

import orjson

from windlass.api.docker.problems import JSON, message_of
from windlass.http import StreamResponse
from windlass.http.message import ClientGoneError, Headers

TAR: Final = (("Content-Type", "application/x-tar"),)
OCTETS: Final = (("Content-Type", "application/octet-stream"),)


def error_line(error: Exception) -> bytes:
    """How a progress stream reports its failure."""
    message = message_of(error)
    return orjson.dumps({"errorDetail": {"message": message}, "error": message}) + b"\r\n"


async def progress(source: Awaitable[AsyncIterator[Any]], *, always_ok: bool = False) -> StreamResponse:
    """Progress messages; an error after the first becomes a message, and so does every one if `always_ok`."""
    try:
        messages, first = await _begun(source)
    except ClientGoneError:
        raise
    except Exception as error:
        if not always_ok:
            raise
        return StreamResponse(200, JSON, _only(error_line(error)))
    return StreamResponse(200, JSON, _progress_lines(messages, first))


async def _begun(source: Awaitable[AsyncIterator[Any]]) -> tuple[AsyncIterator[Any], Any]:
    iterator = await source
    return iterator, await anext(iterator, None)


async def _only(line: bytes) -> AsyncIterator[bytes]:
    yield line


async def _progress_lines(messages: AsyncIterator[Any], first: Any) -> AsyncIterator[bytes]:
    try:
        if first is not None:
            yield orjson.dumps(first) + b"\r\n"
            async for message in messages:
                yield orjson.dumps(message) + b"\r\n"
    except ClientGoneError:
        raise
    except Exception as error:
        yield error_line(error)
    finally:
        await close(messages)


def documents(items: AsyncIterator[Any]) -> StreamResponse:
    """JSON documents, one a line, each leaving at once; the head leaves before the first."""
    return StreamResponse(200, JSON, _lines(items))


async def _lines(items: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    try:
        async for item in items:
            yield orjson.dumps(item) + b"\n"
    finally:
        await close(items)


async def binary(source: Awaitable[AsyncIterator[bytes]], headers: Headers) -> StreamResponse:
    """Bytes; a failure in the middle breaks the connection, so that no half archive looks whole."""
    chunks, first = await _begun(source)
    return StreamResponse(200, headers, _bytes(chunks, first))


async def _bytes(chunks: AsyncIterator[bytes], first: bytes | None) -> AsyncIterator[bytes]:
    try:
        if first is not None:
            yield first
            async for chunk in chunks:
                yield chunk
    finally:
        await close(chunks)


async def close(iterator: AsyncIterator[Any]) -> None:
    """End a generator that may not have been read to its end."""
    aclose = getattr(iterator, "aclose", None)
    if aclose is not None:
        await aclose()
