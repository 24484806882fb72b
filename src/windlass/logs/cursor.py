"""A position in a log that moves forward: through rotated files, the current one, and its successors.

This is the blocking half of a reader; reader.py runs it in a thread, call by call.

    oldest                                            newest
    path.2.gz -> path.1 -> path          at its end: has `path` become another file?
                            ^ position               then read ours once more (its last words), and go on with
                                                     the files behind it
"""

from __future__ import annotations

import os

from windlass.logs.decoders import Decoder
from windlass.logs.entry import LogEntry
from windlass.logs.files import Inflater, LogFile, open_files

_CHUNK = 512 * 1024
_LONGEST_RECORD = 32 * 1024 * 1024
_HEADER = 1 << 20


class Cursor:
    """Reads one log once. Not thread-safe: one call at a time.

    Args:
        path: the current file of the log; it need not exist yet.
        decoder: the format.
    """

    def __init__(self, path: str, decoder: Decoder) -> None:
        self._path = path
        self._decoder = decoder
        self._files: list[LogFile] = []
        self._attrs: dict[str, str] | None = None
        self._inflater: Inflater | None = None
        self._buffer = b""  # text of a compressed file that is not decoded yet
        self._offset = -1  # in a plain file; -1: its header is not read yet
        self._chunk = _CHUNK
        self._skip = 0  # records to leave out at the begin (tail)
        self._drained = False  # the current file was read to its end after it had been rotated away

    def start(self, *, tail: int | None = None, since_ns: int = 0) -> None:
        """Open the files and go to the begin, or to the last `tail` records.

        Args:
            tail: number of records, None for all.
            since_ns: files that were last written before are not opened at all.
        """
        files = open_files(self._path)
        if tail is None:
            while len(files) > 1 and files[0].mtime_ns < since_ns:
                files.pop(0).close()
            self._files = files
            self._begin_file()
            return
        keep = offset = skip = 0
        for index in reversed(range(len(files))):
            offset, skip, found = self._find_tail(files[index], tail)
            tail -= found
            keep = index
            if tail <= 0:
                break
        for file in files[:keep]:
            file.close()
        self._files = files[keep:]
        self._begin_file()
        self._skip = skip
        if self._files and not self._files[0].compressed:
            self._offset = max(offset, self._offset)

    def read(self) -> list[LogEntry]:
        """The next entries; none where the log ends for now."""
        while self._files or self._succeed():
            buffer = self._fill()
            entries, used = self._decoder.decode(buffer, self._attrs) if buffer else ([], 0)
            if used:
                self._consume(used)
                self._drained = False
                if self._skip:
                    dropped = min(self._skip, len(entries))
                    self._skip -= dropped
                    entries = entries[dropped:]
                if entries:
                    return entries
            elif len(buffer) >= self._chunk and self._chunk < _LONGEST_RECORD:
                self._chunk *= 2
            elif not self._advance():
                break
        return []

    def close(self) -> None:
        """Release the files."""
        for file in self._files:
            file.close()
        self._files = []

    def _find_tail(self, file: LogFile, number: int) -> tuple[int, int, int]:
        if not file.compressed:
            return self._decoder.tail(file.descriptor, file.size(), number)
        inflater = Inflater(file.descriptor)
        buffer = inflater.read(_HEADER)
        length, _ = self._decoder.header(buffer)
        if length < 0:
            return 0, 0, 0
        buffer = buffer[length:]
        total = 0
        while True:
            records, used = self._decoder.count(buffer)
            total += records
            text = inflater.read(_CHUNK)
            if not text:
                found = min(total, number)
                return 0, total - found, found
            buffer = buffer[used:] + text

    def _begin_file(self) -> None:
        """Read the header of the first file, as far as it is written."""
        self._offset, self._buffer, self._inflater, self._attrs = -1, b"", None, None
        self._drained = False
        self._chunk = _CHUNK
        if not self._files:
            return
        file = self._files[0]
        if file.compressed:
            self._inflater = Inflater(file.descriptor)
            self._buffer = self._inflater.read(_HEADER)
        data = self._buffer if file.compressed else os.pread(file.descriptor, _HEADER, 0)
        length, self._attrs = self._decoder.header(data)
        if length >= 0:
            self._offset = length
            self._buffer = self._buffer[length:]

    def _fill(self) -> bytes:
        """Text from the position on: a chunk of it, less at the end."""
        file = self._files[0]
        if self._offset < 0:
            if file.compressed:
                return b""  # not a log of ours
            self._begin_file()
            if self._offset < 0:
                return b""
        if self._inflater is None:
            return os.pread(file.descriptor, self._chunk, self._offset)
        while len(self._buffer) < self._chunk:
            text = self._inflater.read(self._chunk)
            if not text:
                break
            self._buffer += text
        return self._buffer

    def _consume(self, used: int) -> None:
        if self._inflater is None:
            self._offset += used
        else:
            self._buffer = self._buffer[used:]

    def _advance(self) -> bool:
        """Go on behind the end of a file; False where there is nothing yet."""
        if len(self._files) > 1:
            self._files.pop(0).close()
            self._begin_file()
            return True
        file = self._files[0]
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return False
        own = os.fstat(file.descriptor)
        if (status.st_dev, status.st_ino) == (own.st_dev, own.st_ino):
            return False
        if not self._drained:
            # Rotated: nothing is added to our file any more, but something may have been before we noticed.
            self._drained = True
            return True
        return self._succeed()

    def _succeed(self) -> bool:
        """Replace a rotated file by the files that were begun after it."""
        files = open_files(self._path)
        place = 0
        if self._files:
            own = self._files[0]
            own.mtime_ns = os.fstat(own.descriptor).st_mtime_ns
            places = [index for index, file in enumerate(files) if file.is_same(own)]
            place = places[-1] + 1 if places else 0  # not there: dropped for its age, as everything before it
        for file in files[:place]:
            file.close()
        if len(files) <= place:
            return False
        self.close()
        self._files = files[place:]
        self._begin_file()
        return True
