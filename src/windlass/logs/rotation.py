"""A log file that never grows beyond its limit: path, path.1, path.2.gz … as dockerd names them.

    path        being written                       path.1 … path.N    older and older, N = max_files - 1
    path.K.gz   compressed in the background        path.<pid>.gz.tmp  being compressed now
    path.new    the next `path`, for the moment of the rotation

Rotation renames from the oldest to the newest and then begins a new `path`, so a reader that holds the old file open
reads it to its end and finds its successor by inode (see files.py). Compression runs in a child process, because the
writer's only thread belongs to the container's output; the writer alone renames, so a file that moves on while it is
being compressed still gets its right name. The gzip comment keeps what is lost with the plain file: its inode.

A disk that is full costs log lines, never the container: what cannot be written whole is taken back and counted.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.logs.options import FileSettings

    Repair = Callable[[int, int], int]
    """(descriptor, size) -> where the last whole record ends."""
    Spawn = Callable[[Callable[[], None], Callable[[bool], None]], int]
    """Run the first function in a child process, call the second with its success afterwards -> the child's pid."""

_FILE_MODE = 0o640
_CHUNK = 1 << 20


class RotatingFile:
    """The files of one log, for one writer.

    Args:
        path: the current file.
        repair: finds the end of the last whole record of a file that another writer left, perhaps torn.
        header: what every file begins with; an existing file that begins differently is rotated away.
        spawn: runs compression in a child; None compresses at once (no event loop: tools and tests).
    """

    __slots__ = ("_compressing", "_descriptor", "_header", "_pid", "_settings", "_size", "_spawn", "lost_bytes", "path")

    def __init__(
        self, path: str, settings: FileSettings, *, repair: Repair, header: bytes = b"", spawn: Spawn | None = None
    ) -> None:
        self.path = path
        self.lost_bytes = 0
        self._settings = settings
        self._header = header
        self._spawn = spawn
        self._compressing = 0  # the number N of the path.N that a child is compressing, 0 if none
        self._pid = 0
        self._tidy()
        self._descriptor = self._open(path)
        self._size = os.fstat(self._descriptor).st_size
        if self._size:
            end = repair(self._descriptor, self._size)
            if end < self._size:
                os.ftruncate(self._descriptor, end)
                self._size = end
        if not self._size:
            self.append(header)
        elif header and os.pread(self._descriptor, len(header), 0) != header:
            self._rotate()
        self._compress_next()

    def room(self) -> int:
        """Bytes until the limit, at least 1: a full file is rotated first."""
        if self._size >= self._settings.max_size:
            self._rotate()
        return max(1, self._settings.max_size - self._size)

    def append(self, data: bytes) -> None:
        """Write whole records, or nothing of them where the disk is full."""
        view: bytes | memoryview = data
        try:
            while (written := os.write(self._descriptor, view)) < len(view):
                view = memoryview(view)[written:]
            self._size += len(data)
        except OSError:
            self.lost_bytes += len(data)
            os.ftruncate(self._descriptor, self._size)

    def close(self) -> None:
        """Close the file; a compression that still runs is given up and done by the next writer."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        if self._pid:
            try:
                os.kill(self._pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            _remove(self._temporary())

    def _open(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _FILE_MODE)

    def _temporary(self) -> str:
        return f"{self.path}.{os.getpid()}.gz.tmp"

    def _tidy(self) -> None:
        """Undo what a killed writer left half-done, and what a lower limit makes superfluous."""
        folder, name = os.path.split(self.path)
        for entry in os.listdir(folder or "."):
            if not entry.startswith(name + "."):
                continue
            rest = entry[len(name) + 1 :]
            number = rest.removesuffix(".gz")
            superfluous = number.isdigit() and int(number) >= max(1, self._settings.max_files)
            # A .gz gets its name only when it is whole: then the plain file beside it is the one to go.
            doubled = rest.isdigit() and os.path.exists(f"{self.path}.{rest}.gz")
            if rest == "new" or rest.endswith(".gz.tmp") or superfluous or doubled:
                _remove(os.path.join(folder, entry))

    def _rotate(self) -> None:
        try:
            # First of all the new file: where there is no room for one, the old one grows beyond its limit.
            descriptor = self._open(self.path + ".new")
        except OSError:
            return
        last = self._settings.max_files - 1
        if last >= 1:
            for extension in ("", ".gz"):
                _remove(f"{self.path}.{last}{extension}")
                for number in range(last, 1, -1):
                    _rename(f"{self.path}.{number - 1}{extension}", f"{self.path}.{number}{extension}")
            _rename(self.path, f"{self.path}.1")
            if self._compressing:
                self._compressing += 1
        _rename(self.path + ".new", self.path)
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._size = 0
        self.append(self._header)
        self._compress_next()

    def _compress_next(self) -> None:
        """Begin to compress the newest plain file, if no other is under way."""
        if not self._settings.compress or self._compressing:
            return
        for number in range(1, self._settings.max_files):
            try:
                source = os.open(f"{self.path}.{number}", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                self._compress(number, source)
            finally:
                os.close(source)
            return

    def _compress(self, number: int, source: int) -> None:
        self._compressing = number
        target = self._temporary()
        try:
            if self._spawn is None:
                compress_file(source, target)
                self._compressed(True)
            else:
                self._pid = self._spawn(lambda: compress_file(source, target), self._compressed)
        except OSError:  # no process or no space for it: the file stays as it is
            self._compressed(False)

    def _compressed(self, success: bool) -> None:
        number, self._compressing, self._pid = self._compressing, 0, 0
        if self._descriptor < 0:
            return  # closed meanwhile: the files belong to the next writer
        if not success or number >= self._settings.max_files:
            _remove(self._temporary())
            return
        _rename(self._temporary(), f"{self.path}.{number}.gz")
        _remove(f"{self.path}.{number}")
        self._compress_next()


def compress_file(source: int, target: str) -> None:
    """Write what `source` holds to the new file `target` as gzip (RFC 1952), its inode and time of change preserved.

    Raises:
        OSError: no space, and the like; `target` is removed.
    """
    import zlib

    status = os.fstat(source)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _FILE_MODE)
    try:
        with open(descriptor, "wb") as out:
            comment = b'{"inode":%d}' % status.st_ino
            # ID, deflate, FCOMMENT, mtime, no extra flags, Unix; then the comment, the data, CRC-32 and length.
            out.write(b"\x1f\x8b\x08\x10" + (int(status.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little") + b"\0\x03")
            out.write(comment + b"\0")
            deflate = zlib.compressobj(wbits=-15)
            checksum = offset = 0
            while chunk := os.pread(source, _CHUNK, offset):
                offset += len(chunk)
                checksum = zlib.crc32(chunk, checksum)
                out.write(deflate.compress(chunk))
            out.write(deflate.flush())
            out.write(checksum.to_bytes(4, "little") + (offset & 0xFFFFFFFF).to_bytes(4, "little"))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    except OSError:
        _remove(target)
        raise


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _rename(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        pass
