"""Which devices a group may use: OCI rules, in order, as one decision, as v1's files and as a v2 program.

A rule allows or denies some of read, write and mknod (`rwm`) for a device, with wildcards. For each of the three, **the
last rule that matches the device decides**; where none does, the answer is no.

    deny  a *:*    rwm      reset: nothing is allowed
    allow c 1:3    rwm      /dev/null
    allow c 136:*  rwm      terminals
    deny  c 10:229 w        /dev/fuse, writing

v2 has no files for this: a BPF program is asked at each open and mknod, and can decide in exactly this way
(`kernel/bpf.py`). v1 keeps a default and a list of exceptions to it; where an exception to an exception would be needed
(allow c 1:*, then deny c 1:3), v1 would quietly not do as told, so this is an error there.

Runtime specification: config-linux.md, "Allowed Device list"; Linux: admin-guide/cgroup-v1/devices.rst.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from windlass.kernel import bpf
from windlass.kernel.cgroups.errors import CgroupError

WILDCARD = -1
MOST_RULES = 2048
_ACCESS = re.compile(r"[rwm]{1,3}")
_LISTED = re.compile(r"([abc]) ([0-9]+|\*):([0-9]+|\*) ([rwm]*)")


class Rule(NamedTuple):
    """`type` is "a" (all; the numbers are then wildcards), "b" or "c"; `access` a subset of "rwm" in that order."""

    allow: bool
    type: str
    major: int
    minor: int
    access: str

    def __str__(self) -> str:
        return _text((self.type, self.major, self.minor), self.access)


def _text(key: tuple[str, int, int], access: str) -> str:
    """A rule as v1's files write it: `c 136:* rwm`."""
    kind, major, minor = key
    return f"{kind} {'*' if major == WILDCARD else major}:{'*' if minor == WILDCARD else minor} {access}"


RESET = (Rule(True, "a", WILDCARD, WILDCARD, "rwm"), Rule(False, "a", WILDCARD, WILDCARD, "rwm"))


def _rule(allow: bool, text: str) -> Rule:
    match = _LISTED.fullmatch(text)
    assert match is not None
    major, minor = (WILDCARD if number == "*" else int(number) for number in (match[2], match[3]))
    return Rule(allow, match[1], major, minor, match[4])


CONTAINER_RULES = tuple(
    _rule(True, text)
    for text in (
        *("c *:* m", "b *:* m"),  # making a node grants nothing: opening it is asked again
        *("c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm"),  # null, zero, full, random, urandom
        *("c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"),  # tty, ptmx, the terminals of devpts
    )
)
"""What each container needs; runtimes append these to the rules that they are given."""


def container_resources(resources: Mapping[str, Any]) -> dict[str, Any]:
    """OCI `linux.resources` for a container: what is asked for, and the devices that each container needs. A
    configuration without device rules so allows no other devices, as with other runtimes."""
    needed = [rule._asdict() for rule in CONTAINER_RULES]
    return {**resources, "devices": [*(resources.get("devices") or ()), *needed]}


def _number(item: Mapping[str, Any], name: str) -> int:
    value = item.get(name)
    if value is None:
        return WILDCARD
    if not isinstance(value, int) or isinstance(value, bool) or not WILDCARD <= value < 2**32:
        raise CgroupError(errno.EINVAL, f"invalid resources: devices.{name} must be a device number, not {value!r:.80}")
    return value


def _access(item: Mapping[str, Any]) -> str:
    value = item.get("access")
    if value is None or value == "":
        return "rwm"
    if not isinstance(value, str) or not _ACCESS.fullmatch(value) or len(set(value)) != len(value):
        raise CgroupError(errno.EINVAL, f"invalid resources: devices.access must be of r, w and m, not {value!r:.80}")
    return "".join(letter for letter in "rwm" if letter in value)


def parse_rules(items: object) -> tuple[Rule, ...]:
    """The rules of an OCI `linux.resources.devices` list. CgroupError(EINVAL) on anything else.

    A rule for all types that is not about all devices and all access becomes a rule for block and one for character
    devices.
    """
    if not isinstance(items, (list, tuple)) or len(items) > MOST_RULES:
        raise CgroupError(errno.EINVAL, f"invalid resources: devices must be a list of up to {MOST_RULES} rules")
    rules: list[Rule] = []
    for item in items:
        if not isinstance(item, Mapping) or not isinstance(item.get("allow"), bool):
            raise CgroupError(errno.EINVAL, f"invalid resources: a device rule must say allow or not: {item!r:.80}")
        kind = item.get("type") or "a"
        if kind not in {"a", "b", "c", "u"}:
            raise CgroupError(errno.EINVAL, f"invalid resources: devices.type must be a, b, c or u, not {kind!r:.80}")
        rule = Rule(
            item["allow"], "c" if kind == "u" else kind, _number(item, "major"), _number(item, "minor"), _access(item)
        )
        if rule.type != "a" or rule in RESET:
            rules.append(rule)
        else:
            rules += [rule._replace(type="b"), rule._replace(type="c")]
    return tuple(rules)


