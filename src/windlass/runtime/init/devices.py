"""The steps that fill /dev: nodes, links, the console."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from windlass.kernel import pty
from windlass.kernel.mounts import move_mount, open_tree_clone
from windlass.kernel.paths import create_file_in_root, mkdir_all_in_root, open_in_root
from windlass.runtime.init.context import Context
from windlass.runtime.init.filesystem import attach
from windlass.runtime.plan import steps as plan
from windlass.runtime.wire import LaunchFailure

_PATH: Final = os.O_PATH | os.O_CLOEXEC
KINDS: Final = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def make_devices(step: plan.MakeDevices, context: Context) -> None:
    """Nodes of exactly these numbers, modes and owners in a directory of the root."""
    directory = mkdir_all_in_root(context.root, step.directory)
    try:
        for device in step.devices:
            if step.bind:
                _bind(step.directory, device, directory, context)
            else:
                _make(step.directory, device, directory)
    finally:
        os.close(directory)


def number_of(device: plan.Device) -> int:
    """The device number; a pipe has none."""
    return 0 if device.type == "p" else os.makedev(device.major, device.minor)


def _make(where: str, device: plan.Device, directory: int) -> None:
    try:
        os.mknod(device.name, KINDS[device.type] | device.mode, number_of(device), dir_fd=directory)
    except FileExistsError:
        _adopt(where, device, directory)
        return
    if device.uid or device.gid:
        os.chown(device.name, device.uid, device.gid, dir_fd=directory, follow_symlinks=False)
        if device.mode & 0o6000:
            # chown(2) takes set-id bits away.
            os.chmod(device.name, device.mode, dir_fd=directory)


def _adopt(where: str, device: plan.Device, directory: int) -> None:
    """What stands in a node's place serves if it is the same device; anything else is an error."""
    node = os.open(device.name, _PATH | os.O_NOFOLLOW, dir_fd=directory)
    try:
        found = os.fstat(node)
        same = stat.S_IFMT(found.st_mode) == KINDS[device.type]
        if not same or (device.type != "p" and found.st_rdev != number_of(device)):
            message = f"{where}/{device.name} is not the device that it should be"
            raise LaunchFailure("device", message, errno.EEXIST)
        # By descriptor: the name could be exchanged for a link. The host's procfs is still at /proc.
        os.chown(f"/proc/self/fd/{node}", device.uid, device.gid)
        os.chmod(f"/proc/self/fd/{node}", device.mode)
    finally:
        os.close(node)


def _bind(where: str, device: plan.Device, directory: int, context: Context) -> None:
    """In a user namespace mknod(2) is refused: the node that the parent has made is bound."""
    tree = context.trees.devices.pop((where, device.name))
    try:
        place = create_file_in_root(directory, device.name)
        try:
            move_mount(tree, place, about=f"{where}/{device.name}")
        finally:
            os.close(place)
    finally:
        os.close(tree)


def make_links(step: plan.MakeLinks, context: Context) -> None:
    """Symbolic links, each unless something stands there."""
    directory = mkdir_all_in_root(context.root, step.directory)
    try:
        for name, target in step.links:
            if target == "/proc/kcore" and not os.path.exists(target):
                continue  # a kernel without it; as runc and crun do
            try:
                os.symlink(target, name, dir_fd=directory)
            except FileExistsError:
                continue
    finally:
        os.close(directory)


def open_console(step: plan.OpenConsole, context: Context) -> None:
    """A terminal from the container's own devpts: standard streams, controlling terminal and /dev/console.

    The devpts is the one that we have mounted, by its descriptor, and the slave is the kernel's answer to its master:
    nothing at /dev/pts or /dev/console of the image has a part in it (CVE-2025-52565).
    """
    if context.devpts >= 0:
        pair = pty.open_pty(context.devpts)
    else:
        devpts = open_in_root(context.root, "/dev/pts", os.O_RDONLY | os.O_DIRECTORY)
        try:
            pair = pty.open_pty(devpts)
        finally:
            os.close(devpts)
    place = create_file_in_root(context.root, "/dev/console", 0o600)
    try:
        attach(open_tree_clone("", directory=pair.slave), place, "/dev/console")
    finally:
        os.close(place)
    use_terminal(pair, context)


def use_terminal(pair: pty.Pty, context: Context) -> None:
    """The slave becomes the controlling terminal and the standard streams; the master goes to the parent."""
    if context.console_size:
        pty.set_size(pair.slave, *context.console_size)
    # The program may open /dev/stdout or /dev/console again as its own user.
    os.fchown(pair.slave, context.uid, -1)
    context.send_terminal(pair.master)
    pty.make_controlling(pair.slave)
    for standard in (0, 1, 2):
        os.dup2(pair.slave, standard)
    os.close(pair.slave)
