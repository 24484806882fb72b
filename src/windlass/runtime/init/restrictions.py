"""The steps that take away: read-only paths, masked paths, a read-only root."""

from __future__ import annotations

import os
import stat
from typing import Final

from windlass.kernel.mount_options import MOUNT_ATTR_RDONLY
from windlass.kernel.mounts import move_mount, new_filesystem, open_tree_clone, set_attributes
from windlass.kernel.paths import try_open_in_root
from windlass.runtime.init.context import Context
from windlass.runtime.plan import steps as plan

_PATH: Final = os.O_PATH | os.O_CLOEXEC


def make_readonly(step: plan.MakeReadonly, context: Context) -> None:
    """Bind a path onto itself, read-only with all that is mounted below. What is not there needs nothing."""
    place = try_open_in_root(context.root, step.path, _PATH)
    if place < 0:
        return
    try:
        tree = open_tree_clone("", directory=place, recursive=True)
        try:
            set_attributes(tree, set_=MOUNT_ATTR_RDONLY, recursive=True, about=step.path)
            move_mount(tree, place, about=step.path)
        finally:
            os.close(tree)
    finally:
        os.close(place)


def mask_path(step: plan.MaskPath, context: Context) -> None:
    """Hide what is at a path, if anything is.

    Files are covered by the host's null device, whose number was checked when it was opened, and not by what the image
    calls /dev/null (CVE-2025-31133).
    """
    place = try_open_in_root(context.root, step.path, _PATH)
    if place < 0:
        return
    try:
        if stat.S_ISDIR(os.fstat(place).st_mode):
            tree = _empty_directory(context)
        else:
            tree = open_tree_clone("", directory=context.null)
        try:
            move_mount(tree, place, about=step.path)
        finally:
            os.close(tree)
    finally:
        os.close(place)


def _empty_directory(context: Context) -> int:
    """A mount of an empty, read-only directory; all masks of a container are clones of the first one.

    Before Linux 6.15 a mount can be cloned only once it is attached, so the first is used itself.
    """
    if context.empty >= 0:
        return open_tree_clone("", directory=context.empty)
    limits = [("nr_blocks", "1"), ("nr_inodes", "1")]
    context.empty = new_filesystem("tmpfs", "tmpfs", limits, attributes=MOUNT_ATTR_RDONLY)
    return os.dup(context.empty)


def make_root_readonly(step: plan.MakeRootReadonly, context: Context) -> None:
    """The root mount is not written any more; what is mounted below decides for itself."""
    root = os.open("/", _PATH | os.O_DIRECTORY)
    try:
        set_attributes(root, set_=MOUNT_ATTR_RDONLY, about="/")
    finally:
        os.close(root)
