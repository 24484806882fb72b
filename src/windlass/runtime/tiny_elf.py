"""Programs of a few hundred bytes, made from their listings: a static ELF executable that needs nothing installed.

A listing's left column (20 characters) are the bytes, its right one is what they are, for GNU as (Intel syntax); a test
assembles the right and compares.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_MACHINES: Final = {"x86_64": 62}  # ELF's numbers of them
_ADDRESS: Final = 0x400000
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_READ_EXECUTE: Final = 5


@dataclass(frozen=True)
class Program:
    """`name` is its file's; `listings` are by machine as uname(2) names it."""

    name: str
    listings: Mapping[str, str]

    def code(self, machine: str | None = None) -> bytes | None:
        """The machine code for a machine (None: this one); None if there is none."""
        found = self.listings.get(machine or os.uname().machine)
        if found is None:
            return None
        columns = (line[:20].strip() for line in found.splitlines())
        return b"".join(map(bytes.fromhex, columns))

    def source(self, machine: str) -> str:
        """The right column: what the code was assembled from."""
        lines = [line[22:] for line in self.listings[machine].splitlines()]
        return "\n".join([".intel_syntax noprefix", ".globl _start", *lines, ""])

    def executable(self, machine: str | None = None) -> bytes | None:
        """A static ELF executable (elf(5)): two headers and the code, one segment, nothing else. None as for `code`."""
        body = self.code(machine)
        if body is None:
            return None
        number = _MACHINES[machine or os.uname().machine]
        start = _HEADER.size + _SEGMENT.size
        magic = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian, version 1
        header = _HEADER.pack(
            magic, 2, number, 1, _ADDRESS + start, _HEADER.size, 0, 0, _HEADER.size, _SEGMENT.size, 1, 0, 0, 0
        )
        size = start + len(body)
        segment = _SEGMENT.pack(1, _READ_EXECUTE, 0, _ADDRESS, _ADDRESS, size, size, 0x1000)
        return header + segment + body

    def write(self, directory: str) -> str | None:
        """Write it to `directory` unless it is there already; its path, or None as for `code`. `OSError`."""
        content = self.executable()
        if content is None:
            return None
        path = f"{directory}/{self.name}"
        try:
            with open(path, "rb") as file:
                if file.read() == content:
                    return path
        except FileNotFoundError:
            pass
        temporary = f"{path}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755)
        try:
            os.write(fd, content)
            os.fchmod(fd, 0o755)
        finally:
            os.close(fd)
        os.rename(temporary, path)
        return path
