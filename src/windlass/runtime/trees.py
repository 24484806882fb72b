"""Detached mounts that a container will get, opened before it exists.

The parent opens them, with the host's rights, paths and mount namespace: so a bind can share its events with the host
(a clone made after the namespaces have parted could not), a source that is missing is found before anything is made,
and the child, which may be nobody on the host, needs only descriptors.

In a user namespace, the root file system is seen through its maps: the layers on disk belong to root, whoever is root
in the container. An overlay cannot be idmapped itself, its layers can (Linux 5.19).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from windlass.kernel import idmap
from windlass.kernel.mount_options import MS_PRIVATE, parse_options
from windlass.kernel.mounts import (
    MNT_DETACH,
    Mount,
    detached,
    detached_bind,
    detached_overlay,
    map_identities,
    move_mount,
    new_filesystem,
    open_tree_clone,
    set_attributes,
    umount2,
)
from windlass.kernel.namespaces import CLONE_NEWNS, unshare
from windlass.kernel.process import filesystem_identity
from windlass.runtime.init.devices import KINDS, number_of
from windlass.runtime.plan import steps as plan
from windlass.runtime.wire import LaunchFailure

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Trees:
    """Descriptors of detached mounts.

    Attributes:
        root: the root file system, of which a later one covers the earlier.
        binds: one for each BindMount of the plan, in order.
        devices: device nodes by (directory, name), for where a container may make none.
        filesystems: by type, those that show a namespace which is not the container's own.
    """

    def __init__(self) -> None:
        self.root: list[int] = []
        self.binds: list[int] = []
        self.devices: dict[tuple[str, str], int] = {}
        self.filesystems: dict[str, int] = {}

    def close(self) -> None:
        """Let go of them; what has been attached stays."""
        for fd in (*self.root, *self.binds, *self.devices.values(), *self.filesystems.values()):
            os.close(fd)
        self.root, self.binds, self.devices, self.filesystems = [], [], {}, {}


def open_trees(steps: plan.Plan, rootfs: Sequence[Mount] | None, path: str, mapping: plan.IdMapping | None) -> Trees:
    """Open what a plan needs.

    Args:
        rootfs: the mounts of the root file system; None for the directory `path` as it is.
        mapping: the maps of the container's user namespace. Then the rest is left to `add_mapped_trees`.

    Raises:
        LaunchFailure: one cannot be opened; all others are closed.
    """
    trees = Trees()
    try:
        for step in steps:
            if isinstance(step, plan.AttachRoot) and (mapping is None or rootfs is None):
                trees.root = _open_root(rootfs, path)
            elif isinstance(step, plan.BindMount):
                trees.binds.append(_open_bind(step))
    except BaseException:
        trees.close()
        raise
    return trees


def add_mapped_trees(
    trees: Trees, steps: plan.Plan, rootfs: Sequence[Mount] | None, mapping: plan.IdMapping, user_namespace: int
) -> None:
    """What a container in a user namespace needs besides: its device nodes, and the root file system as seen through
    the maps.

    Called by a process of its own, with the host's rights: it leaves the host's mount namespace, because until Linux
    6.15 only what is mounted somewhere can be cloned, or be a layer of an overlay.

    Raises:
        LaunchFailure: they cannot be made (before Linux 5.19, or on a file system without idmapped mounts).
    """
    try:
        with _stage() as stage:
            for number, step in enumerate(steps):
                if isinstance(step, plan.MakeDevices) and step.bind:
                    trees.devices |= _open_devices(step, mapping, stage, f"devices-{number}")
            if rootfs is not None:
                trees.root = [_mapped(mount, user_namespace, stage) for mount in rootfs]
    except OSError as error:
        raise _failure("rootfs", "error mounting the root file system for a user namespace", error) from None


@contextmanager
def _stage() -> Iterator[int]:
    """An empty file system mounted where nobody else sees it: its descriptor."""
    unshare(CLONE_NEWNS)
    host = os.open("/", _DIRECTORY)
    try:
        set_attributes(host, propagation=MS_PRIVATE, recursive=True)
        stage = new_filesystem("tmpfs", "stage", [("mode", "700")])
        move_mount(stage, host)
    finally:
        os.close(host)
    try:
        yield stage
    finally:
        # Not to be covered by it: who is, counts as chrooted, and may make no user namespace.
        umount2(f"/proc/self/fd/{stage}", MNT_DETACH)
        os.close(stage)


def _open_root(rootfs: Sequence[Mount] | None, path: str) -> list[int]:
    try:
        if rootfs is None:
            return [open_tree_clone(path, recursive=True)]
        return [detached(mount) for mount in rootfs]
    except OSError as error:
        raise _failure("rootfs", "error mounting the root file system", error) from None


def _open_bind(step: plan.BindMount) -> int:
    try:
        tree = detached_bind(step.source, step.options)
    except FileNotFoundError:
        message = f'error mounting "{step.source}" to rootfs at "{step.target}": no such file or directory'
        raise LaunchFailure("mount", message, errno.ENOENT) from None
    except OSError as error:
        raise _failure("mount", f'error mounting "{step.source}" to rootfs at "{step.target}"', error) from None
    if step.mapping is not None:
        try:
            _map(tree, step.mapping, recursive=step.options.recursive_idmap, about=step.source)
        except BaseException:
            os.close(tree)
            raise
    return tree


def _map(tree: int, mapping: plan.IdMapping, *, recursive: bool, about: str) -> None:
    try:
        table = idmap.make_table(mapping.users, mapping.groups)
        try:
            map_identities(tree, table, recursive=recursive, about=about)
        finally:
            os.close(table)
    except OSError as error:
        raise _failure("mount", f"cannot map the users of {about}", error) from None


def _open_devices(
    step: plan.MakeDevices, mapping: plan.IdMapping, stage: int, prefix: str
) -> dict[tuple[str, str], int]:
    """Nodes in a file system of ours, which the container never sees as a whole."""
    found: dict[tuple[str, str], int] = {}
    before = os.umask(0)
    try:
        for position, device in enumerate(step.devices):
            name = f"{prefix}-{position}"
            os.mknod(name, KINDS[device.type] | device.mode, number_of(device), dir_fd=stage)
            uid, gid = _on_host(device.uid, mapping.users), _on_host(device.gid, mapping.groups)
            os.chown(name, uid, gid, dir_fd=stage, follow_symlinks=False)
            found[step.directory, device.name] = open_tree_clone(name, directory=stage)
    finally:
        os.umask(before)
    return found


def _on_host(identity: int, lines: Sequence[tuple[int, int, int]]) -> int:
    for inside, outside, size in lines:
        if inside <= identity < inside + size:
            return outside + identity - inside
    return identity


def _mapped(mount: Mount, user_namespace: int, stage: int) -> int:
    options = parse_options(mount.options)
    if mount.type != "overlay":
        tree = detached(mount)
        try:
            map_identities(tree, user_namespace, recursive=options.recursive_bind, about=mount.source)
        except BaseException:
            os.close(tree)
            raise
        return tree
    held: list[int] = []

    def layer(path: str) -> str:
        tree = open_tree_clone(path)
        held.append(tree)
        map_identities(tree, user_namespace, about=path)
        os.mkdir(str(len(held)), dir_fd=stage)
        place = os.open(str(len(held)), _DIRECTORY, dir_fd=stage)
        try:
            move_mount(tree, place)
        finally:
            os.close(place)
        return f"/proc/self/fd/{tree}"

    try:
        lower = [layer(path) for path in mount.lower]
        data = dict(options.data)
        if upper := data.get("upperdir"):
            # Both must be on one mount: that of the directory which holds them.
            work = data.get("workdir") or upper
            parent = os.path.commonpath([os.path.dirname(upper), os.path.dirname(work)])
            above = layer(parent)
            mapped_upper = f"{above}/{os.path.relpath(upper, parent)}"
            data |= {"upperdir": mapped_upper, "workdir": f"{above}/{os.path.relpath(work, parent)}"}
            owner = os.stat(mapped_upper)
        else:
            owner = os.stat(lower[0])
        attributes = options.set | options.recursive_set
        # The overlay makes files of its own as whoever mounts it: that must be somebody whom the map knows.
        with filesystem_identity(owner.st_uid, owner.st_gid):
            return detached_overlay(mount.source or "overlay", lower, list(data.items()), attributes)
    finally:
        for fd in held:
            os.close(fd)


def _failure(stage: str, message: str, error: OSError) -> LaunchFailure:
    what = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    return LaunchFailure(stage, f"{message}: {what}", error.errno or 0)
