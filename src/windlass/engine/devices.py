"""Device nodes of the host that a container gets: `--device`, and all of them for `--privileged`. Looks at /dev."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from windlass.engine.spec.build import Device
from windlass.errors import InvalidParameter, SystemFailure

# What a container has of its own, or what belongs to one host process only.
_NEVER: Final = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx"})
_KINDS: Final = {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}


def _device(path: str, inside: str, access: str) -> Device | None:
    """The device at `path`, or None if that is none."""
    status = os.lstat(path)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None or kind == "p":
        return None
    return Device(
        path=inside,
        kind=kind,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        access=access,
    )


def _walk(directory: str) -> Iterator[str]:
    with os.scandir(directory) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        path = f"{directory}/{name}"
        try:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                yield from _walk(path)
            else:
                yield path
        except OSError:
            continue


def map_device(mapping: Mapping[str, str]) -> list[Device]:
    """The device, or every device of the directory, that a `--device` names. Raises `SystemFailure`."""
    host, inside, access = mapping["PathOnHost"], mapping["PathInContainer"], mapping["CgroupPermissions"] or "rwm"
    inside = inside or host
    if not set(access) <= set("rwm"):
        raise InvalidParameter(f"invalid device mode: {access}")
    resolved = os.path.realpath(host) if os.path.islink(host) else host
    try:
        found = _device(resolved, inside, access)
        if found is not None:
            return [found]
        if os.path.isdir(resolved):
            below = [
                device
                for path in _walk(resolved)
                if (device := _device(path, inside + path.removeprefix(resolved), access)) is not None
            ]
            if below:
                return below
        reason = "not a device node"
    except OSError as error:
        reason = f"{(error.strerror or '').lower()}: {host}"
    raise SystemFailure(f'error gathering device information while adding custom device "{host}": {reason}')


def host_devices(directory: str = "/dev") -> list[Device]:
    """All devices of the host, for a privileged container."""
    found = []
    for name in sorted(os.listdir(directory)):
        if name in _NEVER:
            continue
        path = f"{directory}/{name}"
        try:
            paths = list(_walk(path)) if stat.S_ISDIR(os.lstat(path).st_mode) else [path]
            found += [device for each in paths if (device := _device(each, each, "rwm")) is not None]
        except OSError:
            continue
    return found


def container_devices(host_config: Mapping[str, Any]) -> list[Device]:
    """The devices that a container is to have. Blocking. Raises `SystemFailure`."""
    mappings: Iterable[Mapping[str, str]] = host_config["Devices"] or ()
    if not host_config["Privileged"]:
        return [device for mapping in mappings for device in map_device(mapping)]
    found = host_devices()
    present = {device.path for device in found}
    for mapping in mappings:
        found += [device for device in map_device(mapping) if device.path not in present]
    return found


def block_device_numbers(limits: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Device numbers of the paths that block I/O limits name. Raises `SystemFailure`."""
    numbers = {}
    for name in (
        "BlkioWeightDevice",
        "BlkioDeviceReadBps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteIOps",
    ):
        for device in limits[name] or ():
            try:
                status = os.stat(device["Path"])
            except OSError as error:
                raise SystemFailure(f"stat {device['Path']}: {(error.strerror or '').lower()}") from None
            if not stat.S_ISBLK(status.st_mode):
                raise SystemFailure(f"{device['Path']}: not a block device")
            numbers[device["Path"]] = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return numbers
