"""From an OCI `linux.seccomp` to the classic BPF program that seccomp(2) takes.

For each system call the kernel runs the program on struct seccomp_data {number, architecture, instruction pointer,
six arguments of 64 bits}. What comes out here:

    load the architecture ─ x86_64? ─ i386? ─ … no: kill
          │
    load the number ─ a balanced tree of "number >= n?" over ranges of numbers that have the same fate
          │                    (some 370 allowed calls are about 60 ranges, so six comparisons decide)
    a range's fate: return the action, or compare arguments first, rule after rule

So it is a fraction of the length of what libseccomp makes of the same profile. A call whose fate depends on nothing but
its number costs nothing at all on Linux 5.11 and later, which ask the filter once for each number.

Meaning of the rules (as libseccomp and runc have it, where the OCI specification does not say):
- a rule without arguments decides for its calls, whatever rules with arguments say; the first such rule counts
- else the first rule of the list whose comparisons are all true; none: the default action
- comparisons of the same argument within a rule are alternatives
- a rule with the default action says nothing
- names that an architecture does not have are passed over: there is nothing to allow or forbid
- with a default that refuses, calls beyond the last one that the profile names get ENOSYS: programs that try a new
  call and fall back to an old one must not see EPERM
- the x32 ABI is refused with ENOSYS, as by a kernel without it, so that no rule can be got round by its numbers
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from windlass.kernel.seccomp.assembler import JEQ, JGE, JGT, Assembler, Label
from windlass.kernel.seccomp.numbers import ARCHITECTURES, numbers

_KILL_PROCESS: Final = 0x80000000
_ERRNO: Final = 0x00050000
_ACTIONS: Final = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": _KILL_PROCESS,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_DATA: Final = frozenset({"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"})
_PERMISSIVE: Final = frozenset({"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"})
_OPERATORS: Final = frozenset(
    {
        "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ",
    }
)  # fmt: skip

# AUDIT_ARCH_* (include/uapi/linux/audit.h).
_AUDIT: Final = {
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_RISCV64": 0xC00000F3,
}
_32_BITS: Final = frozenset({"SCMP_ARCH_X86", "SCMP_ARCH_ARM"})
_NATIVE: Final = {
    "x86_64": "SCMP_ARCH_X86_64",
    "i386": "SCMP_ARCH_X86",
    "i686": "SCMP_ARCH_X86",
    "aarch64": "SCMP_ARCH_AARCH64",
    "armv7l": "SCMP_ARCH_ARM",
    "riscv64": "SCMP_ARCH_RISCV64",
}
_KNOWN_NAMES: Final = ARCHITECTURES | {
    "SCMP_ARCH_X32", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64", "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K", "SCMP_ARCH_SH", "SCMP_ARCH_SHEB", "SCMP_ARCH_NATIVE",
}  # fmt: skip

_X32_BIT: Final = 0x40000000
_ARM_PRIVATE: Final = 0xF0000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_LOW: Final = 0xFFFFFFFF
_HIGHEST_ERRNO: Final = 4095

# On i386 these are also reached through socketcall(2) and ipc(2), by a number in the first argument.
_SOCKET_CALLS: Final = {
    name: number
    for number, name in enumerate(
        (
            "socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair", "send", "recv",
            "sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg",
            "sendmmsg",
        ),
        1,
    )
}  # fmt: skip
_IPC_CALLS: Final = {
    "semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13, "msgctl": 14,
    "shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
}  # fmt: skip
_MULTIPLEXED: Final = {
    **{name: ("socketcall", number) for name, number in _SOCKET_CALLS.items()},
    **{name: ("ipc", number) for name, number in _IPC_CALLS.items()},
}


class Comparison(NamedTuple):
    """One comparison of an argument with a number. For SCMP_CMP_MASKED_EQ `value` is the mask and `two` the result."""

    argument: int
    op: str
    value: int
    two: int


class Rule(NamedTuple):
    """What happens to some calls when all comparisons are true."""

    names: tuple[str, ...]
    action: int
    comparisons: tuple[Comparison, ...]


class Filter(NamedTuple):
    """A profile, checked."""

    default: int
    permissive: bool
    architectures: tuple[str, ...]
    rules: tuple[Rule, ...]


def native_architecture(machine: str | None = None) -> str:
    """The architecture of `machine` (as uname(2) says; None: this one). `ValueError` for one without filters."""
    name = machine or os.uname().machine
    if name not in _NATIVE:
        raise ValueError(f"seccomp filters for {name} are not supported")
    return _NATIVE[name]


def compile_filter(profile: Mapping[str, Any], *, machine: str | None = None) -> bytes:
    """Compile an OCI `linux.seccomp`.

    Args:
        profile: the OCI object.
        machine: for which machine (None: this one).

    Returns:
        An array of struct sock_filter, for `install`.

    Raises:
        ValueError: the profile is not valid, or its program would be too long.
    """
    checked = read_profile(profile, native=native_architecture(machine))
    assembler = Assembler()
    sections = {name: _section(assembler, name, checked) for name in reversed(checked.architectures)}
    entry = assembler.ret(_KILL_PROCESS)
    for name in reversed(checked.architectures):
        entry = assembler.jump(JEQ, _AUDIT[name], sections[name], entry)
    assembler.load(_ARCHITECTURE, entry)
    return assembler.program()


def read_profile(profile: Mapping[str, Any], *, native: str) -> Filter:
    """Check an OCI `linux.seccomp` and bring it into the form that is compiled. `ValueError` says what is wrong."""
    name = profile.get("defaultAction")
    if name == "SCMP_ACT_NOTIFY":
        raise ValueError("SCMP_ACT_NOTIFY cannot be used as default action")
    default = _action(name, profile.get("defaultErrnoRet"))
    architectures = [native]
    for architecture in profile.get("architectures") or ():
        if architecture not in _KNOWN_NAMES:
            raise ValueError(f"unknown seccomp architecture: {architecture!r}")
        if architecture in ARCHITECTURES and architecture not in architectures:
            architectures.append(architecture)
    rules: list[Rule] = []
    for syscall in profile.get("syscalls") or ():
        rules.extend(_rules(syscall))
    # Machines run their own calls and at most one older set; the kernel never shows the others.
    related = {"SCMP_ARCH_X86_64": "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64": "SCMP_ARCH_ARM"}.get(native)
    return Filter(
        default,
        name in _PERMISSIVE,
        tuple(architecture for architecture in architectures if architecture in {native, related}),
        tuple(rules),
    )


def _rules(syscall: Mapping[str, Any]) -> list[Rule]:
    names = syscall.get("names") or ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError("a seccomp rule needs the names of system calls")
    action = _action(syscall.get("action"), syscall.get("errnoRet"))
    comparisons = tuple(_comparison(argument) for argument in syscall.get("args") or ())
    indexes = [comparison.argument for comparison in comparisons]
    if len(set(indexes)) < len(indexes):
        return [Rule(tuple(names), action, (comparison,)) for comparison in comparisons]
    return [Rule(tuple(names), action, comparisons)]


def _comparison(argument: Mapping[str, Any]) -> Comparison:
    index, op = argument.get("index", 0), argument.get("op")
    value, two = argument.get("value", 0), argument.get("valueTwo", 0)
    if not isinstance(index, int) or not 0 <= index <= 5:
        raise ValueError(f"a system call has no argument {index!r}")
    if op not in _OPERATORS:
        raise ValueError(f"unknown seccomp operator: {op!r}")
    for number in (value, two):
        if not isinstance(number, int) or not 0 <= number < 1 << 64:
            raise ValueError(f"not an unsigned number of 64 bits: {number!r}")
    return Comparison(argument=index, op=op, value=value, two=two)


def _action(name: Any, data: Any) -> int:
    if name not in _ACTIONS:
        raise ValueError(f"unknown seccomp action: {name!r}")
    if name not in _WITH_DATA:
        return _ACTIONS[name]
    number = errno.EPERM if data is None else data
    if not isinstance(number, int) or not 0 <= number <= _HIGHEST_ERRNO:
        raise ValueError(f"errnoRet is from 0 to {_HIGHEST_ERRNO}, not {number!r}")
    return _ACTIONS[name] | number


def _section(assembler: Assembler, architecture: str, profile: Filter) -> Label:
    """What decides for one architecture, from the loading of the number on."""
    table = numbers(architecture)
    by_number = _by_number(architecture, [rule for rule in profile.rules if rule.action != profile.default])
    default = assembler.ret(profile.default)
    enosys = assembler.ret(_ERRNO | errno.ENOSYS)
    fates: dict[int, Label] = {}
    for number, rules in by_number.items():
        fates[number] = _fate(assembler, rules, default, wide=architecture not in _32_BITS)
    boundaries: dict[int, Label] = {}  # from this number on: this fate
    for number in sorted(fates):
        boundaries[number] = fates[number]
        boundaries.setdefault(number + 1, default)
    if not profile.permissive:
        named = (table[name] for rule in profile.rules for name in rule.names if name in table)
        last = max((number for number in named if number < _ARM_PRIVATE), default=-1)
        if last >= 0:
            boundaries[last + 1] = enosys
            if architecture == "SCMP_ARCH_ARM":
                boundaries.setdefault(_ARM_PRIVATE, default)
    if architecture == "SCMP_ARCH_X86_64":
        boundaries[_X32_BIT] = enosys
    ranges: list[tuple[int, Label]] = [(0, boundaries.pop(0, default))]
    for number in sorted(boundaries):
        if boundaries[number] != ranges[-1][1]:
            ranges.append((number, boundaries[number]))
    return assembler.load(_NUMBER, _tree(assembler, ranges, 0, len(ranges)))


def _by_number(architecture: str, rules: Sequence[Rule]) -> dict[int, list[Rule]]:
    """The rules of each number that has any. A rule without comparisons ends the matter: it stands alone."""
    table = numbers(architecture)
    found: dict[int, list[Rule]] = {}

    def add(number: int, rule: Rule) -> None:
        before = found.setdefault(number, [])
        if not rule.comparisons:
            if not (before and not before[0].comparisons):
                found[number] = [rule]
        elif not (before and not before[0].comparisons):
            before.append(rule)

    for rule in rules:
        for name in rule.names:
            if name in table:
                add(table[name], rule)
            if architecture == "SCMP_ARCH_X86" and name in _MULTIPLEXED and not rule.comparisons:
                carrier, number = _MULTIPLEXED[name]
                add(table[carrier], rule._replace(comparisons=(Comparison(0, "SCMP_CMP_EQ", number, 0),)))
    return found


def _fate(assembler: Assembler, rules: Sequence[Rule], default: Label, *, wide: bool) -> Label:
    label = default
    for rule in reversed(rules):
        matched, otherwise = assembler.ret(rule.action), label
        label = matched
        for comparison in reversed(rule.comparisons):
            label = _compare(assembler, comparison, label, otherwise, wide=wide)
    return label


def _tree(assembler: Assembler, ranges: Sequence[tuple[int, Label]], first: int, last: int) -> Label:
    """A balanced tree over `ranges[first:last]`, which begin at rising numbers."""
    if last - first == 1:
        return ranges[first][1]
    middle = (first + last) // 2
    upper = _tree(assembler, ranges, middle, last)
    lower = _tree(assembler, ranges, first, middle)
    return assembler.jump(JGE, ranges[middle][0], upper, lower)


def _compare(assembler: Assembler, comparison: Comparison, true: Label, false: Label, *, wide: bool) -> Label:
    """Code that loads the argument and goes to `true` or `false`. Where arguments have 32 bits (not `wide`), only the
    low half of the numbers counts, as in libseccomp."""
    match comparison.op:
        case "SCMP_CMP_NE":
            return _equal(assembler, comparison, false, true, wide=wide)
        case "SCMP_CMP_EQ":
            return _equal(assembler, comparison, true, false, wide=wide)
        case "SCMP_CMP_GT":
            return _greater(assembler, comparison, JGT, true, false, wide=wide)
        case "SCMP_CMP_GE":
            return _greater(assembler, comparison, JGE, true, false, wide=wide)
        case "SCMP_CMP_LE":
            return _greater(assembler, comparison, JGT, false, true, wide=wide)
        case "SCMP_CMP_LT":
            return _greater(assembler, comparison, JGE, false, true, wide=wide)
    return _masked(assembler, comparison, true, false, wide=wide)


def _equal(assembler: Assembler, comparison: Comparison, true: Label, false: Label, *, wide: bool) -> Label:
    low = _ARGUMENTS + 8 * comparison.argument
    label = assembler.test(low, JEQ, comparison.value & _LOW, true, false)
    return assembler.test(low + 4, JEQ, comparison.value >> 32, label, false) if wide else label


def _greater(
    assembler: Assembler, comparison: Comparison, code: int, true: Label, false: Label, *, wide: bool
) -> Label:
    """`code` is JGT or JGE: the halves differ only in how equal low halves count."""
    low = _ARGUMENTS + 8 * comparison.argument
    high_value = comparison.value >> 32
    label = assembler.test(low, code, comparison.value & _LOW, true, false)
    if not wide:
        return label
    return assembler.test(low + 4, JGT, high_value, true, assembler.jump(JEQ, high_value, label, false))


def _masked(assembler: Assembler, comparison: Comparison, true: Label, false: Label, *, wide: bool) -> Label:
    mask, result = comparison.value, comparison.two
    low = _ARGUMENTS + 8 * comparison.argument
    label = assembler.test(low, JEQ, result & _LOW, true, false, mask=mask & _LOW)
    if wide and (mask >> 32 or result >> 32):
        label = assembler.test(low + 4, JEQ, result >> 32, label, false, mask=mask >> 32)
    return label
