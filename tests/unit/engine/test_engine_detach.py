"""The keys that leave a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.engine.detach import DEFAULT_KEYS, DetachDetector, parse_keys
from windlass.errors import InvalidParameter


@pytest.mark.parametrize(
    ("text", "keys"),
    [("", b"\x10\x11"), ("ctrl-p,ctrl-q", b"\x10\x11"), ("a,b", b"ab"), ("ctrl-@,DEL,ctrl-_", b"\x00\x7f\x1f")],
)
def test_sequences(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-ab", "abc", "a,,b", "ctrl-P", "é"])
def test_what_is_no_sequence(text: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid detach keys"):
        parse_keys(text)


def test_other_input_passes_and_the_sequence_ends_it() -> None:
    detector = DetachDetector()
    assert detector.feed(b"ls\n") == (b"ls\n", False)
    assert detector.feed(b"\x10") == (b"", False)
    assert detector.feed(b"x") == (b"\x10x", False)
    assert detector.feed(b"ab\x10\x11cd") == (b"ab", True)


def test_a_beginning_inside_a_failed_match_counts() -> None:
    assert DetachDetector(b"aab").feed(b"aaab") == (b"a", True)


@given(st.lists(st.binary(max_size=6)), st.binary(min_size=1, max_size=4))
def test_detection_does_not_depend_on_how_the_input_is_cut(parts: list[bytes], keys: bytes) -> None:
    whole = b"".join(parts)
    passed, detached = b"", False
    detector = DetachDetector(keys)
    for part in parts:
        out, detached = detector.feed(part)
        passed += out
        if detached:
            break
    place = whole.find(keys)
    assert detached is (place >= 0)
    if detached:
        assert passed == whole[:place]
    else:
        held = len(whole) - len(passed)
        assert whole.startswith(passed)
        assert held == 0 or keys.startswith(whole[-held:])


def test_the_default_is_ctrl_p_ctrl_q() -> None:
    assert bytes([16, 17]) == DEFAULT_KEYS
