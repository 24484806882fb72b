"""Reading a tar stream: entries one after the other, their data in pieces that are never copied.

    source() ─▶ chunk ─▶ │ header │ data … │ pad │ header │ …      next() → Entry    data() → memoryviews of the chunk

`tarfile` of the standard library reads 15,000 entries a second and trusts much; this reader does only what unpacking
needs, takes the stream as it comes (no seeking), and refuses whatever is malformed. The dialects are merged here: what
leaves `next()` is one `Entry` with long names, owners, times, extended attributes and sparse maps in place.

Not understood on purpose: global pax headers (Docker ignores them, and two readers must see one image), multi-volume
archives, GNU's incremental dumps.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

from windlass.errors import InvalidParameter
from windlass.images.archive.header import (
    BLOCK,
    DEVICES,
    DIRECTORY,
    GNU_LINK,
    GNU_NAME,
    GNU_SPARSE,
    KINDS,
    OLD_REGULAR,
    PAX,
    PAX_GLOBAL,
    PAX_SOLARIS,
    REGULAR,
    XATTR,
    ZEROS,
    Entry,
    check,
    decimal_number,
    decimal_time,
    decode,
    invalid,
    number,
    parse_pax,
)
from windlass.images.archive.limits import DEFAULT_LIMITS, Limits

Source = Callable[[], bytes]
"""Gives the next piece of a stream, empty at its end."""

_SEGMENT: Final = struct.Struct("12s12s")


class TarReader:
    """Entries of a tar stream.

    Args:
        source: the decompressed stream.
        limits: what the archive may ask for.
        complete: whether the end marker (a block of zeros) must be there; without it, a stream that was cut between
            two entries cannot be told from a whole one. Not needed where a digest says so.
    """

    def __init__(self, source: Source, *, limits: Limits = DEFAULT_LIMITS, complete: bool = True) -> None:
        self._source = source
        self._limits = limits
        self._complete = complete
        self._chunk = b""
        self._position = 0
        self._left = 0
        self._padding = 0
        self._entries = 0
        self._devices = 0
        self._bytes = 0
        self._names = 0

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self.next()) is not None:
            yield entry

    def next(self) -> Entry | None:
        """The next entry, after skipping what is left of the last one's data; None at the end."""
        self._skip(self._left + self._padding)
        self._left = self._padding = 0
        records: dict[bytes, bytes] = {}
        xattrs: dict[bytes, bytes] = {}
        sparse_pairs: list[bytes] = []
        long_name: bytes | None = None
        long_link: bytes | None = None
        while True:
            block = self._header_block()
            if block is None:
                if records or xattrs or long_name is not None or long_link is not None:
                    raise invalid("it ends after an extended header")
                return None
            entry, written = decode(block)
            if written in (PAX, PAX_SOLARIS):
                for key, value in parse_pax(self._extension(entry)):
                    if key.startswith(XATTR):
                        xattrs[key[len(XATTR) :]] = value
                    elif key in _SPARSE_PAIRS:
                        sparse_pairs.append(value)
                    else:
                        records[key] = value
            elif written == GNU_NAME:
                long_name = self._extension(entry).rstrip(b"\0")
            elif written == GNU_LINK:
                long_link = self._extension(entry).rstrip(b"\0")
            elif written == PAX_GLOBAL:
                self._extension(entry)
            else:
                break
        if long_name is not None:
            entry = entry._replace(name=long_name)
        if long_link is not None:
            entry = entry._replace(link=long_link)
        if records:
            entry = _completed(entry, records)
        if xattrs:
            entry = entry._replace(xattrs=xattrs)
        if written == OLD_REGULAR and entry.name.endswith(b"/"):
            entry = entry._replace(kind=DIRECTORY, size=0)  # as directories were written before ustar
        self._left = entry.stored
        self._padding = -entry.stored % BLOCK
        if written == GNU_SPARSE:
            entry = self._old_sparse(entry, block)
        elif sparse_pairs or b"GNU.sparse.map" in records or records.get(b"GNU.sparse.major") == b"1":
            entry = self._pax_sparse(entry, records, sparse_pairs)
        elif entry.kind not in KINDS:
            raise invalid(f"entries of type {written!r} are not supported", entry.name)
        self._count(entry)
        return check(entry)

    def data(self) -> Iterator[memoryview]:
        """What the archive stores for the current entry, piece by piece. A view is good until the next one is asked
        for."""
        while self._left:
            if self._position == len(self._chunk):
                self._fill()
            end = min(len(self._chunk), self._position + self._left)
            view = memoryview(self._chunk)[self._position : end]
            self._left -= end - self._position
            self._position = end
            yield view

    def whole(self) -> bytes | None:
        """The current entry's data, where all of it is in memory already (True of most files), else None."""
        end = self._position + self._left
        if end > len(self._chunk):
            return None
        data = self._chunk[self._position : end]
        self._position, self._left = end, 0
        return data

    def finish(self) -> None:
        """Read on to the end of the stream, behind the end of the archive."""
        self._chunk, self._position = b"", 0
        while self._source():
            pass

    def _count(self, entry: Entry) -> None:
        limits = self._limits
        self._entries += 1
        self._bytes += entry.size
        self._names += len(entry.name)
        if entry.kind in DEVICES:
            self._devices += 1
        if self._entries > limits.entries or self._names > limits.name_bytes:
            raise InvalidParameter(f"the archive has too many entries: {limits.entries} are allowed")
        if self._bytes > limits.unpacked_bytes:
            raise InvalidParameter(f"the files of the archive are too large: {limits.unpacked_bytes} bytes are allowed")
        if self._devices > limits.devices:
            raise InvalidParameter(f"the archive has too many devices: {limits.devices} are allowed")
        if len(entry.name) > limits.path_bytes or len(entry.link) > limits.path_bytes:
            raise invalid("a name is too long", entry.name[:100])

    # The stream.

    def _fill(self) -> None:
        chunk = self._source()
        if not chunk:
            raise invalid("unexpected end")
        self._chunk, self._position = chunk, 0

    def _header_block(self) -> bytes | None:
        """The next block; None at the end marker or, unless `complete`, at the end of the stream."""
        end = self._position + BLOCK
        if end <= len(self._chunk):
            block = self._chunk[self._position : end]
            self._position = end
        else:
            rest = self._chunk[self._position :]
            self._chunk, self._position = b"", 0
            while len(rest) < BLOCK:
                chunk = self._source()
                if not chunk:
                    if rest or self._complete:
                        raise invalid("unexpected end")
                    return None
                rest += chunk
            self._chunk, self._position = rest, BLOCK
            block = rest[:BLOCK]
        if block == ZEROS:
            return None
        return block

    def _skip(self, count: int) -> None:
        while count:
            available = len(self._chunk) - self._position
            if count <= available:
                self._position += count
                return
            count -= available
            self._fill()

    def _take(self, count: int) -> bytes:
        """The next `count` bytes, as one piece (small ones only)."""
        parts = []
        while count:
            if self._position == len(self._chunk):
                self._fill()
            part = self._chunk[self._position : self._position + count]
            self._position += len(part)
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _extension(self, entry: Entry) -> bytes:
        if entry.stored > self._limits.header_bytes:
            raise invalid(f"an extended header of {entry.stored} bytes, {self._limits.header_bytes} are allowed")
        data = self._take(entry.stored)
        self._skip(-entry.stored % BLOCK)
        return data

    # Sparse files: four formats for one thing.

    def _old_sparse(self, entry: Entry, block: bytes) -> Entry:
        """GNU's old format: four segments in the header, the rest in blocks behind it."""
        pairs = [block[386 + 24 * i : 410 + 24 * i] for i in range(4)]
        extended = block[482]
        while extended:
            if len(pairs) > self._limits.sparse_segments:
                raise invalid("too many sparse segments", entry.name)
            more = self._take(BLOCK)
            pairs += [more[24 * i : 24 * i + 24] for i in range(21)]
            extended = more[504]
        segments = []
        for pair in pairs:
            offset, length = _SEGMENT.unpack(pair)
            if not offset[0]:
                break
            segments.append((number(offset), number(length)))
        return self._with_segments(entry._replace(kind=REGULAR), number(block[483:495]), segments)

    def _pax_sparse(self, entry: Entry, records: dict[bytes, bytes], pairs: list[bytes]) -> Entry:
        """The pax formats 0.0 (a record per number), 0.1 (one record), 1.0 (before the data)."""
        name = records.get(b"GNU.sparse.name") or entry.name
        entry = entry._replace(name=name)
        size = decimal_number(records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size") or b"")
        if entry.kind != REGULAR:
            raise invalid("a sparse entry that is not a file", name)
        if records.get(b"GNU.sparse.major") == b"1":
            if records.get(b"GNU.sparse.minor") != b"0":
                raise invalid("an unknown sparse format", name)
            numbers, used = self._sparse_map(entry)
            entry = entry._replace(stored=entry.stored - used)
        elif pairs:
            numbers = [decimal_number(value) for value in pairs]
        else:
            numbers = [decimal_number(value) for value in records[b"GNU.sparse.map"].split(b",") if value]
        if len(numbers) % 2:
            raise invalid("a malformed sparse map", name)
        return self._with_segments(entry, size, list(zip(numbers[::2], numbers[1::2], strict=True)))

    def _sparse_map(self, entry: Entry) -> tuple[list[int], int]:
        """The numbers before the data, and how many bytes they took."""
        used, lines, blocks, count = 0, 0, [], -1
        while count < 0 or lines < 1 + 2 * count:
            if used + BLOCK > entry.stored:
                raise invalid("a malformed sparse map", entry.name)
            block = self._take(BLOCK)
            self._left -= BLOCK
            used += BLOCK
            blocks.append(block)
            lines += block.count(b"\n")
            if count < 0:
                count = decimal_number(block.partition(b"\n")[0])
                if count > self._limits.sparse_segments:
                    raise invalid("too many sparse segments", entry.name)
        return [decimal_number(line) for line in b"".join(blocks).split(b"\n")[1 : 1 + 2 * count]], used

    def _with_segments(self, entry: Entry, size: int, pairs: list[tuple[int, int]]) -> Entry:
        if len(pairs) > self._limits.sparse_segments:
            raise invalid("too many sparse segments", entry.name)
        end = total = 0
        for offset, length in pairs:
            if offset < end or length < 0 or offset + length > size:
                raise invalid("a malformed sparse map", entry.name)
            end = offset + length
            total += length
        if total != entry.stored or not 0 <= size < 1 << 62:
            raise invalid("a sparse map that does not fit the data", entry.name)
        segments = tuple(pair for pair in pairs if pair[1])
        return entry._replace(size=size, segments=segments)


_SPARSE_PAIRS: Final = frozenset({b"GNU.sparse.offset", b"GNU.sparse.numbytes"})


def _completed(entry: Entry, records: dict[bytes, bytes]) -> Entry:
    """The entry with what its pax records say; an empty value leaves the header's."""
    changes: dict[str, object] = {}
    for key, value in records.items():
        if not value:
            continue
        match key:
            case b"path":
                changes["name"] = value
            case b"linkpath":
                changes["link"] = value
            case b"uid" | b"gid":
                changes[key.decode()] = decimal_number(value)
            case b"mtime":
                changes["mtime"] = decimal_time(value)
            case b"size" if entry.kind == REGULAR:
                changes["size"] = changes["stored"] = decimal_number(value)
    return entry._replace(**changes) if changes else entry  # type: ignore[arg-type]
