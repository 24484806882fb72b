"""The overlay driver: each layer a directory, a container an upper directory over them (overlayfs.rst).

    <root>/
      layers/<hex of the chain ID>/fs       what the layer adds; whiteouts as overlay has them
      roots/<name>/fs                       what a container wrote
      roots/<name>/work                     overlay's own
      roots/<name>/lower                    the lower directories, topmost first, one a line
      staging/<random>/fs                   a layer being unpacked
      trash/<random>                        renamed away, being deleted

A removal is a rename; the deleting that follows may be interrupted and is finished by the next start.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from windlass.errors import NotFound, NotImplementedByEngine
from windlass.images import trees
from windlass.images.layering.driver import Staging
from windlass.kernel.mounts import Mount, detached, mountinfo
from windlass.oci.digest import Digest

_LOWER: Final = "lower"


class OverlayDriver:
    """See the module."""

    name = "overlay2"
    needs_parent = False

    def __init__(self, root: Path) -> None:
        self._root = root
        self._layers = root / "layers"
        self._roots = root / "roots"
        self._staging = root / "staging"
        self._trash = root / "trash"

    def open(self) -> None:
        """Make directories, delete what is in the trash, check that the kernel makes an overlay here."""
        for directory in (self._layers, self._roots, self._staging, self._trash):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self._staging.iterdir():
            left.rename(self._trash / secrets.token_hex(8))
        for left in self._trash.iterdir():
            trees.remove(str(left))
        self._probe()

    def _probe(self) -> None:
        """An overlay on overlay, NFS or FAT is refused by the kernel, and only when it is mounted."""
        place = self._staging / "probe"
        try:
            for name in ("lower", "fs", "work"):
                (place / name).mkdir(parents=True)
            options = (f"upperdir={place / 'fs'}", f"workdir={place / 'work'}")
            os.close(detached(Mount("overlay", "overlay", options, (str(place / "lower"),))))
        except OSError as error:
            raise NotImplementedByEngine(
                f"the overlay storage driver does not work at {self._root}: {error}"
            ) from error
        finally:
            trees.remove(str(place))

    # Layers

    def _layer(self, chain_id: Digest) -> Path:
        return self._layers / chain_id.partition(":")[2]

    def begin(self, chain_id: Digest, parent: Digest | None) -> Staging:
        """A directory of its own."""
        holder = self._staging / secrets.token_hex(8)
        holder.mkdir(mode=0o700)
        (holder / "fs").mkdir(mode=0o755)
        return Staging(chain_id, holder / "fs", holder)

    def publish(self, staging: Staging) -> None:
        """One rename."""
        try:
            staging.holder.rename(self._layer(staging.chain_id))
        except OSError:
            if not self.has(staging.chain_id):
                raise
            self.discard(staging)

    def discard(self, staging: Staging) -> None:
        """Delete what was unpacked."""
        self._throw_away(staging.holder)

    def has(self, chain_id: Digest) -> bool:
        """Whether the rename has happened."""
        return self._layer(chain_id).exists()

    def layers(self) -> list[Digest]:
        """All of them."""
        return [Digest(f"sha256:{name}") for name in os.listdir(self._layers)]

    def layer_path(self, chain_id: Digest) -> Path:
        """The directory of a layer's files."""
        return self._layer(chain_id) / "fs"

    def remove(self, chain_id: Digest) -> None:
        """A rename, and the deleting."""
        self._throw_away(self._layer(chain_id))

    # Writable roots

    def prepare(self, name: str, chain: Sequence[Digest], base: Path | None) -> None:
        """Three directories and a file; it exists when the file does, which is written last."""
        root = self._roots / name
        lower = [str(base)] if base is not None else []
        lower += [str(self.layer_path(chain_id)) for chain_id in reversed(chain)]
        try:
            root.mkdir(mode=0o700)
        except FileExistsError:
            # Left by a crash between here and the record of its owner: nobody knows it.
            self._throw_away(root)
            root.mkdir(mode=0o700)
        upper = root / "fs"
        upper.mkdir(mode=0o755)
        (root / "work").mkdir(mode=0o700)
        if lower:
            # The root directory itself looks as the topmost layer's does.
            status = os.stat(lower[0])
            os.chown(upper, status.st_uid, status.st_gid)
            os.chmod(upper, status.st_mode & 0o7777)
        (root / _LOWER).write_text("\n".join(lower))

    def mounts(self, name: str, *, read_only: bool = False) -> list[Mount]:
        """An overlay; for nothing below, the directory itself."""
        root = self._roots / name
        try:
            lower = tuple((root / _LOWER).read_text().split("\n"))
        except FileNotFoundError:
            raise NotFound(f"no such root file system: {name}") from None
        if lower == ("",):
            return [Mount("bind", str(root / "fs"), ("rbind", "ro" if read_only else "rw"))]
        options = (f"upperdir={root / 'fs'}", f"workdir={root / 'work'}", *(("ro",) if read_only else ()))
        return [Mount("overlay", "overlay", options, lower)]

    def view(self, chain: Sequence[Digest]) -> list[Mount]:
        """The layers alone. An overlay without an upper directory needs two lower ones."""
        lower = tuple(str(self.layer_path(chain_id)) for chain_id in reversed(chain))
        if len(lower) == 1:
            return [Mount("bind", lower[0], ("rbind", "ro"))]
        return [Mount("overlay", "overlay", ("ro",), lower)]

    def release(self, name: str) -> None:
        """A rename, and the deleting."""
        self._throw_away(self._roots / name)

    def names(self) -> list[str]:
        """All of them."""
        return os.listdir(self._roots)

    def status(self) -> list[tuple[str, str]]:
        """The file system below, and what dockerd's users look for."""
        point = str(self._root.resolve())
        best = max(
            (
                mount
                for mount in mountinfo()
                if point == mount.target or point.startswith(mount.target.rstrip("/") + "/")
            ),
            key=lambda mount: len(mount.target),
        )
        return [
            ("Backing Filesystem", best.type),
            ("Supports d_type", "true"),
            ("Using metacopy", "false"),
            ("Native Overlay Diff", "true"),
            ("userxattr", "false"),
        ]

    def chain_of(self, name: str) -> list[Digest]:
        """From the list of lower directories."""
        layers = str(self._layers) + "/"
        try:
            lower = (self._roots / name / _LOWER).read_text().split("\n")
        except FileNotFoundError:
            return []
        found = [line.removeprefix(layers).partition("/")[0] for line in lower if line.startswith(layers)]
        return [Digest(f"sha256:{name}") for name in reversed(found)]

    def changes(self, name: str) -> Path | None:
        """The upper directory."""
        return self._roots / name / "fs"

    def _throw_away(self, path: Path) -> None:
        gone = self._trash / secrets.token_hex(8)
        with contextlib.suppress(FileNotFoundError):
            path.rename(gone)
            trees.remove(str(gone))
