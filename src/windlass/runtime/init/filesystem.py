"""The steps that build the container's file system, in the child's own mount namespace, before the pivot.

Each mount is made as a descriptor, each target is resolved inside the root by the kernel, and one is attached to the
other: no path of the image is ever followed outside of it, and none can be exchanged in between.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from windlass.kernel import pty
from windlass.kernel.mount_options import MOUNT_ATTR_RDONLY
from windlass.kernel.mounts import (
    MNT_DETACH,
    detached,
    detached_bind,
    move_mount,
    new_filesystem,
    open_tree_clone,
    pivot_root,
    set_attributes,
    umount2,
)
from windlass.kernel.paths import (
    create_file_in_root,
    mkdir_all_in_root,
    open_beneath,
    open_in_root,
    open_parent_in_root,
)
from windlass.runtime import plan
from windlass.runtime.init.context import Context
from windlass.runtime.init.copyup import copy_up
from windlass.runtime.wire import LaunchFailure

_PATH: Final = os.O_PATH | os.O_CLOEXEC
_DIRECTORY: Final = _PATH | os.O_DIRECTORY
# These show the kernel's own state: over a link of the image they would show it where nobody looks (CVE-2019-19921).
_NO_LINKS: Final = frozenset({"proc", "sysfs"})


def set_propagation(step: plan.SetPropagation, context: Context) -> None:
    """Cut the tree off from the host's before anything is mounted in it."""
    root = os.open("/", _DIRECTORY)
    try:
        set_attributes(root, propagation=step.flag, recursive=step.recursive, about="/")
    finally:
        os.close(root)


def attach_root(step: plan.AttachRoot, context: Context) -> None:
    """Put the root file system on the stage; from now on it is `context.root`."""
    place = os.open(context.stage, _DIRECTORY)
    try:
        trees = context.trees.pop(-1, None)
        if trees is not None:
            _attach(trees, place, context.stage)
        elif step.mounts is None:
            _attach(open_tree_clone(step.path, recursive=True), place, context.stage)
        else:
            for mount in step.mounts:
                _attach(detached(mount), place, context.stage)
                os.close(place)
                place = os.open(context.stage, _DIRECTORY)
    finally:
        os.close(place)
    context.root = os.open(context.stage, _DIRECTORY)


def _attach(tree: int, place: int, about: str) -> None:
    """Attach a detached mount, whose descriptor is consumed."""
    try:
        move_mount(tree, place, about=about)
    finally:
        os.close(tree)


def mount_filesystem(step: plan.MountFilesystem, context: Context) -> None:
    """A new file system on a directory of the root, which is made where it is missing."""
    place = _directory(context, step.target, links=step.type not in _NO_LINKS)
    try:
        options = step.options
        held = context.trees.pop(-2, None) if step.type == "sysfs" else None
        tree = held
        if tree is None:
            # Several mounts share one procfs or sysfs: there read-only is this mount's, not the file system's.
            tree = new_filesystem(step.type, step.source, options.data, attributes=options.set | options.recursive_set)
        else:
            set_attributes(tree, set_=options.set | options.recursive_set, about=step.target)
        try:
            if options.copy_up:
                copy_up(place, tree)
            for propagation, recursive in options.propagations:
                set_attributes(tree, propagation=propagation, recursive=recursive, about=step.target)
        except BaseException:
            os.close(tree)
            raise
        _attach(tree, place, step.target)
    finally:
        os.close(place)


def _directory(context: Context, target: str, *, links: bool = True) -> int:
    """The directory at `target` in the root. Raises LaunchFailure for a link where none may be."""
    if links:
        return mkdir_all_in_root(context.root, target)
    try:
        return open_beneath(context.root, target, _DIRECTORY)
    except FileNotFoundError:
        return mkdir_all_in_root(context.root, target)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EXDEV}:
            raise LaunchFailure(
                "mount", f'filesystem "{target}" must be mounted on ordinary directory', error.errno
            ) from None
        raise


def bind_mount(step: plan.BindMount, context: Context, position: int) -> None:
    """A file or directory of the host (or of another mount) in the root."""
    tree = context.trees.pop(position, None)
    if tree is None:
        try:
            tree = detached_bind(step.source, step.options)
        except FileNotFoundError:
            message = f"bind source path does not exist: {step.source}"
            raise LaunchFailure("mount", message, errno.ENOENT) from None
    try:
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            place = mkdir_all_in_root(context.root, step.target)
        else:
            place = create_file_in_root(context.root, step.target)
        try:
            move_mount(tree, place, about=step.target)
        finally:
            os.close(place)
    finally:
        os.close(tree)


def mount_cgroups(step: plan.MountCgroups, context: Context) -> None:
    """The container's view of its control groups: through its cgroup namespace, or bound from the host's tree."""
    hierarchy = context.hierarchy
    if hierarchy is None:
        raise LaunchFailure("mount", "no cgroup hierarchy is known on this host", errno.ENOENT)
    place = mkdir_all_in_root(context.root, step.target)
    try:
        attributes = step.options.set | step.options.recursive_set
        if not hierarchy.mounts:
            _attach(_unified(step, context, attributes), place, step.target)
            return
        # The directory is written to first, and becomes read-only when it is complete.
        writable = attributes & ~MOUNT_ATTR_RDONLY
        top = new_filesystem("tmpfs", "tmpfs", [("mode", "755")], attributes=writable)
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
    tree = open_tree_clone(context.cgroup.paths[""])
    set_attributes(tree, set_=attributes)
    return tree


