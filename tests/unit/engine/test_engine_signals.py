"""Signals by name and number."""

from __future__ import annotations

import pytest

from windlass.engine.signals import parse_deliverable_signal, parse_signal
from windlass.errors import InvalidParameter


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("KILL", 9),
        ("SIGKILL", 9),
        ("sigterm", 15),
        ("9", 9),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63),
        ("STKFLT", 16),
        ("POLL", 29),
        ("WINCH", 28),
    ],
)
def test_known_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number
    assert parse_deliverable_signal(text) == number


@pytest.mark.parametrize("text", ["", "0", "NOSUCH", "SIGSIGKILL", "RTMIN+99"])
def test_unknown_signals(text: str) -> None:
    with pytest.raises(InvalidParameter, match=f"invalid signal: {text.replace('+', '.')}"):
        parse_signal(text)


@pytest.mark.parametrize("text", ["65", "-1", "33", "1000"])
def test_numbers_that_are_no_signal(text: str) -> None:
    with pytest.raises(InvalidParameter, match="the linux daemon does not support signal"):
        parse_deliverable_signal(text)
