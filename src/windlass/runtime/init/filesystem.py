"""The steps that build the container's file system, in the child's own mount namespace, before the pivot.

Each mount is made as a descriptor, each target is resolved inside the root by the kernel, and one is attached to the
other: no path of the image is ever followed outside of it, and none can be exchanged in between.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from windlass.kernel import lsm
from windlass.kernel.mount_options import MOUNT_ATTR_RDONLY
from windlass.kernel.mounts import (
    MNT_DETACH,
    apply_options,
    move_mount,
    new_filesystem,
    open_tree_clone,
    pivot_root,
    set_attributes,
    umount2,
)
from windlass.kernel.paths import create_file_in_root, mkdir_all_in_root, open_beneath, open_in_root
from windlass.runtime.init.context import Context
from windlass.runtime.init.copyup import copy_up
from windlass.runtime.plan import steps as plan
from windlass.runtime.wire import LaunchFailure

_PATH: Final = os.O_PATH | os.O_CLOEXEC
_DIRECTORY: Final = _PATH | os.O_DIRECTORY
# These show the kernel's own state: over a link of the image they would show it where nobody looks (CVE-2019-19921).
_NO_LINKS: Final = frozenset({"proc", "sysfs"})
# Of these several mounts share one instance, so read-only is the mount's own matter; a disk's shall not be written.
_READ_ONLY_INSTANCE: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "f2fs", "erofs", "squashfs"})


def attach(tree: int, place: int, about: str) -> None:
    """Attach a detached mount, whose descriptor is consumed."""
    try:
        move_mount(tree, place, about=about)
    finally:
        os.close(tree)


def set_propagation(step: plan.SetPropagation, context: Context) -> None:
    """Cut the tree off from the host's before anything is mounted in it."""
    root = os.open("/", _DIRECTORY)
    try:
        set_attributes(root, propagation=step.flag, recursive=True, about="/")
    finally:
        os.close(root)


def attach_root(step: plan.AttachRoot, context: Context) -> None:
    """The root joins our tree, upon the host's `/`, where it covers nothing for those who hold or look up the latter:
    until the pivot `/` is the host's, and no directory of the host has to be there for it."""
    place = os.open("/", _DIRECTORY)
    for tree in context.trees.root:
        move_mount(tree, place, about="/")
        os.close(place)
        place = tree
    context.root = place


def mount_filesystem(step: plan.MountFilesystem, context: Context) -> None:
    """A new file system on a directory of the root, which is made where it is missing."""
    place = _directory(context, step.target, links=step.type not in _NO_LINKS)
    try:
        tree = context.trees.filesystems.pop(step.type, -1)
        if tree < 0:
            tree = _new(step)
        else:
            apply_options(tree, step.options, about=step.target)
        try:
            if step.options.copy_up:
                copy_up(place, tree)
            for propagation, recursive in step.options.propagations:
                set_attributes(tree, propagation=propagation, recursive=recursive, about=step.target)
            if step.type == "devpts":
                context.devpts = os.dup(tree)
        except BaseException:
            os.close(tree)
            raise
        attach(tree, place, step.target)
    finally:
        os.close(place)


def _new(step: plan.MountFilesystem) -> int:
    options = step.options
    data = list(options.data)
    if step.label:
        data.append(("context", lsm.check_context(step.label)))
    attributes = options.set | options.recursive_set
    if options.copy_up:
        attributes &= ~MOUNT_ATTR_RDONLY
    read_only = options.read_only and step.type in _READ_ONLY_INSTANCE
    return new_filesystem(step.type, step.source, data, attributes=attributes, read_only=read_only)


def _directory(context: Context, target: str, *, links: bool) -> int:
    """The directory at `target` in the root. Raises LaunchFailure for a link where none may be."""
    if links:
        return mkdir_all_in_root(context.root, target)
    try:
        return open_beneath(context.root, target, _DIRECTORY)
    except FileNotFoundError:
        return mkdir_all_in_root(context.root, target)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EXDEV}:
            message = f'filesystem "{target}" must be mounted on ordinary directory'
            raise LaunchFailure("mount", message, error.errno) from None
        raise


def bind_mount(step: plan.BindMount, context: Context) -> None:
    """A file or directory of the host, which the parent has cloned with all its attributes, in the root."""
    tree = context.trees.binds.pop(0)
    try:
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            place = mkdir_all_in_root(context.root, step.target)
        else:
            place = create_file_in_root(context.root, step.target)
        try:
            move_mount(tree, place, about=step.target)
        finally:
            os.close(place)
        for propagation, recursive in step.options.propagations:
            # Once more: what is attached below a shared mount becomes shared.
            set_attributes(tree, propagation=propagation, recursive=recursive, about=step.target)
    finally:
        os.close(tree)


