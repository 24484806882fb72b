"""The fuse-overlayfs driver, where the kernel's overlay is refused: the same directories, joined by a program.

    roots/<name>/merged     where the program has mounted the root of a container, in our mount namespace
    views/<layer>           the same for layers alone

The program leaves us when it has mounted, serves as long as the mount is there, and so outlives the daemon as the
containers do. Mounts are made when they are first asked for (again after a reboot) and taken away with the snapshot.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import Final

from windlass.errors import NotImplementedByEngine, SystemFailure
from windlass.images import trees
from windlass.images.snapshots.directories import opened
from windlass.images.snapshots.overlay import OverlayDriver
from windlass.kernel.mounts import Mount, mountinfo, unmount_all

_PROGRAM: Final = "fuse-overlayfs"


class FuseOverlayDriver(OverlayDriver):
    """See the module."""

    name = "fuse-overlayfs"

    def __init__(self, root: str) -> None:
        super().__init__(os.path.realpath(root))  # as the kernel's list of mounts has it
        self._views = f"{self.root}/views"
        self._lock = threading.Lock()

    def open(self) -> None:
        """Make what is missing, give up what a crash left: first the mounts in it."""
        if shutil.which(_PROGRAM) is None or not os.path.exists("/dev/fuse"):
            raise NotImplementedByEngine(f"the {self.name} storage driver needs {_PROGRAM} and /dev/fuse")
        for point in self._mounted():
            # Layers being made, and what a removal was interrupted at.
            if f"{self.root}/roots/." in point or point.startswith(f"{self.root}/trash/"):
                unmount_all(point)
        super().open()
        os.makedirs(self._views, mode=0o700, exist_ok=True)

    def _probe(self) -> None:
        place = f"{self.root}/probe"
        trees.remove(place)
        try:
            for name in ("", "/a", "/b", "/merged"):
                os.mkdir(place + name, 0o700)
            self._mount(["probe/a", "probe/b"], f"{place}/merged", None)
            unmount_all(f"{place}/merged")
        except SystemFailure as error:
            raise NotImplementedByEngine(str(error)) from error
        finally:
            trees.remove(place)

    def close(self) -> None:
        """Views of layers go; the roots of containers stay."""
        for point in self._mounted():
            if point.startswith(f"{self._views}/"):
                unmount_all(point)
        super().close()

    def _mounted(self) -> list[str]:
        return [mount.target for mount in mountinfo() if mount.target.startswith(f"{self.root}/")]

    def _mount(self, lower: Sequence[str], target: str, upper: str | None) -> None:
        """Have the program join directories, given below our root: so no path of ours can be read as an option."""
        options = [f"lowerdir={':'.join(lower)}"]
        if upper is not None:
            options += [f"upperdir={upper}/fs", f"workdir={upper}/work"]
        command = [_PROGRAM, "-o", ",".join(options), target]
        result = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        if result.returncode:
            raise SystemFailure(f"{_PROGRAM} cannot mount {target}: {result.stderr.strip()}")

    def _relative(self, layer: str | None) -> list[str]:
        return [path.removeprefix(f"{self.root}/") for path in self._lower(layer)]

    def mounts(self, name: str, *, read_only: bool = False) -> list[Mount]:
        """A bind of what the program serves."""
        info = self._directories.find(name)
        place = self._directories.path(info)
        if info.parent is None:
            return super().mounts(name, read_only=read_only)
        merged = f"{place}/merged"
        with self._lock:
            if merged not in self._mounted():
                os.makedirs(merged, mode=0o700, exist_ok=True)
                self._mount(self._relative(info.parent), merged, place.removeprefix(f"{self.root}/"))
        return [Mount("bind", merged, ("rbind", "ro" if read_only else "rw"))]

    def view(self, layer: str) -> list[Mount]:
        """A bind of what the program serves; of a single layer, the layer."""
        lower = self._relative(layer)
        if len(lower) == 1:
            return super().view(layer)
        point = f"{self._views}/{layer}"
        with self._lock:
            if point not in self._mounted():
                os.makedirs(point, mode=0o700, exist_ok=True)
                self._mount(lower, point, None)
        return [Mount("bind", point, ("rbind", "ro"))]

    @contextlib.contextmanager
    def _opened_view(self, layer: str) -> Iterator[int]:
        with opened(self.view(layer)[0].source) as fd:
            yield fd

    def commit(self, layer: str, name: str) -> None:
        """Take the mount away first."""
        self._unmount(name)
        super().commit(layer, name)

    def remove(self, name: str) -> None:
        """Take the mount away first."""
        self._unmount(name)
        super().remove(name)

    def _unmount(self, name: str) -> None:
        info = self._directories.get(name)
        if info is None:
            return
        merged = f"{self._directories.path(info)}/merged"
        with self._lock:
            points = set(self._mounted())
            for point in {merged, f"{self._views}/{name}"} & points:
                unmount_all(point)
            for point in (merged, f"{self._views}/{name}"):
                with contextlib.suppress(FileNotFoundError):
                    os.rmdir(point)

    def status(self) -> list[tuple[str, str]]:
        """The file system below, and the program's version."""
        found = subprocess.run([_PROGRAM, "--version"], capture_output=True, text=True, check=False).stdout
        version = next((line.split()[-1] for line in found.splitlines() if line.startswith(_PROGRAM)), "unknown")
        return [*super().status()[:1], ("fuse-overlayfs", version)]
