"""`--userns-remap`: which users of the host the users of containers are (user_namespaces(7), subuid(5)).

    --userns-remap  default | USER | USER:GROUP | UID[:GID]
    /etc/subuid     user:100000:65536        a container's 0…65535 are the host's 100000…165535

"default" stands for the user and group `windlass`, as dockerd's stands for `dockremap`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from windlass.errors import InvalidParameter
from windlass.oci.runtime import IDMapping

DEFAULT_NAME: Final = "windlass"
_LARGEST: Final = (1 << 32) - 2


class IDMappings(NamedTuple):
    """How users and groups of containers map to the host's."""

    users: list[IDMapping]
    groups: list[IDMapping]


def read_remap(text: str, etc: Path = Path("/etc")) -> IDMappings | None:
    """The mappings that `text` asks for; `None` for "". Raises `InvalidParameter` saying what is missing where."""
    if not text:
        return None
    user, colon, group = text.partition(":")
    if text == "default":
        user = group = DEFAULT_NAME
    elif not user or (colon and not group):
        raise InvalidParameter(f"invalid userns-remap {text!r}: expected default, USER or USER:GROUP")
    name, number, primary = _find(etc / "passwd", user, "user")
    if not group:
        group = str(primary)
    group_name, group_number, _ = _find(etc / "group", group, "group")
    return IDMappings(
        _ranges(etc / "subuid", name, number, "user"),
        _ranges(etc / "subgid", group_name, group_number, "group"),
    )


def _find(path: Path, wanted: str, kind: str) -> tuple[str, int, int]:
    """Name, number and (of a user) primary group of an account by its name or number."""
    for fields in _lines(path):
        if len(fields) > 3 and (fields[0] == wanted or fields[2] == wanted):
            return fields[0], _number(path, fields[2]), _number(path, fields[3]) if kind == "user" else 0
    raise InvalidParameter(f"userns-remap: unable to find {kind} {wanted} in {path}")


def _ranges(path: Path, name: str, number: int, kind: str) -> list[IDMapping]:
    """The ranges that belong to an account, one after the other from 0 on."""
    mappings: list[IDMapping] = []
    inside = 0
    for fields in _lines(path):
        if len(fields) == 3 and fields[0] in (name, str(number)):
            start, size = _number(path, fields[1]), _number(path, fields[2])
            if size < 1 or start + size - 1 > _LARGEST or inside + size - 1 > _LARGEST:
                raise InvalidParameter(f"userns-remap: the range {start}:{size} in {path} is not possible")
            mappings.append({"containerID": inside, "hostID": start, "size": size})
            inside += size
    if not mappings:
        raise InvalidParameter(f"userns-remap: no ranges of {kind} {name} in {path}")
    return mappings


def _lines(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise InvalidParameter(f"userns-remap: cannot read {path}: {error.strerror}") from error
    return [line.split(":") for line in text.splitlines() if line and not line.startswith("#")]


def _number(path: Path, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InvalidParameter(f"userns-remap: {text!r} in {path} is no number")
    return int(text)
