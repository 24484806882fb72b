"""The keys that take a client off a container's terminal without ending it; by default Ctrl-P, Ctrl-Q."""

from __future__ import annotations

from typing import Final

from windlass.errors import InvalidParameter

DEFAULT_KEYS: Final = b"\x10\x11"
_CONTROLS: Final = {f"ctrl-{character}": code for code, character in enumerate("@abcdefghijklmnopqrstuvwxyz[\\]^_")}


def parse_keys(text: str) -> bytes:
    """The bytes of a comma-separated key sequence such as `ctrl-a,b,DEL`; empty text is the default sequence.

    Raises `InvalidParameter`.
    """
    if not text:
        return DEFAULT_KEYS
    codes = bytearray()
    for key in text.split(","):
        if key in _CONTROLS:
            codes.append(_CONTROLS[key])
        elif key == "DEL":
            codes.append(127)
        elif len(key) == 1 and key.isascii():
            codes.append(ord(key))
        else:
            raise InvalidParameter(f"Invalid detach keys ({text}) provided")
    return bytes(codes)


class DetachDetector:
    """Watches a client's input for the sequence; holds back what may be its beginning."""

    def __init__(self, keys: bytes = DEFAULT_KEYS) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on of `data` (and of what was held back), and whether the sequence is complete."""
        keys = self._keys
        if not self._matched and keys[0] not in data:
            return data, False
        passed = bytearray()
        for byte in data:
            while self._matched and byte != keys[self._matched]:
                # The longest ending of what was held back that is still a beginning of the sequence.
                held = keys[: self._matched]
                keep = next((size for size in range(self._matched - 1, 0, -1) if held.endswith(keys[:size])), 0)
                passed += held[: self._matched - keep]
                self._matched = keep
            if byte != keys[self._matched]:
                passed.append(byte)
                continue
            self._matched += 1
            if self._matched == len(keys):
                return bytes(passed), True
        return bytes(passed), False
