"""Base images on a machine without a registry, from Debian's packages.

    busybox   Debian's static busybox with a link for each of its applets and the few files that a C library looks for:
              2 MB, made in milliseconds
    debian    a minimal Debian by mmdebstrap, from the package sources that this host itself uses: some 100 MB, minutes

Both are archives of a root file system, to be imported.
"""

from __future__ import annotations

import asyncio
import glob
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from typing import BinaryIO, Final

from windlass.errors import NotFound, SystemFailure

KINDS: Final = ("busybox", "debian")

_USERS: Final = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
_FILES: Final = {
    "etc/passwd": _USERS,
    "etc/group": "root:x:0:\ntty:x:5:\nusers:x:100:\nnogroup:x:65534:\n",
    "etc/shadow": "root:*:::::::\nnobody:*:::::::\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/profile": "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
}
_MODES: Final = {"etc/shadow": 0o640}
_DIRECTORIES: Final = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "sys": 0o555,
    "tmp": 0o1777,
    "usr": 0o755,
    "usr/bin": 0o755,
    "usr/sbin": 0o755,
    "sbin": 0o755,
    "var": 0o755,
    "var/log": 0o755,
    "var/tmp": 0o1777,
    "run": 0o755,
}
# The same tree gives the same archive, so the same image, wherever and whenever it is made.
_TIME: Final = 0
_DEBIAN_SOURCES: Final = (
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d/*.list",
    "/etc/apt/sources.list.d/*.sources",
)


async def build(kind: str) -> tuple[BinaryIO, list[str]]:
    """Make the archive of a base image.

    Args:
        kind: one of KINDS.

    Returns:
        The archive (uncompressed, at its beginning; the caller closes it), and Dockerfile instructions for its
        configuration.

    Raises:
        NotFound: the program that it is made from is not installed; the message says which package has it.
        SystemFailure: it could not be made.
    """
    if kind == "busybox":
        applets = await _run("busybox-static", _busybox(), "--list")
        archive = await asyncio.to_thread(busybox_rootfs, applets.decode().split())
        return archive, ['CMD ["sh"]']
    if kind == "debian":
        return await _debian(), ['CMD ["bash"]']
    raise NotFound(f"unknown base image: {kind} (one of {', '.join(KINDS)})")


def _busybox() -> str:
    """Debian's static busybox; one that needs libraries would not run alone."""
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        if os.path.exists(path) and _is_static(path):
            return path
    raise NotFound("no static busybox here: install Debian's package busybox-static")


def _is_static(path: str) -> bool:
    """Whether an ELF program has no interpreter (PT_INTERP in its program headers, elf(5))."""
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF" or head[4] != 2:
            return False
        offset, size, count = (int.from_bytes(head[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58)))
        file.seek(offset)
        headers = file.read(size * count)
    return not any(headers[start : start + 4] == b"\x03\x00\x00\x00" for start in range(0, len(headers), size))


def busybox_rootfs(applets: Iterable[str], program: str | None = None) -> BinaryIO:
    """The archive of a root file system around busybox.

    Args:
        applets: names of the links to make in /bin.
        program: the static busybox; Debian's if None.
    """
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, mode in _DIRECTORIES.items():
            archive.addfile(_member(name, tarfile.DIRTYPE, mode))
        with open(program or _busybox(), "rb") as file:
            member = _member("bin/busybox", tarfile.REGTYPE, 0o755)
            member.size = os.fstat(file.fileno()).st_size
            archive.addfile(member, file)
        for applet in sorted(set(applets) - {"busybox"}):
            link = _member(f"bin/{applet}", tarfile.SYMTYPE, 0o777)
            link.linkname = "busybox"
            archive.addfile(link)
        for name, text in _FILES.items():
            member = _member(name, tarfile.REGTYPE, _MODES.get(name, 0o644))
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    target.seek(0)
    return target


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = kind, mode, _TIME
    return member


async def _debian() -> BinaryIO:
    """A minimal Debian of this host's release, from this host's package sources."""
    program = shutil.which("mmdebstrap")
    if program is None:
        raise NotFound("mmdebstrap is not here: install Debian's package mmdebstrap")
    sources = [path for pattern in _DEBIAN_SOURCES for path in sorted(glob.glob(pattern))]
    target = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        arguments = ["--variant=minbase", "--format=tar", "--quiet", "--mode=root", _release(), "-", *sources]
        await _run("mmdebstrap", program, *arguments, output=target)
        target.seek(0)
    except BaseException:
        target.close()
        raise
    return target


def _release() -> str:
    """This host's Debian release, stable where it is another distribution."""
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            fields = dict(line.rstrip("\n").partition("=")[::2] for line in file)
    except OSError:
        return "stable"
    return fields.get("VERSION_CODENAME", "stable") if fields.get("ID") == "debian" else "stable"


async def _run(package: str, *command: str, output: BinaryIO | None = None) -> bytes:
    """Run a program and return what it prints, or write that to `output`."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if output is None else output,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise NotFound(f"{command[0]} is not here: install Debian's package {package}") from None
    out, errors = await process.communicate()
    if process.returncode != 0:
        raise SystemFailure(f"{os.path.basename(command[0])}: {errors.decode(errors='replace').strip()[-2000:]}")
    return out or b""
