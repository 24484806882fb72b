"""Archives for tests, built by the standard library's tarfile, also such as no honest program would make."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping


def member(
    name: str,
    data: bytes | None = None,
    *,
    kind: bytes | None = None,
    link: str = "",
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: float = 0,
    device: tuple[int, int] = (0, 0),
    pax: Mapping[str, str] | None = None,
) -> tuple[tarfile.TarInfo, bytes]:
    """A member and its data; a regular file unless `kind` says otherwise (a directory if the name ends in `/`)."""
    info = tarfile.TarInfo(name)
    info.type = kind or (tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE)
    info.linkname = link
    info.mode, info.uid, info.gid, info.mtime = mode, uid, gid, mtime
    info.devmajor, info.devminor = device
    info.size = len(data or b"")
    info.pax_headers = dict(pax or {})
    return info, data or b""


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.SYMTYPE, link=target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.LNKTYPE, link=target)


def archive(*members: tuple[tarfile.TarInfo, bytes], end: bool = True, format: int = tarfile.PAX_FORMAT) -> bytes:
    """The archive of some members, with its end marker unless not wanted."""
    parts = [info.tobuf(format, "utf-8", "surrogateescape") + data + bytes(-len(data) % 512) for info, data in members]
    return b"".join(parts) + (bytes(1024) if end else b"")


def files(contents: Mapping[str, bytes]) -> bytes:
    """An archive of regular files by name."""
    return archive(*(member(name, data) for name, data in contents.items()))


def names(data: bytes) -> list[str]:
    """The names in an archive."""
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        return opened.getnames()


def contents(data: bytes) -> dict[str, bytes]:
    """Regular files of an archive by name."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        for info in opened:
            file = opened.extractfile(info) if info.isreg() else None
            if file is not None:
                found[info.name] = file.read()
    return found
