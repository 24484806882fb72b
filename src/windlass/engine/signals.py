"""Signal names and numbers as the Engine API accepts them: `KILL`, `SIGKILL`, `sigkill`, `9`, `RTMIN+3`."""

from __future__ import annotations

import signal
from types import MappingProxyType
from typing import Final

from windlass.errors import InvalidParameter

# The kernel counts real-time signals from 32; the C library keeps the first two for itself.
_RTMIN, _RTMAX = 34, 64


def _table() -> dict[str, int]:
    names = {
        name.removeprefix("SIG"): number.value
        for name, number in signal.Signals.__members__.items()
        if not name.startswith("SIGRT")
    }
    names |= {"RTMIN": _RTMIN, "RTMAX": _RTMAX, "STKFLT": 16}
    names |= {f"RTMIN+{step}": _RTMIN + step for step in range(1, 16)}
    names |= {f"RTMAX-{step}": _RTMAX - step for step in range(1, 15)}
    return names


NUMBERS: Final = MappingProxyType(_table())
_VALID: Final = frozenset(NUMBERS.values())


def parse_signal(text: str) -> int:
    """The number that `text` names. Raises `InvalidParameter`."""
    try:
        number = int(text)
    except ValueError:
        number = NUMBERS.get(text.upper().removeprefix("SIG"), 0)
    if number == 0:
        raise InvalidParameter(f"invalid signal: {text}")
    return number


def parse_deliverable_signal(text: str) -> int:
    """Like `parse_signal`, and refuses a number that this kernel has no signal for."""
    number = parse_signal(text)
    if number not in _VALID:
        raise InvalidParameter(f"the linux daemon does not support signal {number}")
    return number
