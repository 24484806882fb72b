"""/logs: files of the host's /var/log, as upstream's kubelet shows them, and the node's own entry in them.

Paths are resolved by the kernel within the directory: no link leads out of it.
"""

from __future__ import annotations

import asyncio
import html
import os
import stat
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import quote

from windlass.http import Response, StreamResponse
from windlass.kernel import paths
from windlass.kube.node.server.ask import Ask, refused

_CHUNK: Final = 256 * 1024
_TEXT: Final = "text/plain; charset=utf-8"


class HostLogs:
    """The pages below /logs/."""

    def __init__(self, directory: str = "/var/log") -> None:
        self._directory = directory

    async def __call__(self, ask: Ask) -> Response | StreamResponse:
        """A directory as links, or a file. Raises StatusError: 404."""
        relative = ask.path.removeprefix("/logs").strip("/")
        try:
            opened = await asyncio.to_thread(self._open, relative)
        except OSError:
            raise refused(404, "404 page not found") from None
        try:
            kind = os.fstat(opened).st_mode
            if stat.S_ISREG(kind):
                return StreamResponse(200, [("Content-Type", _TEXT)], _content(os.dup(opened)))
            if not stat.S_ISDIR(kind):
                raise refused(404, "404 page not found")
            if relative and not ask.path.endswith("/"):
                return Response(301, [("Location", f"{relative.rpartition('/')[2]}/")])
            return _listing(await asyncio.to_thread(_names, opened))
        finally:
            os.close(opened)

    def _open(self, relative: str) -> int:
        root = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return paths.open_in_root(root, relative or ".", os.O_RDONLY | os.O_NONBLOCK)
        finally:
            os.close(root)


def _names(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        return sorted(entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "") for entry in entries)


def _listing(names: list[str]) -> Response:
    links = "".join(f'<a href="{quote(name)}">{html.escape(name)}</a>\n' for name in names)
    return Response(200, [("Content-Type", "text/html; charset=utf-8")], f"<pre>\n{links}</pre>\n".encode())


async def _content(file: int) -> AsyncIterator[bytes]:
    try:
        while data := await asyncio.to_thread(os.read, file, _CHUNK):
            yield data
    finally:
        os.close(file)
