"""`--mount volume-subpath=…`: a directory or file inside a volume, resolved by the kernel with the volume as root."""

from __future__ import annotations

import os

from windlass.errors import InvalidParameter
from windlass.kernel.paths import open_in_root
from windlass.volumes.local import reason


def open_subpath(volume_path: str, subpath: str) -> int:
    """A descriptor (O_PATH) of what is at `subpath`: to be mounted by descriptor, so that no exchange of a directory
    for a link in between leads anywhere else. Links inside the volume, also absolute ones, stay inside it.

    Raises:
        InvalidParameter: it is not relative, or not there.
    """
    if subpath.startswith("/") or "\0" in subpath or ".." in subpath.split("/"):
        raise InvalidParameter("subpath must be a relative path within the volume")
    try:
        root = os.open(volume_path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return open_in_root(root, subpath, os.O_PATH)
        finally:
            os.close(root)
    except OSError as error:
        raise InvalidParameter(f"cannot access path {volume_path}/{subpath}: {reason(error)}") from None
