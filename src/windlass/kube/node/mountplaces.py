"""Volumes in a container: which place gets what, with subpaths resolved inside their volume.

A subpath may be exchanged for a link by whoever writes to the volume. So it is opened once, by the kernel and inside
the volume, and the container gets that descriptor; it is held until the container runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self

from windlass.errors import InvalidParameter
from windlass.kernel.paths import mkdir_all_in_root
from windlass.kube.node import environment
from windlass.kube.node.containers import BadContainer, Mount
from windlass.kube.node.volumes import Mounted
from windlass.volumes import open_subpath

Object = dict[str, Any]


class Held:
    """Descriptors that are needed until a container has started."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    def add(self, descriptor: int) -> str:
        """Hold one; the path by which the runtime reaches it."""
        self._descriptors.append(descriptor)
        return f"/proc/{os.getpid()}/fd/{descriptor}"

    def keep_for(self, container: str, held: dict[str, list[int]]) -> None:
        """Hand them over to a container."""
        if self._descriptors:
            held[container] = self._descriptors
            self._descriptors = []


def places(container: Object, volumes: Mapping[str, Mounted], variables: Mapping[str, str], held: Held) -> list[Mount]:
    """The mounts of a container. Raises BadContainer, OSError."""
    found = []
    for each in container.get("volumeMounts") or ():
        volume = volumes.get(each["name"])
        if volume is None:
            raise BadContainer(f'volume "{each["name"]}" is not mounted')
        subpath = each.get("subPath") or environment.expand(each.get("subPathExpr") or "", variables)
        if volume.image:
            found.append(
                Mount(source=volume.image, target=_target(each), read_only=True, is_image=True, subpath=subpath)
            )
            continue
        source = volume.path
        if subpath:
            source = held.add(_open(volume.path, subpath))
        found.append(
            Mount(
                source=source,
                target=_target(each),
                read_only=bool(each.get("readOnly")) or volume.read_only,
                recursive_read_only=each.get("recursiveReadOnly") in ("Enabled", "IfPossible"),
                propagation=each.get("mountPropagation") or "None",
            )
        )
    return found


def _target(each: Object) -> str:
    path = str(each["mountPath"])
    return path if path.startswith("/") else f"/{path}"


def _open(volume: str, subpath: str) -> int:
    """A descriptor of a volume's subpath, which is made as a directory where nothing is there."""
    if subpath.startswith("/") or ".." in subpath.split("/"):
        raise BadContainer(f"failed to prepare subPath for volumeMount: {subpath!r} must stay inside of the volume")
    try:
        return open_subpath(volume, subpath)
    except InvalidParameter:
        pass
    try:
        root = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return mkdir_all_in_root(root, subpath, 0o750)
        finally:
            os.close(root)
    except OSError as error:
        raise BadContainer(f"failed to prepare subPath for volumeMount: {error}") from None
