"""How much an archive may ask for. Archives are hostile: a kilobyte can unfold to a petabyte, or to ten million files.

Each limit stops the work with `InvalidParameter` before the resource is spent; what was unpacked until then is thrown
away by whoever asked. The defaults are far above what images of today need and far below what hurts a host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class Limits:
    """Limits of one archive.

    Attributes:
        unpacked_bytes: of the whole stream after decompression, and of all files together (holes of sparse files too).
        ratio: how many times larger than its compressed form a stream may be, counted from `ratio_from` bytes on.
        ratio_from: bytes after decompression below which the ratio does not matter.
        entries: files, directories, links and all the rest.
        devices: block and character devices.
        name_bytes: of all names together, as they are kept while unpacking.
        header_bytes: of one extended header (pax, GNU long name).
        sparse_segments: of one sparse file.
        path_bytes: of one path; the kernel's own limit is 4096 with the NUL (path_resolution(7)).
    """

    unpacked_bytes: int = 512 * _GIB
    ratio: int = 250
    ratio_from: int = _GIB
    entries: int = 5_000_000
    devices: int = 4096
    name_bytes: int = 512 * _MIB
    header_bytes: int = _MIB
    sparse_segments: int = 1_000_000
    path_bytes: int = 4095


DEFAULT_LIMITS: Final = Limits()
