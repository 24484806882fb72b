"""What the writers of log files share: chunks in, pieces out, straight to the file."""

from __future__ import annotations

import time

from windlass.logs.lines import LineSplitter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from windlass.logs.rotation import RotatingFile


class FileLogWriter:
    """Writes one container's output. Not thread-safe. What a call completes is in the file when it returns."""

    __slots__ = ("_splitters", "file")

    def __init__(self, file: RotatingFile) -> None:
        self.file = file
        self._splitters = {"stdout": LineSplitter(), "stderr": LineSplitter()}

    @property
    def lost_bytes(self) -> int:
        """How much a full disk has cost."""
        return self.file.lost_bytes

    def write(self, stream: str, data: bytes, timestamp_ns: int) -> None:
        """Take a chunk of `stream` ("stdout" or "stderr"), read at `timestamp_ns`; chunks need not end with a line."""
        for piece, time_ns in self._splitters[stream].feed(data, timestamp_ns):
            self.store(piece, stream, time_ns)

    def flush(self) -> None:
        """The output has ended: write unfinished last lines."""
        for stream, splitter in self._splitters.items():
            for piece, time_ns in splitter.finish(time.time_ns()):
                self.store(piece, stream, time_ns)

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        self.file.close()

    def store(self, piece: bytes, stream: str, time_ns: int) -> None:
        """Write a run of whole lines, or one part of a long line."""
        raise NotImplementedError
