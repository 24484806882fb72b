"""json-file: one JSON object a line, exactly as dockerd writes it, because many agents read these files.

    {"log":"text\\n","stream":"stdout","time":"2024-05-01T10:00:00.123456789Z"}
    {"log":"text\\n","stream":"stderr","attrs":{"label":"value"},"time":"..."}

The text is escaped as Go's encoder does it for HTML: `"`, `\\`, control characters, `<`, `>`, `&`, U+2028 and U+2029
are escaped, each byte that is not UTF-8 becomes `\\ufffd`, everything else stands as it is. The writer encodes a run
of lines
with a few passes in C: what needs no escape is found by deleting all harmless bytes, and every newline is replaced by
"end of this record, begin of the next".
"""

from __future__ import annotations

import json
import os

from windlass.logs.frames import format_time
from windlass.logs.rotation import RotatingFile
from windlass.logs.writer import FileLogWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from windlass.logs.options import FileSettings
    from windlass.logs.rotation import Spawn

_ESCAPES = {
    **{code: b"\\u%04x" % code for code in (*range(0x20), *b"<>&")},
    ord("\r"): b"\\r",
    ord('"'): b'\\"',
    ord("\\"): b"\\\\",
}
del _ESCAPES[ord("\n")]  # separates the records: replaced last
_HARMLESS = bytes(code for code in range(256) if code not in _ESCAPES)
_BACKSLASH = ord("\\")
_PREFIX = b'{"log":"'


def escape(text: bytes) -> bytes:
    """`text` as the inside of a JSON string, newlines left alone."""
    for code in sorted(set(text.translate(None, _HARMLESS)), key=_BACKSLASH.__ne__):  # the backslash first
        text = text.replace(bytes((code,)), _ESCAPES[code])
    if text.isascii():
        return text
    try:
        text.decode()
    except UnicodeDecodeError:
        text = _mark_invalid(text)
    if b"\xe2\x80" in text:
        text = text.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return text


def _mark_invalid(text: bytes) -> bytes:
    r"""Each byte that is not part of valid UTF-8 becomes the six characters `\ufffd`."""
    parts: list[bytes] = []
    # In this form an invalid byte is a lone surrogate, which no valid text can contain.
    decoded = text.decode("utf-8", "surrogateescape")
    begin = 0
    for at, char in enumerate(decoded):
        if "\ud800" <= char <= "\udfff":
            parts.append(decoded[begin:at].encode())
            begin = at + 1
    parts.append(decoded[begin:].encode())
    return b"\\ufffd".join(parts)


def encode(pieces: bytes, stream: str, time_ns: int, attrs: bytes = b"") -> bytes:
    """The records of a run of lines, or of one part of a line.

    Args:
        pieces: whole lines, or text without any newline.
        attrs: the attributes' JSON object, or nothing.
    """
    suffix = b'","stream":"%s",' % stream.encode()
    if attrs:
        suffix += b'"attrs":%s,' % attrs
    suffix += b'"time":"%s"}\n' % format_time(time_ns).encode()
    body = escape(pieces)
    if body.endswith(b"\n"):
        return _PREFIX + body[:-1].replace(b"\n", b"\\n" + suffix + _PREFIX) + b"\\n" + suffix
    return _PREFIX + body + suffix


def encode_attributes(attrs: Mapping[str, str]) -> bytes:
    """The attributes as Go marshals a map: sorted, compact, escaped for HTML."""
    if not attrs:
        return b""
    text = json.dumps(dict(sorted(attrs.items())), separators=(",", ":"), ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode("utf-8", "replace")


def last_record_end(descriptor: int, size: int) -> int:
    """Where the last whole record ends: behind the last newline (a writer that was killed may leave a torn line)."""
    end = size
    while end > 0:
        begin = max(0, end - 65536)
        newline = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


class JsonFileWriter(FileLogWriter):
    """Writes one container's output to `path`."""

    __slots__ = ("_attrs",)

    def __init__(self, path: str, settings: FileSettings, *, attrs: Mapping[str, str], spawn: Spawn | None) -> None:
        super().__init__(RotatingFile(path, settings, repair=last_record_end, spawn=spawn))
        self._attrs = encode_attributes(attrs)

    def store(self, piece: bytes, stream: str, time_ns: int) -> None:
        records = encode(piece, stream, time_ns, self._attrs)
        # A record may cross the limit and ends its file, as in dockerd; a run of records is cut there.
        file = self.file
        while len(records) > (room := file.room()):
            cut = records.find(b"\n", room - 1) + 1
            file.append(records[:cut])
            records = records[cut:]
        if records:
            file.append(records)
