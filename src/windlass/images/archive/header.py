"""The blocks of a tar archive: one header of 512 bytes, read and written.

      0 name[100]   100 mode[8]   108 uid[8]   116 gid[8]   124 size[12]   136 mtime[12]   148 checksum[8]   156 type
    157 link[100]   257 magic[8]  265 user[32] 297 group[32] 329 major[8]  337 minor[8]    345 prefix[155]   500 padding

Three dialects share this block: POSIX ustar (name = prefix/name), GNU (no prefix; numbers too large for octal digits
are binary; long names in entries `L` and `K` before the header), and pax, which puts records `length key=value` in an
entry `x` before the header they complete (POSIX.1-2017, pax, "pax Interchange Format"; GNU tar manual, "Tar
Internals"). What is written here is ustar, with pax records for whatever ustar cannot say, so that equal trees give
equal bytes.

Names are bytes, as the kernel has them. Errors are `InvalidParameter`, as all archives come from outside.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from windlass.errors import InvalidParameter

BLOCK: Final = 512
ZEROS: Final = bytes(BLOCK)

REGULAR, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (bytes((c,)) for c in b"0123456")
PAX, PAX_SOLARIS, PAX_GLOBAL, GNU_NAME, GNU_LINK, GNU_SPARSE = b"x", b"X", b"g", b"L", b"K", b"S"
OLD_REGULAR: Final = b"\0"
_REGULAR_KINDS: Final = frozenset({REGULAR, OLD_REGULAR, b"7"})
KINDS: Final = frozenset({REGULAR, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO})
DEVICES: Final = frozenset({CHARACTER, BLOCK_DEVICE})

XATTR: Final = b"SCHILY.xattr."
"""The prefix of the pax records that carry extended attributes (star, GNU tar, Go, libarchive)."""

_FIELDS: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_USTAR, _GNU = b"ustar\x0000", b"ustar  \x00"
_MOST_SIZE: Final = 1 << 62
MOST_ID: Final = (1 << 32) - 2
_MOST_SECONDS: Final = 1 << 40
_DECIMAL: Final = re.compile(rb"(-?)([0-9]+)(?:\.([0-9]*))?")
_NO_XATTRS: Final[Mapping[bytes, bytes]] = MappingProxyType({})
_NANO: Final = 1_000_000_000


class Entry(NamedTuple):
    """One member of an archive.

    Attributes:
        name: path as the archive has it; a directory's may end in `/`.
        kind: REGULAR, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY or FIFO.
        size: bytes of the file, holes included; 0 for all but regular files.
        mtime: nanoseconds since the epoch.
        link: target of a link.
        segments: (offset, length) of the parts of a sparse file that are not holes; None for an ordinary file.
        stored: bytes that the archive holds for it.
    """

    name: bytes
    kind: bytes
    size: int = 0
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[bytes, bytes] = _NO_XATTRS
    segments: tuple[tuple[int, int], ...] | None = None
    stored: int = 0


def invalid(reason: str, name: bytes | None = None) -> InvalidParameter:
    """The error for an archive that is not as it should be."""
    about = "" if name is None else f": {os.fsdecode(name)}"
    return InvalidParameter(f"invalid tar archive: {reason}{about}")


def number(field: bytes) -> int:
    """A numeric field: octal digits, or GNU's binary form (first bit set)."""
    digits = field[:-1]
    if digits.isdigit() and field[-1] in b"\0 ":  # as nearly all are
        text = digits
    elif field[0] & 0x80:
        return _binary(field)
    else:
        text = field.partition(b"\0")[0].strip(b" ")
        if not text:
            return 0
        if not text.isdigit():
            raise invalid("a numeric field is not a number")
    try:
        return int(text, 8)
    except ValueError:
        raise invalid("a numeric field is not octal") from None


def _binary(field: bytes) -> int:
    value = int.from_bytes(field, "big", signed=False)
    bits = 8 * len(field)
    if field[0] & 0x40:
        return value - (1 << bits)
    return value - (1 << (bits - 1))


