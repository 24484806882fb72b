"""The overlay driver: a layer is a directory of what it adds, a container an upper directory over many of them.

    layers/<name>/fs       what the layer adds; whiteouts and opaque directories as overlay has them
    roots/<name>/fs        upper directory: what the container wrote
    roots/<name>/work      overlay's own

Kernel document: filesystems/overlayfs.rst. Features that put more than files and marks into an upper directory
(redirects, metadata-only copies, an index) are off, so that it stays what a layer may be made of.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from windlass.errors import InvalidParameter, NotImplementedByEngine
from windlass.images import trees
from windlass.images.archive.pack import pack_overlay
from windlass.images.snapshots import changes, implied
from windlass.images.snapshots.directories import Directories, opened
from windlass.images.snapshots.driver import Change, Info
from windlass.kernel.mounts import Mount, detached, mountinfo

_OPTIONS: Final = ("index=off", "metacopy=off", "redirect_dir=nofollow")


class OverlayDriver:
    """See the module."""

    name = "overlay2"
    needs_parent = False

    def __init__(self, root: str) -> None:
        self.root = root
        self._directories = Directories(root)
        self._settling = threading.Lock()

    def open(self) -> None:
        """An overlay on overlay, NFS or FAT is refused by the kernel, and only when it is mounted: try it."""
        try:
            self._directories.open()
            self._probe()
        except OSError as error:
            raise NotImplementedByEngine(f"the overlay storage driver does not work at {self.root}: {error}") from error

    def _probe(self) -> None:
        place = f"{self.root}/probe"
        trees.remove(place)
        try:
            for name in ("", "/lower", "/upper", "/work"):
                os.mkdir(place + name, 0o700)
            os.setxattr(f"{place}/lower", "trusted.overlay.opaque", b"y")
            options = (f"upperdir={place}/upper", f"workdir={place}/work", *_OPTIONS)
            os.close(detached(Mount("overlay", "overlay", options, (f"{place}/lower",))))
        finally:
            trees.remove(place)

    def close(self) -> None:
        """Finish deleting."""
        self._directories.close()

    def prepare(self, name: str, parent: str | None) -> None:
        """Three directories and a link. The root directory itself looks as the parent's does."""
        place = self._directories.add(name)
        try:
            upper = f"{place}/fs"
            os.mkdir(upper)
            os.mkdir(f"{place}/work", 0o700)
            mode, uid, gid = self._appearance(parent)
            os.chmod(upper, mode)
            if uid or gid:
                os.chown(upper, uid, gid)
            self._directories.complete(name, parent)
        except BaseException:
            self._directories.abandon(name)
            raise

    def _appearance(self, parent: str | None) -> tuple[int, int, int]:
        """Mode and owner of the parent's root directory."""
        info = None if parent is None else self._directories.get(parent)
        if info is None:
            return 0o755, 0, 0
        status = os.stat(self._files(info))
        return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid

    def directory(self, name: str) -> str:
        """The layer alone."""
        return self._files(self._directories.find(name))

    def _files(self, info: Info) -> str:
        return f"{self._directories.path(info)}/fs"

    def stand(self, name: str, parent: str | None) -> None:
        """Another link."""
        self._directories.stand(name, parent)

    def imply(self, name: str, directories: Sequence[bytes]) -> None:
        """Noted beside the files."""
        implied.note(self._directories.path(self._directories.find(name)), directories)

    def settle(self, layer: str) -> None:
        """From the layers below."""
        info = self._directories.find(layer)
        with self._settling:
            implied.settle(self._directories.path(info), self._lower(info.parent))

    def commit(self, layer: str, name: str) -> None:
        """A layer has no work directory."""
        trees.remove(f"{self._directories.path(self._directories.find(name))}/work")
        self._directories.commit(layer, name)

    def _lower(self, layer: str | None) -> tuple[str, ...]:
        return tuple(self._files(info) for info in self._directories.chain(layer))

    def mounts(self, name: str, *, read_only: bool = False) -> list[Mount]:
        """An overlay; for nothing below, the directory itself."""
        info = self._directories.find(name)
        place = self._directories.path(info)
        lower = self._lower(info.parent)
        if not lower:
            return [Mount("bind", f"{place}/fs", ("rbind", "ro" if read_only else "rw"))]
        options = (f"upperdir={place}/fs", f"workdir={place}/work", *_OPTIONS, *(("ro",) if read_only else ()))
        return [Mount("overlay", "overlay", options, lower)]

    def view(self, layer: str) -> list[Mount]:
        """An overlay without an upper directory needs two lower ones."""
        lower = self._lower(layer)
        if len(lower) == 1:
            return [Mount("bind", lower[0], ("rbind", "ro"))]
        return [Mount("overlay", "overlay", (*_OPTIONS, "ro"), lower)]

    def remove(self, name: str) -> None:
        """A rename, and the deleting."""
        self._directories.remove(name)

    def stat(self, name: str) -> Info | None:
        """From memory."""
        return self._directories.get(name)

    def walk(self) -> Iterator[Info]:
        """From memory."""
        return self._directories.walk()

    def usage(self, name: str) -> trees.Usage:
        """The upper directory."""
        with opened(self._files(self._directories.find(name))) as fd:
            return trees.usage(fd)

    def changes(self, name: str) -> list[Change]:
        """The upper directory against what is below it."""
        info = self._directories.find(name)
        with opened(self._files(info)) as upper:
            if info.parent is None:
                return changes.of_overlay(upper, -1)
            with self._opened_view(info.parent) as lower:
                return changes.of_overlay(upper, lower)

    @contextlib.contextmanager
    def _opened_view(self, layer: str) -> Iterator[int]:
        """A descriptor of the root of a layer with all below it."""
        mount = self.view(layer)[0]
        if mount.type == "bind":
            with opened(mount.source) as fd:
                yield fd
            return
        tree = detached(mount)
        try:
            with opened(f"/proc/self/fd/{tree}/.") as fd:
                yield fd
        finally:
            os.close(tree)

    def pack(self, name: str) -> Iterator[bytes]:
        """The upper directory, its marks as whiteouts."""
        with opened(self.directory(name)) as upper:
            yield from pack_overlay(upper)

    def check_options(self, options: Mapping[str, str]) -> None:
        """dockerd knows a size, on xfs with project quotas; the kernel has no quota of an overlay's own."""
        for key in options:
            if key.lower() != "size":
                raise InvalidParameter(f"Unknown option {key}")
            raise InvalidParameter(
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option, "
                "which this storage driver does not use"
            )

    def status(self) -> list[tuple[str, str]]:
        """The file system below, and what dockerd's users look for."""
        return [
            ("Backing Filesystem", backing_filesystem(self.root)),
            ("Supports d_type", "true"),
            ("Using metacopy", "false"),
            ("Native Overlay Diff", "true"),
            ("userxattr", "false"),
        ]


def backing_filesystem(path: str) -> str:
    """The type of the file system that a path is on."""
    point = os.path.realpath(path)
    above = [m for m in mountinfo() if point == m.target or point.startswith(m.target.rstrip("/") + "/")]
    return max(above, key=lambda mount: len(mount.target)).type if above else "unknown"
