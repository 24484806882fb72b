"""An interpreter of classic BPF for seccomp filters, and the checks that the kernel makes before it takes one."""

from __future__ import annotations

import struct
from typing import NamedTuple

LOAD, AND, JA, JEQ, JGT, JGE, JSET, RET = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x45, 0x06


class Instruction(NamedTuple):
    code: int
    true: int
    false: int
    k: int


def decode(program: bytes) -> list[Instruction]:
    return [Instruction(*fields) for fields in struct.iter_unpack("=HBBI", program)]


def check(program: list[Instruction]) -> None:
    """What the kernel checks: length, jumps inside, ends with a return, loads aligned and inside seccomp_data."""
    assert 0 < len(program) <= 4096
    assert program[-1].code == RET
    for place, (code, true, false, k) in enumerate(program):
        assert code in {LOAD, AND, JA, JEQ, JGT, JGE, JSET, RET}
        if code == LOAD:
            assert k % 4 == 0 and k < 64
        elif code == JA:
            assert place + 1 + k < len(program)
        elif code in {JEQ, JGT, JGE, JSET}:
            assert place + 1 + max(true, false) < len(program)


def run(program: list[Instruction], architecture: int, number: int, arguments: tuple[int, ...]) -> tuple[int, int]:
    """The filter's answer and the number of instructions it took."""
    data = struct.pack("=IIQ6Q", number, architecture, 0x1234, *arguments)
    accumulator = place = steps = 0
    while True:
        code, true, false, k = program[place]
        place += 1
        steps += 1
        if code == RET:
            return k, steps
        if code == LOAD:
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif code == AND:
            accumulator &= k
        elif code == JA:
            place += k
        else:
            holds = {
                JEQ: accumulator == k,
                JGT: accumulator > k,
                JGE: accumulator >= k,
                JSET: bool(accumulator & k),
            }[code]
            place += true if holds else false
