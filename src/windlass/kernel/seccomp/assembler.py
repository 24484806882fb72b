"""Classic BPF (Linux: Documentation/networking/filter.rst), put together from the end to the beginning.

Jumps only go forward, so when an instruction is written, all that it can jump to is there already and its distance is
known. A label is the position of an instruction, counted from the end. Equal tests share their code. A conditional jump
reaches 255 instructions; what is farther away gets a copy (a return) or a long jump close by.

An instruction is eight bytes: code:16  true:8  false:8  k:32.
"""

from __future__ import annotations

import struct
from typing import Final

LOAD: Final = 0x20  # A = 32 bits at k of struct seccomp_data
AND: Final = 0x54  # A &= k
JUMP: Final = 0x05
JEQ: Final = 0x15
JGT: Final = 0x25
JGE: Final = 0x35
RETURN: Final = 0x06

_REACH: Final = 250
_MOST: Final = 4096
_INSTRUCTION: Final = struct.Struct("=HBBI")

Label = int


class Assembler:
    """Writes a program backwards; each method returns the label of what it has written."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int]] = []
        self._returns: dict[Label, int] = {}
        self._known: dict[tuple[int, ...], Label] = {}

    def __len__(self) -> int:
        return len(self._code)

    def ret(self, value: int) -> Label:
        """End with `value`."""
        key = (RETURN, value)
        if key not in self._known:
            self._known[key] = self._write_return(value)
        return self._known[key]

    def jump(self, code: int, k: int, true: Label, false: Label) -> Label:
        """Compare A with `k`."""
        if true == false:
            return true
        key = (code, k, true, false)
        if key not in self._known:
            self._known[key] = self._write_jump(code, k, true, false)
        return self._known[key]

    def test(self, offset: int, code: int, k: int, true: Label, false: Label, *, mask: int = 0xFFFFFFFF) -> Label:
        """Load 32 bits at `offset`, keep those in `mask`, compare with `k`."""
        if true == false:
            return true
        key = (offset, mask, code, k, true, false)
        if key not in self._known:
            self._write_jump(code, k, true, false)
            if mask != 0xFFFFFFFF:
                self._write(AND, mask)
            self._known[key] = self._write(LOAD, offset)
        return self._known[key]

    def load(self, offset: int, then: Label) -> Label:
        """Load 32 bits at `offset` and go on at `then`."""
        if then != len(self._code) - 1:
            self._bridge(then)
        return self._write(LOAD, offset)

    def program(self) -> bytes:
        """The whole, beginning with what was written last. `ValueError` if it is longer than the kernel takes."""
        if len(self._code) > _MOST:
            raise ValueError(f"the filter has {len(self._code)} instructions; the kernel takes {_MOST}")
        return b"".join(_INSTRUCTION.pack(*instruction) for instruction in reversed(self._code))

    def _write(self, code: int, k: int, true: int = 0, false: int = 0) -> Label:
        self._code.append((code, true, false, k))
        return len(self._code) - 1

    def _write_return(self, value: int) -> Label:
        label = self._write(RETURN, value)
        self._returns[label] = value
        return label

    def _write_jump(self, code: int, k: int, true: Label, false: Label) -> Label:
        if self._distance(true) > _REACH:
            true = self._bridge(true)
        if self._distance(false) > _REACH:
            false = self._bridge(false)
        return self._write(code, k, self._distance(true), self._distance(false))

    def _distance(self, label: Label) -> int:
        """From the next instruction to be written."""
        return len(self._code) - label - 1

    def _bridge(self, label: Label) -> Label:
        """Something close by that does as `label` does."""
        if label in self._returns:
            return self._write_return(self._returns[label])
        return self._write(JUMP, self._distance(label))
