"""Device rules mean the same as a decision, as v1's list and as v2's program.

The program is run by an interpreter of the few instructions that it uses, v1's list by the kernel's rule for it; both
must answer as `decide` does, for any rules.
"""

from __future__ import annotations

import struct
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kernel import bpf
from windlass.kernel.cgroups import CgroupError
from windlass.kernel.cgroups.devices import (
    CONTAINER_RULES,
    MOST_RULES,
    RESET,
    WILDCARD,
    Exceptions,
    Rule,
    container_resources,
    decide,
    exceptions,
    parse_list,
    parse_rules,
    program,
    v1_writes,
)

DENY_ALL = {"allow": False, "access": "rwm"}


def run(code: bytes, kind: int, major: int, minor: int, access: int) -> int:
    """What the kernel would answer: the instructions carried out one by one."""
    context = {0: access << 16 | kind, 4: major, 8: minor}
    registers = [0] * 11
    at = 0
    for _ in range(len(code)):
        opcode, both, offset, immediate = struct.unpack_from("=BBhI", code, at * 8)
        low, high = both & 15, both >> 4
        destination, source = (low, high) if sys.byteorder == "little" else (high, low)
        at += 1
        match opcode:
            case 0x61:
                registers[destination] = context[offset]
            case 0xB4:
                registers[destination] = immediate
            case 0xBC:
                registers[destination] = registers[source]
            case 0x54:
                registers[destination] &= immediate
            case 0x74:
                registers[destination] >>= immediate
            case 0x05:
                at += offset
            case 0x56:
                at += offset if registers[destination] != immediate else 0
            case 0x46:
                at += offset if registers[destination] & immediate else 0
            case 0x95:
                return registers[0]
            case _:
                raise AssertionError(f"unknown opcode {opcode:#x}")
    raise AssertionError("the program does not end")


def v1_answer(found: Exceptions, kind: str, major: int, minor: int, access: str) -> bool:
    """Linux, security/device_cgroup.c: allowed by default and no exception touches it, or one exception covers all."""
    matching = [
        held
        for (other, a, b), held in found.access.items()
        if other == kind and a in {WILDCARD, major} and b in {WILDCARD, minor}
    ]
    if found.allow:
        return not any(set(held) & set(access) for held in matching)
    return any(set(access) <= set(held) for held in matching)


NUMBERS = st.sampled_from([WILDCARD, 0, 1, 5, 2**32 - 1])
ACCESS = st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"])
RULES = st.lists(
    st.sampled_from(RESET) | st.builds(Rule, st.booleans(), st.sampled_from("bc"), NUMBERS, NUMBERS, ACCESS), max_size=8
)
DEVICES = [(kind, major, minor) for kind in "bc" for major in (0, 1, 5, 2**32 - 1) for minor in (0, 1, 5, 9)]
MASK = {"r": bpf.READ, "w": bpf.WRITE, "m": bpf.MKNOD}


@given(RULES)
def test_the_program_decides_as_the_rules_say(rules: list[Rule]) -> None:
    code = program(rules)
    for kind, major, minor in DEVICES:
        for access in ("r", "w", "rw", "m", "rwm"):
            number = bpf.CHARACTER if kind == "c" else bpf.BLOCK
            answer = run(code, number, major, minor, sum(MASK[letter] for letter in access))
            assert answer == decide(rules, kind, major, minor, access)


@given(RULES)
def test_the_v1_list_decides_as_the_rules_say_or_is_refused(rules: list[Rule]) -> None:
    try:
        found = exceptions(rules)
    except CgroupError:
        return  # the next tests show when
    for kind, major, minor in DEVICES:
        for access in ("r", "w", "m"):
            assert v1_answer(found, kind, major, minor, access) == decide(rules, kind, major, minor, access)


@given(RULES, RULES)
def test_small_steps_lead_from_one_v1_list_to_another(before: list[Rule], after: list[Rule]) -> None:
    try:
        start, goal = exceptions(before), exceptions(after)
    except CgroupError:
        return
    state = Exceptions(start.allow, dict(start.access))
    for file, text in v1_writes(goal, start):
        state = v1_write(state, file == "devices.allow", text)
    assert state == goal


