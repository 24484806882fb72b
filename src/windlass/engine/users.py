"""Who a container's process is: `--user` and `--group-add`, resolved with the image's own passwd and group files. Pure.

The files are data from a stranger: lines that do not parse are skipped, numbers outside 0..2³¹-1 are refused, and no
name service of the host is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from windlass.errors import InvalidParameter

HIGHEST_ID: Final = (1 << 31) - 1
_LONGEST_FILE: Final = 8 << 20


class Account(NamedTuple):
    """A process's identity: numbers for the kernel, a home for the environment."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


class _User(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class _Group(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


class AccountFiles(NamedTuple):
    """The contents of /etc/passwd and /etc/group, empty where there is no such file."""

    passwd: bytes = b""
    group: bytes = b""


def _identifier(text: str) -> int | None:
    """The number that `text` is, or None if it is a name. Raises `InvalidParameter` out of range."""
    digits = text[1:] if text[:1] in {"-", "+"} else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    number = int(text) if len(digits) < 20 else -1
    if not 0 <= number <= HIGHEST_ID:
        raise InvalidParameter(f"uids and gids must be in range 0-{HIGHEST_ID}")
    return number


def _number(text: str) -> int | None:
    """A number of the files; None where the line is broken."""
    try:
        return _identifier(text)
    except InvalidParameter:
        return None


def _lines(content: bytes) -> Iterator[list[str]]:
    for line in content[:_LONGEST_FILE].split(b"\n"):
        line = line.strip()
        if line and not line.startswith(b"#"):
            yield line.decode(errors="replace").split(":")


def _users(content: bytes) -> Iterator[_User]:
    for fields in _lines(content):
        name, _, uid, gid, _, home, *_ = [*fields, "", "", "", "", "", ""]
        numbers = _number(uid), _number(gid)
        if numbers[0] is not None and numbers[1] is not None:
            yield _User(name, numbers[0], numbers[1], home)


def _groups(content: bytes) -> Iterator[_Group]:
    for fields in _lines(content):
        name, _, gid, members, *_ = [*fields, "", "", ""]
        if (number := _number(gid)) is not None:
            yield _Group(name, number, tuple(member for member in members.split(",") if member))


def resolve(user: str, additional: Sequence[str], files: AccountFiles) -> Account:
    """The identity that `user` (`name|uid[:group|gid]`, empty for root) names, with its supplementary groups.

    A number needs no entry in the files; a name does. Raises `InvalidParameter`.
    """
    name, _, group = user.partition(":")
    group = group.partition(":")[0]
    uid, wanted_gid = _identifier(name) if name else 0, _identifier(group) if group else None
    found = next(
        (entry for entry in _users(files.passwd) if (entry.uid == uid if uid is not None else entry.name == name)),
        None,
    )
    if found is None and uid is None:
        raise InvalidParameter(f"unable to find user {name}: no matching entries in passwd file")
    result_uid = found.uid if found else uid or 0
    result_gid, home = (found.gid, found.home) if found else (0, "/")
    supplementary: list[int] = []
    if group:
        if wanted_gid is None:
            match = next((entry for entry in _groups(files.group) if entry.name == group), None)
            if match is None:
                raise InvalidParameter(f"unable to find group {group}: no matching entries in group file")
            wanted_gid = match.gid
        result_gid = wanted_gid
    elif found:
        supplementary = [entry.gid for entry in _groups(files.group) if found.name in entry.members]
    supplementary += _additional(additional, files)
    groups = dict.fromkeys((result_gid, *supplementary))
    return Account(result_uid, result_gid, tuple(groups), home or "/")


def _additional(names: Sequence[str], files: AccountFiles) -> list[int]:
    if not names:
        return []
    known = {entry.name: entry.gid for entry in reversed(list(_groups(files.group)))}
    result = []
    for name in names:
        gid = _identifier(name)
        if gid is None:
            if name not in known:
                raise InvalidParameter(f"unable to find group {name}: no matching entries in group file")
            gid = known[name]
        result.append(gid)
    return sorted(dict.fromkeys(result))
