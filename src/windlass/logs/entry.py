"""One record of a log, as it is read back."""

from __future__ import annotations

from typing import NamedTuple


class LogEntry(NamedTuple):
    """A line of output, or a part of a long one.

    Attributes:
        stream: "stdout" or "stderr".
        time_ns: when it was read from the container, nanoseconds since 1970.
        line: its bytes; ends in a newline unless it is a part of a longer line or the unfinished end of the output.
        attrs: labels and environment variables that the log options ask for, or None.
    """

    stream: str
    time_ns: int
    line: bytes
    attrs: dict[str, str] | None = None
