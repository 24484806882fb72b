"""inotify(7), as far as it is needed: a descriptor that becomes readable when one file is modified."""

from __future__ import annotations

import ctypes
import os

_MODIFY = 0x2


def watch_file(path: str) -> int:
    """A new non-blocking descriptor, readable once `path` is modified or removed. The caller reads the events away
    and closes it. Raises `OSError` with the path."""
    library = ctypes.CDLL(None, use_errno=True)
    fd = int(library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"inotify_init1: {os.strerror(code)}")
    if library.inotify_add_watch(fd, os.fsencode(path), ctypes.c_uint32(_MODIFY)) < 0:
        code = ctypes.get_errno()
        os.close(fd)
        raise OSError(code, os.strerror(code), path)
    return fd