def decode(block: bytes) -> tuple[Entry, bytes]:
    """Read a header block. Returns the entry and its type as written (`kind` is the same for ordinary ones).

    `stored` is the number of bytes that follow; an entry of a kind that has no data has none, whatever its size says.
    """
    name, mode, uid, gid, size, mtime, checksum, kind, link, magic, _, _, major, minor, prefix = _FIELDS.unpack(block)
    if sum(block) - sum(checksum) + 256 != number(checksum) and not _signed_matches(block, checksum):
        raise invalid("bad header checksum")
    name = name.partition(b"\0")[0]
    if magic == _USTAR and prefix[0]:
        name = prefix.partition(b"\0")[0] + b"/" + name
    length = number(size)
    if not 0 <= length < _MOST_SIZE:
        raise invalid("a size is out of range", name)
    written = kind
    if kind in _REGULAR_KINDS:
        kind = REGULAR
    header_only = kind in KINDS and kind != REGULAR
    entry = Entry(
        name,
        kind,
        0 if header_only else length,
        number(mode) & 0o7777,
        number(uid),
        number(gid),
        number(mtime) * _NANO,
        link.partition(b"\0")[0],
        number(major) if kind in DEVICES else 0,
        number(minor) if kind in DEVICES else 0,
        _NO_XATTRS,
        None,
        0 if header_only else length,
    )
    return entry, written


def _signed_matches(block: bytes, checksum: bytes) -> bool:
    """Some old tars summed signed characters."""
    signed: int = sum(struct.unpack("148b8x356b", block)) + 256
    return signed == number(checksum)


def check(entry: Entry) -> Entry:
    """Ranges that hold after all extensions have been applied."""
    if not (0 <= entry.uid <= MOST_ID and 0 <= entry.gid <= MOST_ID):
        raise invalid("an owner is out of range", entry.name)
    if abs(entry.mtime) > _MOST_SECONDS * _NANO:
        raise invalid("a time is out of range", entry.name)
    if entry.kind in DEVICES and not (0 <= entry.major < 1 << 12 and 0 <= entry.minor < 1 << 20):
        raise invalid("a device number is out of range", entry.name)
    if b"\0" in entry.name or b"\0" in entry.link:
        raise invalid("a name with a NUL", entry.name.replace(b"\0", b"?"))
    return entry


def parse_pax(data: bytes) -> list[tuple[bytes, bytes]]:
    """The records of a pax header, in order."""
    records = []
    position, end = 0, len(data)
    while position < end:
        space = data.find(b" ", position, position + 20)
        digits = data[position:space] if space > 0 else b""
        if not digits.isdigit():
            if not data[position:].strip(b"\0"):
                break  # padding inside the declared size
            raise invalid("a pax record without a length")
        following = position + int(digits)
        key, equals, value = data[space + 1 : following - 1].partition(b"=")
        if following > end or following <= space + 2 or data[following - 1] != 0x0A or not equals or not key:
            raise invalid("a malformed pax record")
        records.append((key, value))
        position = following
    return records


def decimal_number(value: bytes) -> int:
    """A pax record's whole number, not negative."""
    if not value.isdigit() or len(value) > 20:
        raise invalid("a pax record is not a number")
    return int(value)


def decimal_time(value: bytes) -> int:
    """A pax time (decimal seconds) in nanoseconds."""
    match = _DECIMAL.fullmatch(value)
    if match is None or len(match[2]) > 20:
        raise invalid("a pax record is not a time")
    nanoseconds = int(match[2]) * _NANO + int((match[3] or b"").ljust(9, b"0")[:9])
    return -nanoseconds if match[1] else nanoseconds


