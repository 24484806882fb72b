"""fsGroup: a volume's files belong to a group, which may use them.

Source: https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
"""

from __future__ import annotations

import os
import stat


def mode_of(mode: int, *, read_only: bool, is_directory: bool) -> int:
    """The permissions with what the group needs."""
    mode |= 0o440 if read_only else 0o660
    if is_directory:
        mode |= stat.S_ISGID | 0o110
    return mode


def give(directory: str, group: int, *, read_only: bool, only_on_mismatch: bool = False) -> None:
    """Give a tree to a group. Blocking. Links are not followed. Raises OSError."""
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(top)
        wanted = mode_of(stat.S_IMODE(found.st_mode), read_only=read_only, is_directory=True)
        if only_on_mismatch and found.st_gid == group and stat.S_IMODE(found.st_mode) == wanted:
            return
        for _, directories, names, parent in os.fwalk(".", dir_fd=top, follow_symlinks=False):
            _give_one(parent, group, read_only=read_only)
            for name in (*directories, *names):
                status = os.lstat(name, dir_fd=parent)
                if stat.S_ISLNK(status.st_mode):
                    os.chown(name, -1, group, dir_fd=parent, follow_symlinks=False)
                elif stat.S_ISREG(status.st_mode):
                    child = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=parent)
                    try:
                        _give_one(child, group, read_only=read_only)
                    finally:
                        os.close(child)
    finally:
        os.close(top)


def _give_one(descriptor: int, group: int, *, read_only: bool) -> None:
    status = os.fstat(descriptor)
    os.fchown(descriptor, -1, group)
    wanted = mode_of(stat.S_IMODE(status.st_mode), read_only=read_only, is_directory=stat.S_ISDIR(status.st_mode))
    os.fchmod(descriptor, wanted)
