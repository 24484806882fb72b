"""The compiler against a model that follows the rules one by one, and against libseccomp where it is installed."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import classic_bpf
from windlass.kernel.seccomp import compile_filter, default_profile
from windlass.kernel.seccomp.numbers import numbers

AUDIT = {
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_ARM": 0x40000028,
}
KILL_PROCESS, TRAP, ERRNO, NOTIFY, TRACE, LOG, ALLOW = (
    0x80000000, 0x30000, 0x50000, 0x7FC00000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000,
)  # fmt: skip
VALUES = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_NOTIFY": NOTIFY,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}
DOCKER_CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
        "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
    )
]  # fmt: skip
SOCKETCALL = {"socket": 1, "bind": 2, "accept": 5, "send": 9, "recvmsg": 17}
IPC = {"shmat": 21, "msgget": 13}


def action_value(action: str, data: int | None) -> int:
    with_data = action in {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"}
    return VALUES[action] | ((1 if data is None else data) if with_data else 0)


def holds(argument: dict[str, Any], value: int) -> bool:
    wanted, two = argument["value"], argument.get("valueTwo", 0)
    return {
        "SCMP_CMP_EQ": value == wanted,
        "SCMP_CMP_NE": value != wanted,
        "SCMP_CMP_LT": value < wanted,
        "SCMP_CMP_LE": value <= wanted,
        "SCMP_CMP_GT": value > wanted,
        "SCMP_CMP_GE": value >= wanted,
        "SCMP_CMP_MASKED_EQ": value & wanted == two,
    }[argument["op"]]


def narrow(argument: dict[str, Any]) -> dict[str, Any]:
    return {
        **argument,
        "value": argument["value"] & 0xFFFFFFFF,
        "valueTwo": argument.get("valueTwo", 0) & 0xFFFFFFFF,
    }


def rules_for(profile: dict[str, Any], architecture: str, number: int) -> list[tuple[int, list[list[dict[str, Any]]]]]:
    """(action, alternatives of comparisons that must all hold) of each rule that concerns the call, in their order."""
    table = numbers(architecture)
    found = []
    for rule in profile["syscalls"]:
        action = action_value(rule["action"], rule.get("errnoRet"))
        args = rule.get("args") or []
        if architecture in {"SCMP_ARCH_X86", "SCMP_ARCH_ARM"}:
            args = [narrow(argument) for argument in args]
        for name in rule["names"]:
            if table.get(name) == number:
                indexes = [argument["index"] for argument in args]
                repeated = len(set(indexes)) < len(indexes)
                found.append((action, [[argument] for argument in args] if repeated else [args]))
            for carrier, calls in (("socketcall", SOCKETCALL), ("ipc", IPC)):
                if architecture == "SCMP_ARCH_X86" and name in calls and table[carrier] == number and not args:
                    found.append((action, [[{"index": 0, "op": "SCMP_CMP_EQ", "value": calls[name]}]]))
    return found


def model(profile: dict[str, Any], architecture: str, number: int, arguments: tuple[int, ...]) -> int:
    default = action_value(profile["defaultAction"], profile.get("defaultErrnoRet"))
    permissive = profile["defaultAction"] in {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"}
    if architecture == "SCMP_ARCH_X86_64" and number >= 0x40000000:
        return ERRNO | errno.ENOSYS
    table = numbers(architecture)
    named = [table[name] for rule in profile["syscalls"] for name in rule["names"] if name in table]
    last = max((n for n in named if n < 0xF0000), default=None)
    if not permissive and last is not None and last < number < (0xF0000 if "ARM" in architecture else 1 << 32):
        return ERRNO | errno.ENOSYS
    rules = [rule for rule in rules_for(profile, architecture, number) if rule[0] != default]
    for action, alternatives in rules:
        if alternatives == [[]]:
            return action
    for action, alternatives in rules:
        if any(all(holds(argument, arguments[argument["index"]]) for argument in one) for one in alternatives):
            return action
    return default


U64 = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from([0, 1, 2, 38, 39, 40, 2**31, 2**32 - 1, 2**32, 2**32 + 38, 2**63, 2**64 - 1]),
)
ACTIONS = st.sampled_from(sorted(VALUES))
ARGUMENT = st.fixed_dictionaries(
    {
        "index": st.integers(0, 5),
        "op": st.sampled_from(
            ["SCMP_CMP_EQ", "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_GT", "SCMP_CMP_GE"]
        ),
        "value": U64,
    }
) | st.fixed_dictionaries(
    {"index": st.integers(0, 5), "op": st.just("SCMP_CMP_MASKED_EQ"), "value": U64, "valueTwo": U64}
)
NAMES = st.sampled_from(
    ["read", "write", "clone", "socket", "personality", "chown32", "accept4", "openat2", "set_tls", "socketcall",
     "close_range", "statx", "shmat", "send", "uretprobe", "no_such_call", "exit", "mseal", "bind"]
)  # fmt: skip
RULE = st.fixed_dictionaries(
    {"names": st.lists(NAMES, min_size=1, max_size=4), "action": ACTIONS},
    optional={"errnoRet": st.integers(0, 4095), "args": st.lists(ARGUMENT, max_size=3)},
)
PROFILE = st.fixed_dictionaries(
    {
        "defaultAction": ACTIONS.filter(lambda action: action != "SCMP_ACT_NOTIFY"),
        "syscalls": st.lists(RULE, max_size=12),
        "architectures": st.just([*AUDIT, "SCMP_ARCH_X32"]),
    },
    optional={"defaultErrnoRet": st.integers(0, 4095)},
)  # fmt: skip
MACHINES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}


@settings(max_examples=150, deadline=None)
@given(profile=PROFILE, machine=st.sampled_from(sorted(MACHINES)), data=st.data())
def test_every_profile_decides_as_its_rules_read(profile: dict[str, Any], machine: str, data: st.DataObject) -> None:
    program = classic_bpf.decode(compile_filter(profile, machine=machine))
    classic_bpf.check(program)
    interesting = [argument for rule in profile["syscalls"] for argument in rule.get("args") or []]
    near = [(a[key] + delta) % 2**64 for a in interesting for key in ("value",) for delta in (-1, 0, 1)]
    values = st.one_of(U64, st.sampled_from(near)) if near else U64
    for architecture in MACHINES[machine]:
        table = numbers(architecture)
        candidates = [table[n] for r in profile["syscalls"] for n in r["names"] if n in table] or [0]
        narrow_ = architecture in {"SCMP_ARCH_X86", "SCMP_ARCH_ARM"}
        for _ in range(6):
            number = data.draw(
                st.one_of(
                    st.sampled_from(candidates),
                    st.integers(0, 500),
                    st.sampled_from([table.get("socketcall", 0), 0x40000000, 0x40000001, 0xF0005, 2**32 - 1]),
                )
            )
            arguments = tuple(data.draw(values) & (0xFFFFFFFF if narrow_ else 2**64 - 1) for _ in range(6))
            answer, _ = classic_bpf.run(program, AUDIT[architecture], number, arguments)
            assert answer == model(profile, architecture, number, arguments)
    assert classic_bpf.run(program, 0x12345678, 0, (0,) * 6)[0] == KILL_PROCESS


@pytest.mark.parametrize("machine", sorted(MACHINES))
@pytest.mark.parametrize("capabilities", [[], DOCKER_CAPABILITIES, [*DOCKER_CAPABILITIES, "CAP_SYS_ADMIN"]])
def test_the_default_profile_decides_as_its_rules_read_for_every_number(machine: str, capabilities: list[str]) -> None:
    profile = default_profile(capabilities, machine, (6, 1))
    program = classic_bpf.decode(compile_filter(profile, machine=machine))
    classic_bpf.check(program)
    for architecture in MACHINES[machine]:
        for number in [*range(600), 0xF0002, 0xF0005, 0x40000000, 0x40000001, 2**32 - 1]:
            for arguments in ((0,) * 6, (0x11, 2, 3, 4, 5, 6), (38, 0, 0, 0, 0, 0), (0x10000000, 0, 0, 0, 0, 0)):
                answer, _ = classic_bpf.run(program, AUDIT[architecture], number, arguments)
                assert answer == model(profile, architecture, number, arguments), (architecture, number, arguments)


def test_the_default_filter_is_short_and_decides_fast() -> None:
    program = classic_bpf.decode(
        compile_filter(default_profile(DOCKER_CAPABILITIES, "x86_64", (6, 1)), machine="x86_64")
    )
    assert len(program) < 300
    steps = [classic_bpf.run(program, AUDIT["SCMP_ARCH_X86_64"], number, (0,) * 6)[1] for number in range(470)]
    assert max(steps) <= 25
    assert sum(steps) / len(steps) < 12


def test_a_profile_with_many_alternatives_still_jumps_inside_its_reach() -> None:
    names = sorted(numbers("SCMP_ARCH_X86_64"), key=numbers("SCMP_ARCH_X86_64").__getitem__)[:300]
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {
                "names": [name],
                "action": "SCMP_ACT_ERRNO" if i % 2 else "SCMP_ACT_TRACE",
                "errnoRet": 2 + i,
                "args": [{"index": i % 6, "op": "SCMP_CMP_EQ", "value": i << 32 | i}],
            }
            for i, name in enumerate(names)
        ],
    }
    program = classic_bpf.decode(compile_filter(profile, machine="x86_64"))
    classic_bpf.check(program)
    assert len(program) > 1000
    for i, name in enumerate(names):
        arguments = tuple((i << 32 | i) if place == i % 6 else 7 for place in range(6))
        number = numbers("SCMP_ARCH_X86_64")[name]
        assert classic_bpf.run(program, AUDIT["SCMP_ARCH_X86_64"], number, arguments)[0] == model(
            profile, "SCMP_ARCH_X86_64", number, arguments
        )


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({}, "unknown seccomp action: None"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "cannot be used as default"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}, "errnoRet"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": "1"}, "errnoRet"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_Z80"]}, "SCMP_ARCH_Z80"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_KILL"}]}, "names"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "x"}]}, "action: 'x'"),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    {"names": ["read"], "action": "SCMP_ACT_KILL", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}
                ],
            },
            "no argument 6",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    {"names": ["read"], "action": "SCMP_ACT_KILL", "args": [{"index": 0, "op": "EQ", "value": 1}]}
                ],
            },
            "operator: 'EQ'",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    {"names": ["read"], "action": "SCMP_ACT_KILL", "args": [{"op": "SCMP_CMP_EQ", "value": -1}]}
                ],
            },
            "64 bits",
        ),
    ],
)  # fmt: skip
def test_a_wrong_profile_is_refused_with_the_reason(profile: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compile_filter(profile)


def test_a_filter_longer_than_the_kernel_takes_is_refused() -> None:
    rules = [
        {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": i % 4000, "args": [
            {"index": 0, "op": "SCMP_CMP_EQ", "value": i << 32 | i}]}
        for i in range(2, 3000)
    ]  # fmt: skip
    with pytest.raises(ValueError, match="4096"):
        compile_filter({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})


class Argument(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def libseccomp_filter(profile: dict[str, Any]) -> list[classic_bpf.Instruction]:
    """What libseccomp makes of a profile, without runc's answer of ENOSYS to unknown calls."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(action_value(profile["defaultAction"], 1))))
    library.seccomp_arch_add(context, ctypes.c_uint32(0x40000003))
    operators = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
    try:
        for rule in profile["syscalls"]:
            action = action_value(rule["action"], rule.get("errnoRet"))
            args = [
                Argument(a["index"], operators.index(a["op"][9:]) + 1, a["value"], a.get("valueTwo", 0))
                for a in rule.get("args") or []
            ]
            array = (Argument * len(args))(*args)
            for name in rule["names"]:
                number = library.seccomp_syscall_resolve_name(name.encode())
                if number != -1 and action != action_value(profile["defaultAction"], 1):
                    assert (
                        library.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, len(args), array) == 0
                    )
        out = os.memfd_create("filter")
        try:
            assert library.seccomp_export_bpf(context, out) == 0
            return classic_bpf.decode(os.pread(out, 1 << 20, 0))
        finally:
            os.close(out)
    finally:
        library.seccomp_release(context)