def decide(rules: Iterable[Rule], kind: str, major: int, minor: int, access: str) -> bool:
    """May a device of type `kind` be used so? The meaning that files and program must have."""
    ordered = tuple(rules)

    def decision(letter: str) -> bool:
        for rule in reversed(ordered):
            if (
                rule.type in {"a", kind}
                and rule.major in {WILDCARD, major}
                and rule.minor in {WILDCARD, minor}
                and letter in rule.access
            ):
                return rule.allow
        return False

    return all(decision(letter) for letter in access)


class Exceptions(NamedTuple):
    """v1's form: everything is allowed or nothing is, but for these. Keys are (type, major, minor), values access."""

    allow: bool
    access: dict[tuple[str, int, int], str]


def _covers(wide: tuple[str, int, int], narrow: tuple[str, int, int]) -> bool:
    return wide[0] == narrow[0] and all(a in {WILDCARD, b} for a, b in zip(wide[1:], narrow[1:], strict=True))


def _overlap(one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    return one[0] == other[0] and all(a == b or WILDCARD in {a, b} for a, b in zip(one[1:], other[1:], strict=True))


def _without(access: str, taken: str) -> str:
    return "".join(letter for letter in access if letter not in taken)


def exceptions(rules: Iterable[Rule]) -> Exceptions:
    """The v1 form of `rules`. CgroupError(EINVAL) where v1 cannot express them."""
    default, found = False, dict[tuple[str, int, int], str]()
    for rule in rules:
        key = (rule.type, rule.major, rule.minor)
        if rule in RESET:
            default, found = rule.allow, {}
        elif rule.allow != default:
            merged = found.get(key, "") + rule.access
            found[key] = "".join(letter for letter in "rwm" if letter in merged)
        else:
            # Back to the default: take it from the exceptions that it covers; one that is wider cannot be holed.
            for other, access in list(found.items()):
                if not _overlap(key, other) or not set(access) & set(rule.access):
                    continue
                if not _covers(key, other):
                    raise CgroupError(
                        errno.EINVAL,
                        f"invalid resources: cgroup v1 cannot {'allow' if rule.allow else 'deny'} {rule} "
                        f"within {Rule(not default, *other, access)}",
                    )
                if left := _without(access, rule.access):
                    found[other] = left
                else:
                    del found[other]
    return Exceptions(default, found if default else _joined(found))


def _joined(found: dict[tuple[str, int, int], str]) -> dict[tuple[str, int, int], str]:
    """v1 lets a device be opened for reading and writing only by one exception that allows both, so what wider
    exceptions allow is added to the narrower ones. (Making a node is a question of its own: `m` needs no joining.)"""
    wide = {key: access for key, access in found.items() if WILDCARD in key and access != "m"}
    if not wide:
        return found
    joined = {}
    for key, access in found.items():
        if access != "rwm":
            access += "".join(other for other_key, other in wide.items() if _covers(other_key, key)).replace("m", "")
            access = "".join(letter for letter in "rwm" if letter in access)
        joined[key] = access
    return joined


def parse_list(text: str) -> Exceptions:
    """devices.list: exceptions to "nothing", or the one line that says everything (exceptions to it are not shown)."""
    found: dict[tuple[str, int, int], str] = {}
    for line in text.splitlines():
        match = _LISTED.fullmatch(line)
        if not match:
            raise ValueError(f"not a line of devices.list: {line[:80]!r}")
        if match[1] == "a":
            return Exceptions(True, {})
        rule = _rule(True, line)
        found[(rule.type, rule.major, rule.minor)] = rule.access
    return Exceptions(False, found)


def v1_writes(wanted: Exceptions, current: Exceptions | None) -> list[tuple[str, str]]:
    """(file, value) pairs that lead to `wanted`: from `current` in the smallest steps; if that is None, from anything.

    A group with children takes no reset (EINVAL), only single changes: hence the small steps for a running container.
    """
    writes: list[tuple[str, str]] = []
    allow, deny = "devices.allow", "devices.deny"
    # The file does not show the exceptions to "everything", so from there only a reset is sure.
    if current is None or current.allow or wanted.allow:
        writes.append((allow if wanted.allow else deny, "a"))
        current = Exceptions(wanted.allow, {})
    forward, back = (deny, allow) if wanted.allow else (allow, deny)
    for key, access in wanted.access.items():
        if more := _without(access, current.access.get(key, "")):
            writes.append((forward, _text(key, more)))
    for key, access in current.access.items():
        if less := _without(access, wanted.access.get(key, "")):
            writes.append((back, _text(key, less)))
    return writes


def program(rules: Iterable[Rule]) -> bytes:
    """v2's form of `rules`: instructions for `bpf.set_device_program`."""
    types = {"a": None, "b": bpf.BLOCK, "c": bpf.CHARACTER}
    masks = {"r": bpf.READ, "w": bpf.WRITE, "m": bpf.MKNOD}
    return bpf.device_program(
        [
            bpf.DeviceMatch(
                rule.allow,
                types[rule.type],
                None if rule.major == WILDCARD else rule.major,
                None if rule.minor == WILDCARD else rule.minor,
                sum(masks[letter] for letter in rule.access),
            )
            for rule in rules
        ]
    )
