"""local: the compact binary format, for logs that nobody but the engine reads.

A file is a header and blocks. A block is a run of whole lines (or one part of a long line) of one stream, read at one
moment; its length stands at both ends, so a reader can walk in both directions.

    file   = "WLLOG1\\n" | u32 length of attrs | attrs: JSON object or nothing | block*
    block  = u32 length of text | u8 stream (1 stdout, 2 stderr) | u8 flags (1: part of a line) | u16 0 | i64 time, ns
             | text | u32 length of text                                             all little-endian

A block that is cut off (the writer was killed) is dropped when the file is next opened for writing, and ignored by
readers. Files are rotated and compressed like json-file's.
"""

from __future__ import annotations

import os

from windlass.logs.jsonfile import encode_attributes
from windlass.logs.rotation import RotatingFile
from windlass.logs.writer import FileLogWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from windlass.logs.options import FileSettings
    from windlass.logs.rotation import Spawn

MAGIC = b"WLLOG1\n"
HEAD_SIZE = 16
TAIL_SIZE = 4
MAX_TEXT = 1 << 24
"""No writer makes a longer block: whoever reads a greater length looks at damage."""
STREAMS = {1: "stdout", 2: "stderr"}
PART = 1
_NUMBERS = {name: number for number, name in STREAMS.items()}


def file_header(attrs: bytes) -> bytes:
    """What a file begins with."""
    return MAGIC + len(attrs).to_bytes(4, "little") + attrs


def read_file_header(data: bytes) -> tuple[int, bytes] | None:
    """(length of the header, attrs) of a file that begins with `data`, None if it is not one of ours or cut off."""
    start = len(MAGIC) + 4
    if len(data) < start or not data.startswith(MAGIC):
        return None
    length = int.from_bytes(data[len(MAGIC) : start], "little")
    if len(data) < start + length:
        return None
    return start + length, data[start : start + length]


def encode_block(text: bytes, stream: str, time_ns: int) -> bytes:
    """One block; `text` is whole lines, or a part without a newline."""
    length = len(text).to_bytes(4, "little")
    flags = b"\0\0\0" if text.endswith(b"\n") else b"\1\0\0"
    head = b"%s%c%s%s" % (length, _NUMBERS[stream], flags, time_ns.to_bytes(8, "little", signed=True))
    return head + text + length


def block_length(head: bytes) -> int:
    """The length of the text of the block that begins with `head`; -1 if it is cut off or no block."""
    if len(head) < HEAD_SIZE:
        return -1
    length = int.from_bytes(head[:4], "little")
    return length if head[4] in STREAMS and head[5] <= PART and head[6:8] == b"\0\0" and length <= MAX_TEXT else -1


def last_block_end(descriptor: int, size: int) -> int:
    """Where the last whole block ends; 0 if the file does not even begin as ours."""
    header = read_file_header(os.pread(descriptor, min(size, 1 << 20), 0))
    if header is None:
        return 0
    end = header[0]
    while True:
        length = block_length(os.pread(descriptor, HEAD_SIZE, end))
        behind = end + HEAD_SIZE + length
        if length < 0 or os.pread(descriptor, TAIL_SIZE, behind) != length.to_bytes(4, "little"):
            return end
        end = behind + TAIL_SIZE


class LocalWriter(FileLogWriter):
    """Writes one container's output to `path`."""

    __slots__ = ()

    def __init__(self, path: str, settings: FileSettings, *, attrs: Mapping[str, str], spawn: Spawn | None) -> None:
        header = file_header(encode_attributes(attrs))
        super().__init__(RotatingFile(path, settings, repair=last_block_end, header=header, spawn=spawn))

    def store(self, piece: bytes, stream: str, time_ns: int) -> None:
        # As with json-file, the line that crosses the limit is the last of its file.
        while True:
            room = self.file.room()
            if len(piece) <= room or (cut := piece.find(b"\n", room - 1) + 1) in (0, len(piece)):
                self.file.append(encode_block(piece, stream, time_ns))
                return
            self.file.append(encode_block(piece[:cut], stream, time_ns))
            piece = piece[cut:]