def remount(step: plan.Remount, context: Context) -> None:
    """Other attributes for the mount at a target."""
    fd = open_in_root(context.root, step.target, _PATH)
    try:
        apply_options(fd, step.options, about=step.target)
    finally:
        os.close(fd)


def mount_cgroups(step: plan.MountCgroups, context: Context) -> None:
    """The container's view of its control groups: through its cgroup namespace, or bound from the host's tree."""
    hierarchy = context.hierarchy
    if hierarchy is None:
        raise LaunchFailure("mount", "no cgroup hierarchy is known on this host", errno.ENOENT)
    place = _directory(context, step.target, links=False)
    try:
        attributes = step.options.set | step.options.recursive_set
        if not hierarchy.mounts:
            attach(_unified(step, context, attributes), place, step.target)
            return
        # The directory is written to first, and becomes read-only when it is complete.
        top = new_filesystem("tmpfs", "tmpfs", [("mode", "755")], attributes=attributes & ~MOUNT_ATTR_RDONLY)
        try:
            move_mount(top, place, about=step.target)
            _controllers(step, context, top, attributes)
            if attributes & MOUNT_ATTR_RDONLY:
                set_attributes(top, set_=MOUNT_ATTR_RDONLY, about=step.target)
        finally:
            os.close(top)
    finally:
        os.close(place)


def _unified(step: plan.MountCgroups, context: Context, attributes: int) -> int:
    if step.private or context.cgroup is None:
        return new_filesystem("cgroup2", "cgroup", attributes=attributes)
    return _clone(context.cgroup.paths[""], attributes)


def _controllers(step: plan.MountCgroups, context: Context, top: int, attributes: int) -> None:
    """One mount for each v1 hierarchy, and links for controllers that share one.

    A group that we know is bound from the host's mount; our cgroup namespace shows it as the hierarchy's root either
    way, and a bind takes a third of the calls.
    """
    assert context.hierarchy is not None
    for mount in context.hierarchy.mounts:
        name = os.path.basename(mount.path)
        os.mkdir(name, 0o755, dir_fd=top)
        if context.cgroup is not None:
            tree = _clone(context.cgroup.paths[mount.controllers[0]], attributes)
        else:
            tree = new_filesystem("cgroup", "cgroup", _v1_options(mount.controllers), attributes=attributes)
        try:
            # The directory is one that we have just made in a file system that nobody else has.
            move_mount(tree, top, name)
        finally:
            os.close(tree)
        for controller in mount.controllers[1:] if len(mount.controllers) > 1 else ():
            if controller != name and not controller.startswith("name="):
                os.symlink(name, controller, dir_fd=top)


def _v1_options(controllers: tuple[str, ...]) -> list[tuple[str, str | None]]:
    data: list[tuple[str, str | None]] = []
    for controller in controllers:
        if controller.startswith("name="):
            data += [("none", None), ("name", controller.removeprefix("name="))]
        else:
            data.append((controller, None))
    return data


def _clone(path: str, attributes: int) -> int:
    tree = open_tree_clone(path)
    try:
        set_attributes(tree, set_=attributes, about=path)
    except BaseException:
        os.close(tree)
        raise
    return tree


def make_working_directory(step: plan.MakeWorkingDirectory, context: Context) -> None:
    """Make the working directory where it is missing; a root that cannot be written says so at chdir."""
    try:
        os.close(mkdir_all_in_root(context.root, step.path))
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.EACCES, errno.ENOTDIR}:
            raise


def pivot(step: plan.PivotRoot, context: Context) -> None:
    """Make the root `/` and let go of the host's tree, pivot_root(2): with "." twice no directory is needed for it."""
    os.fchdir(context.root)
    if step.pivot:
        pivot_root(".", ".")
        # The host's root is now stacked on ours at the same place; our working directory is ours.
        umount2(".", MNT_DETACH)
    else:
        # The root covers the host's `/` already; what is left is to make it ours.
        os.chroot(".")
    os.chdir("/")
    os.close(context.root)
    context.root = -1


def set_root_propagation(step: plan.SetRootPropagation, context: Context) -> None:
    """The propagation that the configuration asks of the root itself."""
    root = os.open("/", _DIRECTORY)
    try:
        set_attributes(root, propagation=step.flag, recursive=step.recursive, about="/")
    finally:
        os.close(root)