@pytest.mark.skipif(
    ctypes.util.find_library("seccomp") is None or os.uname().machine != "x86_64", reason="needs libseccomp on x86_64"
)
@pytest.mark.parametrize("capabilities", [DOCKER_CAPABILITIES, [*DOCKER_CAPABILITIES, "CAP_SYS_ADMIN"]])
def test_libseccomp_decides_the_same_with_more_instructions(capabilities: list[str]) -> None:
    profile = default_profile(capabilities, "x86_64", (6, 1))
    ours = classic_bpf.decode(compile_filter(profile))
    theirs = libseccomp_filter(profile)
    assert len(ours) < len(theirs) / 2
    compared = 0
    for architecture in ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"):
        for number in range(450):  # libseccomp 2.5 knows names up to here, and not that of the later 335
            if number == 335:
                continue
            for first in (0, 8, 37, 38, 39, 40, 41, 45, 0x20008, 0x10000000, 0xFFFFFFFF):
                answer, _ = classic_bpf.run(ours, AUDIT[architecture], number, (first, 0, 0, 0, 0, 0))
                assert answer == classic_bpf.run(theirs, AUDIT[architecture], number, (first, 0, 0, 0, 0, 0))[0], (
                    architecture, number, first,
                )  # fmt: skip
                compared += 1
    assert compared == 2 * 449 * 11
