"""Docker's multiplexed stream: how two outputs share one connection (Engine API, "Attach to a container").

+------+---+---+---+-----------------------+---------...
| type | 0 | 0 | 0 | length, 4 bytes, big  | payload
+------+---+---+---+-----------------------+---------...     type: 0 stdin, 1 stdout, 2 stderr, 3 error from the daemon
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from windlass.logs.entry import LogEntry

STREAM_TYPES = {"stdin": 0, "stdout": 1, "stderr": 2, "systemerr": 3}
_PREFIXES = {name: bytes((number, 0, 0, 0)) for name, number in STREAM_TYPES.items()}


def frame(stream: str, payload: bytes) -> bytes:
    """One frame; `stream` is "stdout", "stderr" or "systemerr"."""
    return _PREFIXES[stream] + len(payload).to_bytes(4, "big") + payload


def render(entries: Iterable[LogEntry], *, multiplex: bool, timestamps: bool = False, details: bool = False) -> bytes:
    """Log entries as `GET /containers/{id}/logs` sends them: one frame for each, or their bare text for a terminal.

    Args:
        multiplex: frames (no terminal) or bare text (terminal).
        timestamps: RFC 3339 with nine digits and a space before each line.
        details: the attributes, as `key=value,key=value` and a space, before each line.
    """
    parts: list[bytes] = []
    append = parts.append
    if not (timestamps or details):
        if not multiplex:
            return b"".join([entry[2] for entry in entries])
        prefixes = _PREFIXES
        for entry in entries:
            line = entry[2]
            append(prefixes[entry[0]])
            append(len(line).to_bytes(4, "big"))
            append(line)
        return b"".join(parts)
    for entry in entries:
        line = entry.line
        if details:
            line = format_attributes(entry.attrs) + b" " + line
        if timestamps:
            line = format_time(entry.time_ns, fixed=True).encode() + b" " + line
        append(frame(entry.stream, line) if multiplex else line)
    return b"".join(parts)


def format_attributes(attrs: dict[str, str] | None) -> bytes:
    """Attributes as the `details` of a log line: sorted, URL-escaped, `a=b,c=d`."""
    from urllib.parse import quote_plus

    pairs = sorted((attrs or {}).items())
    return ",".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in pairs).encode()


def format_time(time_ns: int, *, fixed: bool = False) -> str:
    """RFC 3339 in UTC with nanoseconds; unless `fixed` without trailing zeros of the fraction, as Go prints it."""
    from time import gmtime

    seconds, fraction = divmod(time_ns, 1_000_000_000)
    year, month, day, hour, minute, second = gmtime(seconds)[:6]
    digits = f".{fraction:09}"
    if not fixed:
        digits = digits.rstrip("0").rstrip(".")
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{digits}Z"
