"""Making changes survive a crash of the machine, and not only of the process.

    first blobs and layers, by plain renames │ then one syncfs(2) │ then the record that names them, fsync and rename

A process that is killed loses nothing that the kernel has taken over; a machine that stops loses whatever is not on the
disk. So whoever writes a record that others will trust syncs the file system before, once, instead of every file.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
from pathlib import Path
from typing import Final

from windlass.errors import SystemFailure

_TEMPORARY: Final = re.compile(r"\..+\.[0-9a-f]{8}")
_library = ctypes.CDLL(None, use_errno=True)


def sync_filesystem(path: Path) -> None:
    """Write everything of the file system that `path` is on to its disk (syncfs(2)). Raises SystemFailure."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _library.syncfs(fd):
            raise SystemFailure(f"sync {path}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(fd)


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file so that a crash leaves the old content or the new one.

    Args:
        durable: whether the new content must be on the disk when this returns.

    Raises SystemFailure if the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise SystemFailure(f"write {path}: no space left on device") from error
        raise
    if durable:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def remove_temporaries(directory: Path) -> None:
    """Remove what `write_atomically` was interrupted at in a directory."""
    for name in os.listdir(directory):
        if _TEMPORARY.fullmatch(name):
            (directory / name).unlink(missing_ok=True)
