"""From chunks of output to lines, without looking at each line.

dockerd reads a container's output through a buffer of 16 KiB: what ends in a newline is a line, a buffer that is full
without one becomes a part of a line, and the end of the output ends the last line. So a line of 40,000 bytes is kept
as parts of 16,384, 16,384 and 7,232 bytes, of which only the last carries the newline, and all carry the time of the
first. `LineSplitter` keeps that rule for chunks of any size; it hands on runs of whole lines in one piece, because
the drivers can encode a run with a few passes in C.

    chunk:    ...tail of a line\\nline\\nline\\nbegin
    pieces:   |------------- one run ---------|     carry: "begin", until its newline, 16 KiB or the end
"""

from __future__ import annotations

PART_SIZE = 16 * 1024


class LineSplitter:
    """Splits one stream of output. A piece is `(data, time_ns)`: whole lines, or one part without a newline."""

    __slots__ = ("_carry", "_part_time")

    def __init__(self) -> None:
        self._carry = b""
        self._part_time = 0  # the time of a line's first part while its end is still to come, else 0

    def feed(self, data: bytes, time_ns: int) -> list[tuple[bytes, int]]:
        """The pieces that `data`, read at `time_ns`, completes."""
        buffer = self._carry + data if self._carry else data
        size = len(buffer)
        pieces: list[tuple[bytes, int]] = []
        at = 0
        while at < size:
            if self._part_time:
                newline = buffer.find(b"\n", at, at + PART_SIZE)
                if newline >= 0:
                    pieces.append((buffer[at : newline + 1], self._part_time))
                    at, self._part_time = newline + 1, 0
                    continue
            else:
                end = _end_of_lines(buffer, at, size)
                if end > at:
                    pieces.append((buffer[at:end] if end - at < size else buffer, time_ns))
                    at = end
            if size - at < PART_SIZE:
                break
            self._part_time = self._part_time or time_ns
            pieces.append((buffer[at : at + PART_SIZE], self._part_time))
            at += PART_SIZE
        self._carry = buffer[at:]
        return pieces

    def finish(self, time_ns: int) -> list[tuple[bytes, int]]:
        """The end of the output: what is left is a last line without a newline."""
        rest, time_ns = self._carry, self._part_time or time_ns
        self._carry, self._part_time = b"", 0
        return [(rest, time_ns)] if rest else []


def _end_of_lines(buffer: bytes, at: int, size: int) -> int:
    """Where the run of lines shorter than a part that begins at `at` ends."""
    while size - at >= PART_SIZE:
        newline = buffer.rfind(b"\n", at, at + PART_SIZE)
        if newline < 0:
            return at
        at = newline + 1
    return max(at, buffer.rfind(b"\n", at) + 1)