def encode(entry: Entry) -> bytes:
    """The header blocks of an entry: pax ones where needed, then ustar.

    For a sparse file (`segments`), the caller writes `sparse_map(...)` before the data, in pax format 1.0.
    """
    records: list[tuple[bytes, bytes]] = []
    name, prefix = entry.name, b""
    if entry.segments is not None:
        records += [
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", entry.name),
            (b"GNU.sparse.realsize", b"%d" % entry.size),
        ]
        directory, _, base = name.rpartition(b"/")
        name = (directory + b"/" if directory else b"") + b"GNUSparseFile.0/" + base
    if len(name) > 100 or not name.isascii():
        split = _split(name) if name.isascii() else None
        if split is None:
            records.append((b"path", name))
            name = name[:100]
        else:
            prefix, name = split
    link = entry.link
    if len(link) > 100 or not link.isascii():
        records.append((b"linkpath", link))
        link = link[:100]
    seconds, fraction = divmod(entry.mtime, _NANO)
    if fraction or not 0 <= seconds < 1 << 33:
        records.append((b"mtime", _time(entry.mtime)))
        seconds = min(max(seconds, 0), (1 << 33) - 1)
    stored = entry.stored if entry.kind == REGULAR else 0
    octal = [entry.uid, entry.gid, stored]
    for position, (key, limit) in enumerate(((b"uid", 1 << 21), (b"gid", 1 << 21), (b"size", 1 << 33))):
        if octal[position] >= limit:
            records.append((key, b"%d" % octal[position]))
            octal[position] = 0
    for key in sorted(entry.xattrs):
        records.append((XATTR + key, entry.xattrs[key]))
    block = _block(name, entry.mode, octal, seconds, entry.kind, link, entry.major, entry.minor, prefix)
    return (_pax_header(entry.name, records) + block) if records else block


def _block(
    name: bytes,
    mode: int,
    numbers: list[int],
    seconds: int,
    kind: bytes,
    link: bytes,
    major: int,
    minor: int,
    prefix: bytes,
) -> bytes:
    block = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0        %b%b%b%b%07o\0%07o\0%b" % (
        name.ljust(100, b"\0"),
        mode,
        numbers[0],
        numbers[1],
        numbers[2],
        seconds,
        kind,
        link.ljust(100, b"\0"),
        _USTAR,
        _NOBODY,
        major,
        minor,
        prefix.ljust(167, b"\0"),
    )
    return b"%b%06o\0 %b" % (block[:148], sum(block), block[156:])


_NOBODY: Final = bytes(64)
"""User and group names: those of this host mean nothing elsewhere."""


def _pax_header(name: bytes, records: list[tuple[bytes, bytes]]) -> bytes:
    if any(not _is_text(value) for key, value in records if key in _NAME_KEYS):
        records = [(b"hdrcharset", b"BINARY"), *records]
    data = b"".join(_record(key, value) for key, value in records)
    base = b"PaxHeaders.0/" + (name.rstrip(b"/").rpartition(b"/")[2][:80] or b"root")
    if not base.isascii():
        base = b"PaxHeaders.0/entry"
    block = _block(base, 0o644, [0, 0, len(data)], 0, PAX, b"", 0, 0, b"")
    return block + data + bytes(-len(data) % BLOCK)


_NAME_KEYS: Final = frozenset({b"path", b"linkpath", b"GNU.sparse.name"})


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _record(key: bytes, value: bytes) -> bytes:
    """`length key=value\\n`, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _time(nanoseconds: int) -> bytes:
    sign = b"-" if nanoseconds < 0 else b""
    seconds, fraction = divmod(abs(nanoseconds), _NANO)
    digits = (b".%09d" % fraction).rstrip(b"0") if fraction else b""
    return b"%b%d%b" % (sign, seconds, digits)


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Split at a slash so that both parts fit into ustar's two fields."""
    cut = name.find(b"/", max(len(name) - 101, 0), 156)
    while cut > 0:
        if len(name) - cut - 1 <= 100 and len(name) > cut + 1:
            return name[:cut], name[cut + 1 :]
        cut = name.find(b"/", cut + 1, 156)
    return None


def sparse_map(segments: tuple[tuple[int, int], ...]) -> bytes:
    """The map that stands before the data of a sparse file (pax format 1.0), padded to whole blocks."""
    lines = [b"%d\n" % len(segments), *(b"%d\n%d\n" % segment for segment in segments)]
    data = b"".join(lines)
    return data + bytes(-len(data) % BLOCK)
