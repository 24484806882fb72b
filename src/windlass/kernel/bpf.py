"""bpf(2): programs that the kernel runs for us, assembled instruction by instruction.

An instruction is eight bytes (Linux: Documentation/bpf/standardization/instruction-set.rst):

    opcode:8  source:4 destination:4  offset:16  immediate:32

A device program (BPF_PROG_TYPE_CGROUP_DEVICE) is asked at each open and mknod of a device in the group it is attached
to. Its context is three 32-bit words, {access << 16 | type, major, minor}; it answers 1 (yes) or 0 (EPERM). A group may
have several programs and its parents theirs: all must say yes.

Everything here raises `OSError` from the kernel; a refused program brings the verifier's own words along.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

# bpf(2) has no function in the C library: its number on each machine type that Linux containers run on.
_CALL_NUMBERS = {
    "x86_64": 321, "i386": 357, "i686": 357, "aarch64": 280, "riscv64": 280, "loongarch64": 280,
    "armv7l": 386, "ppc64le": 361, "s390x": 351,
}  # fmt: skip

_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI, _REPLACE = 2, 4
_MOST_PROGRAMS = 64
_MOST_INSTRUCTIONS = 65536

# Instruction classes and operations.
_LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_ALU32 = 0x04
_JUMP, _JUMP32 = 0x05, 0x06
_AND, _RIGHT_SHIFT, _MOVE = 0x50, 0x70, 0xB0
_IF_EQUAL, _IF_SET, _IF_NOT_EQUAL, _EXIT = 0x10, 0x40, 0x50, 0x90
_FROM_REGISTER = 0x08

BLOCK, CHARACTER = 1, 2
MKNOD, READ, WRITE = 1, 2, 4
_ALL = MKNOD | READ | WRITE


class DeviceMatch(NamedTuple):
    """One rule of a device program. `type` is BLOCK, CHARACTER or None (both), `major` and `minor` a number or None
    (all), `access` a mask of MKNOD, READ and WRITE."""

    allow: bool
    type: int | None
    major: int | None
    minor: int | None
    access: int


def instruction(opcode: int, destination: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    """One instruction; `immediate` is taken modulo 2**32."""
    low, high = (destination, source) if sys.byteorder == "little" else (source, destination)
    return struct.pack("=BBhI", opcode, high << 4 | low, offset, immediate & 0xFFFFFFFF)


def _answer(value: int) -> list[bytes]:
    return [instruction(_ALU32 | _MOVE, 0, immediate=value), instruction(_JUMP | _EXIT)]


# Registers of a device program: 1 the context, 2 the type, 3 the access still to be granted, 4 major, 5 minor.
_PROLOGUE = (
    instruction(_LOAD_WORD, 2, 1, 0),
    instruction(_ALU32 | _MOVE | _FROM_REGISTER, 3, 2),
    instruction(_ALU32 | _AND, 2, immediate=0xFFFF),
    instruction(_ALU32 | _RIGHT_SHIFT, 3, immediate=16),
    instruction(_LOAD_WORD, 4, 1, 4),
    instruction(_LOAD_WORD, 5, 1, 8),
)


def _decision(rule: DeviceMatch) -> list[bytes]:
    """What follows when a rule matches the device: answer if it decides all that is left, else go on."""
    if rule.access == _ALL:
        return _answer(int(rule.allow))
    if not rule.allow:
        # Any of the denied kinds among those still to be granted: no. (Skip the answer when none is set.)
        return [
            instruction(_JUMP32 | _IF_SET, 3, offset=1, immediate=rule.access),
            instruction(_JUMP, offset=2),  # BPF_JA
            *_answer(0),
        ]
    return [
        instruction(_ALU32 | _AND, 3, immediate=_ALL & ~rule.access),
        instruction(_JUMP32 | _IF_NOT_EQUAL, 3, offset=2, immediate=0),
        *_answer(1),
    ]


def device_program(rules: Sequence[DeviceMatch]) -> bytes:
    """The program for rules of which, for each kind of access, the last that matches decides; without a match: no.

    It asks from the last rule to the first, so the first match decides and the rest need not be asked.
    """
    program = list(_PROLOGUE)
    for rule in reversed(rules):
        body = _decision(rule)
        tests: list[tuple[int, int]] = []
        for register, wanted in ((2, rule.type), (4, rule.major), (5, rule.minor)):
            if wanted is not None:
                tests.append((register, wanted))
        for index, (register, wanted) in enumerate(tests):
            to_next = len(tests) - index - 1 + len(body)
            program.append(instruction(_JUMP32 | _IF_NOT_EQUAL, register, offset=to_next, immediate=wanted))
        program += body
        if not tests and rule.access == _ALL:
            break  # nothing gets past it, and the verifier refuses what cannot be reached
    else:
        program += _answer(0)
    if len(program) > _MOST_INSTRUCTIONS:
        raise OSError(errno.E2BIG, f"the device rules make a program of {len(program)} instructions")
    return b"".join(program)


def _bpf(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    number = _CALL_NUMBERS.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"bpf: unknown machine type {os.uname().machine}")
    library = ctypes.CDLL(None, use_errno=True)
    result = int(library.syscall(ctypes.c_long(number), command, attributes, ctypes.c_uint(len(attributes))))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"bpf: {os.strerror(code)}")
    return result


def _attributes(layout: str, *values: int | bytes) -> ctypes.Array[ctypes.c_char]:
    packed = struct.pack("=" + layout, *values)
    return ctypes.create_string_buffer(packed, len(packed))


def _load(program: bytes, log: ctypes.Array[ctypes.c_char] | None) -> int:
    instructions = ctypes.create_string_buffer(program, len(program))
    # "GPL" is asked of programs that call helpers marked so; these call none, so the project's own name for it serves.
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    return _bpf(
        _PROG_LOAD,
        _attributes(
            "IIQQIIQII16s",
            _TYPE_CGROUP_DEVICE,
            len(program) // 8,
            ctypes.addressof(instructions),
            ctypes.addressof(licence),
            1 if log is not None else 0,
            len(log) if log is not None else 0,
            ctypes.addressof(log) if log is not None else 0,
            0,
            0,
            b"windlass_devices"[:15],
        ),
    )


def load_device_program(program: bytes) -> int:
    """Load the instructions; returns a descriptor that keeps the program alive until it is attached."""
    try:
        return _load(program, None)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EACCES}:
            raise
        log = ctypes.create_string_buffer(65536)
        try:
            return _load(program, log)
        except OSError as again:
            words = log.value.decode(errors="replace").strip().replace("\n", "; ")
            raise OSError(again.errno, f"bpf: the device program was refused: {words or again.strerror}") from None


def attached_device_programs(group_fd: int) -> list[int]:
    """The identifiers of the programs attached to the group itself (not to its parents)."""
    found = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    attributes = _attributes(
        "IIIIQIIQ", group_fd, _ATTACH_CGROUP_DEVICE, 0, 0, ctypes.addressof(found), len(found), 0, 0
    )
    _bpf(_PROG_QUERY, attributes)
    count = struct.unpack_from("=I", attributes.raw, 24)[0]
    return list(found[:count])


class _Program:
    """A loaded program's descriptor, by its identifier."""

    def __init__(self, identifier: int) -> None:
        self.fd = _bpf(_PROG_GET_FD_BY_ID, _attributes("III", identifier, 0, 0))

    def close(self) -> None:
        os.close(self.fd)


