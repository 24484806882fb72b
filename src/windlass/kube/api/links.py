"""Makes links lead through the proxy that a page came through: in the field Location, and in HTML.

A link with a relative path leads there anyway; one to another host leads there still.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator, Collection
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from windlass.http import Response, StreamResponse

_LONGEST_PAGE: Final = 8 << 20
_NAMES: Final = (
    "action|background|cite|classid|codebase|data|formaction|href|icon|longdesc|manifest|poster|profile|src|usemap"
)
_TAG: Final = re.compile(rb"<[a-z][^<>]*>", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(rb"""(\s(?:%s)\s*=\s*)(?:"([^"<>]*)"|'([^'<>]*)')""" % _NAMES.encode(), re.IGNORECASE)


async def rewritten(
    answer: Response | StreamResponse | None, prefix: str, hosts: Collection[str]
) -> Response | StreamResponse | None:
    """The answer with its links below `prefix`. `hosts` are those that the page may call its own."""
    if answer is None:
        return None
    headers = [
        (name, rewrite(value, prefix, hosts) if name.lower() == "location" else value) for name, value in answer.headers
    ]
    fields = {name.lower(): value.lower() for name, value in headers}
    encoding = fields.get("content-encoding", "")
    if isinstance(answer, Response):
        return Response(answer.status, headers, answer.body)
    if not fields.get("content-type", "").startswith("text/html") or encoding not in ("", "identity", "gzip"):
        return StreamResponse(answer.status, headers, answer.chunks)
    parts, size = [], 0
    async for chunk in answer.chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > _LONGEST_PAGE:
            return StreamResponse(answer.status, headers, _after(parts, answer.chunks))
    page = b"".join(parts)
    if encoding == "gzip" and page:
        try:
            page = gzip.decompress(page)
        except (OSError, EOFError):
            return Response(answer.status, headers, page)
        headers = [(name, value) for name, value in headers if name.lower() != "content-encoding"]
    return Response(answer.status, headers, in_html(page, prefix, hosts))


def rewrite(link: str, prefix: str, hosts: Collection[str]) -> str:
    """One link. Pure."""
    try:
        found = urlsplit(link)
    except ValueError:
        return link
    if not found.path.startswith("/") or (found.netloc and found.netloc not in hosts):
        return link
    if found.path.startswith(f"{prefix}/"):
        return link
    return urlunsplit(("", "", f"{prefix}{found.path}", found.query, found.fragment))


def in_html(page: bytes, prefix: str, hosts: Collection[str]) -> bytes:
    """All links of a page. Pure."""

    def replace(found: re.Match[bytes]) -> bytes:
        quote = b'"' if found[2] is not None else b"'"
        link = found[2] if found[2] is not None else found[3]
        text = rewrite(link.decode("latin-1"), prefix, hosts).encode("latin-1")
        return found[1] + quote + text + quote

    return _TAG.sub(lambda tag: _ATTRIBUTE.sub(replace, tag[0]), page)


async def _after(parts: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield b"".join(parts)
    async for chunk in rest:
        yield chunk