def v1_write(state: Exceptions, allow: bool, text: str) -> Exceptions:
    """Linux, devcgroup_update_access: a reset, an addition to the exceptions, or a removal from the very same one."""
    if text == "a":
        return Exceptions(allow, {})
    kind, numbers, access = text.split(" ")
    major, minor = (WILDCARD if number == "*" else int(number) for number in numbers.split(":"))
    key, found = (kind, major, minor), dict(state.access)
    kept = set(found.pop(key, ""))
    kept = kept | set(access) if allow != state.allow else kept - set(access)
    if kept:
        found[key] = "".join(letter for letter in "rwm" if letter in kept)
    return Exceptions(state.allow, found)


def test_the_rules_of_a_container() -> None:
    rules = parse_rules([DENY_ALL]) + CONTAINER_RULES
    found = exceptions(rules)
    assert not found.allow
    assert v1_writes(found, None) == [
        ("devices.deny", "a"),
        *(("devices.allow", text) for text in ("c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm")),
        *(("devices.allow", text) for text in ("c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm")),
    ]
    assert decide(rules, "c", 1, 3, "rw")
    assert not decide(rules, "b", 8, 0, "r")
    assert decide(rules, "b", 8, 0, "m")


def test_a_container_has_its_devices_whatever_its_configuration_says() -> None:
    for rules in ([], [DENY_ALL], [DENY_ALL, {"allow": True, "type": "c", "major": 10, "minor": 200}]):
        found = parse_rules(container_resources({"devices": rules, "pids": {"limit": 1}})["devices"])
        assert decide(found, "c", 136, 7, "rw")
        assert decide(found, "c", 1, 7, "rw")
        assert not decide(found, "b", 8, 0, "r")
        assert decide(found, "c", 10, 200, "rw") == (len(rules) == 2)
    assert container_resources({"pids": {"limit": 1}})["pids"] == {"limit": 1}


def test_an_exception_to_an_exception_is_an_error_on_v1() -> None:
    rules = parse_rules(
        [DENY_ALL, {"allow": True, "type": "c", "major": 1}, {"allow": False, "type": "c", "major": 1, "minor": 3}]
    )
    with pytest.raises(CgroupError, match=r"cannot deny c 1:3 rwm within c 1:\* rwm"):
        exceptions(rules)


def test_reading_and_writing_may_come_from_two_rules() -> None:
    found = exceptions(
        parse_rules([DENY_ALL, {"allow": True, "type": "c", "major": 1, "access": "r"},
                     {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "w"}])
    )  # fmt: skip
    assert v1_answer(found, "c", 1, 3, "rw")
    assert not v1_answer(found, "c", 1, 4, "rw")


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"allow": "yes"},
        {"allow": True, "type": "x"},
        {"allow": True, "access": "rx"},
        {"allow": True, "access": "rr"},
        {"allow": True, "major": -2},
        {"allow": True, "major": 2**32},
        {"allow": True, "minor": "3"},
        "c 1:3 rwm",
        None,
    ],
)
def test_other_rules_are_refused(item: Any) -> None:
    with pytest.raises(CgroupError, match="invalid resources"):
        parse_rules([item])


def test_too_many_rules_are_refused() -> None:
    with pytest.raises(CgroupError, match="up to"):
        parse_rules([DENY_ALL] * (MOST_RULES + 1))


def test_a_rule_for_all_types_with_numbers_is_about_both_types() -> None:
    assert parse_rules([{"allow": True, "type": "a", "major": 7, "access": "r"}]) == (
        Rule(True, "b", 7, WILDCARD, "r"),
        Rule(True, "c", 7, WILDCARD, "r"),
    )


def test_devices_list_is_read() -> None:
    assert parse_list("a *:* rwm\n") == Exceptions(True, {})
    assert parse_list("c 1:3 rw\nb *:* m\n") == Exceptions(False, {("c", 1, 3): "rw", ("b", WILDCARD, WILDCARD): "m"})
    with pytest.raises(ValueError, match="not a line"):
        parse_list("c 1:3\n")
