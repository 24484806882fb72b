"""What ps(1) shows of a process: its name and its command line."""

from __future__ import annotations

import ctypes
import os


class ProcessTitle:
    """Writes over the memory that held the command line (proc(5), /proc/pid/cmdline); its place is looked up once."""

    def __init__(self) -> None:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        # Fields 48 and 49 of the line, of which the first two are cut off here.
        self._start, self._end = int(fields[45]), int(fields[46])

    def set(self, text: str) -> None:
        """Show `text`, as far as it fits into the place of the original command line."""
        data = text.encode()
        descriptor = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
        os.write(descriptor, data.partition(b" ")[0][:15])
        os.close(descriptor)
        room = self._end - self._start
        if self._start and room > 1:
            ctypes.memmove(self._start, data[: room - 1].ljust(room, b"\0"), room)
