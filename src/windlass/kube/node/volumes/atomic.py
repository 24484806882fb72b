"""Files that change all at once: whoever reads sees the old set or the new one, never a mixture.

    <volume>/..2026_11_27_10_00_00.123456789/key      the files, in a new directory for each change
    <volume>/..data  ->  ..2026_11_27_10_00_00.1…     renamed over the old link
    <volume>/key     ->  ..data/key                   made once

Source: https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from typing import NamedTuple

DATA = "..data"


class File(NamedTuple):
    """A file's content, its permissions, and its owner (-1 for ours)."""

    content: bytes
    mode: int
    uid: int = -1
    gid: int = -1


def check_path(path: str) -> None:
    """Raises ValueError: the path leads out of the volume, or to the names that are ours."""
    parts = path.split("/")
    if not path or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise ValueError(f"invalid path: {path!r} must be relative, without '..' and not start with '..'")


def write(directory: str, files: Mapping[str, File]) -> bool:
    """Make the files of a volume these; whether anything changed. Blocking.

    Raises:
        ValueError: see `check_path`.
        OSError
    """
    for path in files:
        check_path(path)
    current = _current(directory)
    if current is not None and _read(current) == {path: (each.content, each.mode) for path, each in files.items()}:
        return False
    now = time.time_ns()
    fresh = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime(now // 10**9)) + f"{now % 10**9:09d}"
    root = f"{directory}/{fresh}"
    os.mkdir(root, 0o755)
    try:
        for path, each in files.items():
            _write_file(f"{root}/{path}", each)
        draft = f"{directory}/..data_tmp"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        os.symlink(fresh, draft)
        os.rename(draft, f"{directory}/{DATA}")
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise
    _link(directory, {path.split("/")[0] for path in files})
    if current is not None:
        shutil.rmtree(current, ignore_errors=True)
    return True


def _current(directory: str) -> str | None:
    try:
        return f"{directory}/{os.readlink(f'{directory}/{DATA}')}"
    except OSError:
        return None


def _read(root: str) -> dict[str, tuple[bytes, int]]:
    found = {}
    for parent, _, names in os.walk(root):
        for name in names:
            path = f"{parent}/{name}"
            with open(path, "rb") as file:
                found[os.path.relpath(path, root)] = (file.read(), os.fstat(file.fileno()).st_mode & 0o7777)
    return found


def _write_file(path: str, each: File) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(each.content)
        if each.uid >= 0 or each.gid >= 0:
            os.fchown(descriptor, each.uid, each.gid)
        os.fchmod(descriptor, each.mode)


def _link(directory: str, wanted: set[str]) -> None:
    """Make the visible links, and remove those whose files are gone."""
    for name in os.listdir(directory):
        path = f"{directory}/{name}"
        if not name.startswith("..") and name not in wanted and os.path.islink(path):
            os.unlink(path)
    for name in wanted:
        if not os.path.lexists(f"{directory}/{name}"):
            os.symlink(f"{DATA}/{name}", f"{directory}/{name}")