def _controllers(step: plan.MountCgroups, context: Context, top: int, attributes: int) -> None:
    """One mount for each v1 hierarchy, and links for controllers that share one."""
    assert context.hierarchy is not None
    for mount in context.hierarchy.mounts:
        name = os.path.basename(mount.path)
        os.mkdir(name, 0o755, dir_fd=top)
        if step.private or context.cgroup is None:
            data: list[tuple[str, str | None]] = []
            for controller in mount.controllers:
                if controller.startswith("name="):
                    data += [("none", None), ("name", controller.removeprefix("name="))]
                else:
                    data.append((controller, None))
            tree = new_filesystem("cgroup", "cgroup", data, attributes=attributes)
        else:
            tree = open_tree_clone(context.cgroup.paths[mount.controllers[0]])
            set_attributes(tree, set_=attributes)
        place = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
        try:
            _attach(tree, place, name)
        finally:
            os.close(place)
        if len(mount.controllers) > 1:
            for controller in mount.controllers:
                if controller != name and not controller.startswith("name="):
                    os.symlink(name, controller, dir_fd=top)


def make_device(step: plan.MakeDevice, context: Context) -> None:
    """A node of exactly this number, mode and owner; what stands in its place with another number is an error."""
    directory, name = open_parent_in_root(context.root, step.path)
    try:
        if step.bind:
            _bind_device(step, directory, name)
            return
        kind = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}[step.type]
        number = 0 if step.type == "p" else os.makedev(step.major, step.minor)
        try:
            os.mknod(name, kind | 0o600, number, dir_fd=directory)
        except FileExistsError:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_IFMT(found.st_mode) != kind or (kind != stat.S_IFIFO and found.st_rdev != number):
                raise LaunchFailure(
                    "device", f"{step.path} is not the device that it should be", errno.EEXIST
                ) from None
        # By descriptor, because the umask has a say in mknod and a link must not be followed.
        node = os.open(name, _PATH | os.O_NOFOLLOW, dir_fd=directory)
        try:
            os.chmod(f"/proc/self/fd/{node}", step.mode)
            os.chown(f"/proc/self/fd/{node}", step.uid, step.gid)
        finally:
            os.close(node)
    finally:
        os.close(directory)


def _bind_device(step: plan.MakeDevice, directory: int, name: str) -> None:
    """In a user namespace mknod(2) is refused: the host's node of that number is bound."""
    source = os.open(step.path, _PATH)
    try:
        found = os.fstat(source)
        if (os.major(found.st_rdev), os.minor(found.st_rdev)) != (step.major, step.minor):
            raise LaunchFailure("device", f"{step.path} of the host is another device", errno.ENODEV)
        tree = open_tree_clone("", directory=source)
    finally:
        os.close(source)
    try:
        place = create_file_in_root(directory, name)
        try:
            move_mount(tree, place, about=step.path)
        finally:
            os.close(place)
    finally:
        os.close(tree)


def make_link(step: plan.MakeLink, context: Context) -> None:
    """A symbolic link, unless something stands there."""
    directory, name = open_parent_in_root(context.root, step.path)
    try:
        os.symlink(step.target, name, dir_fd=directory)
    except FileExistsError:
        pass
    finally:
        os.close(directory)


def open_console(step: plan.OpenConsole, context: Context) -> None:
    """A terminal from the container's own devpts: standard streams, controlling terminal and /dev/console."""
    devpts = open_in_root(context.root, "/dev/pts", os.O_RDONLY | os.O_DIRECTORY)
    try:
        master, slave, _number = pty.open_pty(devpts)
    finally:
        os.close(devpts)
    if context.console_size:
        pty.set_size(slave, *context.console_size)
    # The program may open /dev/stdout or /dev/console again as its own user.
    os.fchown(slave, context.uid, -1)
    place = create_file_in_root(context.root, "/dev/console")
    try:
        tree = open_tree_clone("", directory=slave)
        _attach(tree, place, "/dev/console")
    finally:
        os.close(place)
    context.send_terminal(master)
    use_terminal(slave)


def use_terminal(slave: int) -> None:
    """The slave becomes the controlling terminal and the standard streams."""
    pty.make_controlling(slave)
    for standard in (0, 1, 2):
        os.dup2(slave, standard)
    os.close(slave)


def mask_path(step: plan.MaskPath, context: Context) -> None:
    """Hide what is at a path, if anything is."""
    try:
        place = open_in_root(context.root, step.path, _PATH)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if stat.S_ISDIR(os.fstat(place).st_mode):
            tree = new_filesystem(
                "tmpfs", "tmpfs", [("nr_blocks", "1"), ("nr_inodes", "1")], attributes=MOUNT_ATTR_RDONLY
            )
        else:
            tree = open_tree_clone("", directory=context.null)
        _attach(tree, place, step.path)
    finally:
        os.close(place)


def make_readonly(step: plan.MakeReadonly, context: Context) -> None:
    """Bind a path onto itself, read-only with all that is mounted below."""
    try:
        place = open_in_root(context.root, step.path, _PATH)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        tree = open_tree_clone("", directory=place, recursive=True)
        try:
            set_attributes(tree, set_=MOUNT_ATTR_RDONLY, recursive=True, about=step.path)
        except BaseException:
            os.close(tree)
            raise
        _attach(tree, place, step.path)
    finally:
        os.close(place)


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
        tree = os.open(".", _DIRECTORY)
        host = os.open("/", _DIRECTORY)
        move_mount(tree, host, about="/")
        os.close(tree)
        os.close(host)
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


def make_root_readonly(step: plan.MakeRootReadonly, context: Context) -> None:
    """The root mount is not written any more; what is mounted below decides for itself."""
    root = os.open("/", _DIRECTORY)
    try:
        set_attributes(root, set_=MOUNT_ATTR_RDONLY, about="/")
    finally:
        os.close(root)