def _attach(group_fd: int, program_fd: int, *, replaced_fd: int | None = None) -> None:
    flags = _ALLOW_MULTI if replaced_fd is None else _ALLOW_MULTI | _REPLACE
    _bpf(_PROG_ATTACH, _attributes("IIIII", group_fd, program_fd, _ATTACH_CGROUP_DEVICE, flags, replaced_fd or 0))


def _detach(group_fd: int, program_fd: int) -> None:
    _bpf(_PROG_DETACH, _attributes("IIII", group_fd, program_fd, _ATTACH_CGROUP_DEVICE, 0))


def set_device_program(group_fd: int, program: bytes | None) -> None:
    """Make `program` the group's only device program; None: have none. There is never a moment without a program.

    One program is replaced in one step (Linux 5.6); where there are several, or the kernel is older, the new one is
    attached first (from then on all must say yes) and the old ones are detached after it.
    """
    before = attached_device_programs(group_fd)
    replaced = False
    if program is not None:
        fd = load_device_program(program)
        try:
            if len(before) == 1:
                with closing(_Program(before[0])) as old:
                    try:
                        _attach(group_fd, fd, replaced_fd=old.fd)
                        replaced = True
                    except OSError as error:
                        if error.errno != errno.EINVAL:
                            raise
            if not replaced:
                _attach(group_fd, fd)
        finally:
            os.close(fd)
    if not replaced:
        for identifier in before:
            with closing(_Program(identifier)) as old:
                _detach(group_fd, old.fd)
