"""inotify(7), as far as it is needed: a descriptor that becomes readable when a file or a directory's files change."""

from __future__ import annotations

import ctypes
import os

_MODIFY = 0x2
_CLOSE_WRITE, _MOVED, _CREATE, _DELETE, _DELETE_SELF = 0x8, 0x40 | 0x80, 0x100, 0x200, 0x400


def watch_file(path: str) -> int:
    """A new non-blocking descriptor, readable once `path` is modified or removed. The caller reads the events away
    and closes it. Raises `OSError` with the path."""
    return _watch(path, _MODIFY)


def watch_directory(path: str) -> int:
    """The same for a directory: readable once a file in it has been written, made, moved or removed."""
    return _watch(path, _CLOSE_WRITE | _MOVED | _CREATE | _DELETE | _DELETE_SELF)


def _watch(path: str, events: int) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    fd = int(library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"inotify_init1: {os.strerror(code)}")
    if library.inotify_add_watch(fd, os.fsencode(path), ctypes.c_uint32(events)) < 0:
        code = ctypes.get_errno()
        os.close(fd)
        raise OSError(code, os.strerror(code), path)
    return fd
