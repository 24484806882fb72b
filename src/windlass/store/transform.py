"""Between memory and disk: values may be kept in another form there (encrypted)."""

from __future__ import annotations

from typing import Protocol


class Transformer(Protocol):
    """Both directions depend on the key, so that a value cannot be moved to another one."""

    def encode(self, key: bytes, value: bytes) -> bytes:
        """The form to keep."""

    def decode(self, key: bytes, data: bytes) -> tuple[bytes, bool]:
        """The value, and whether it should be written anew (an old key, an old form).

        Raises:
            ValueError: it is none of ours, or its key is not known.
        """


class Identity:
    """Kept as it is."""

    def encode(self, key: bytes, value: bytes) -> bytes:
        """The value itself."""
        return value

    def decode(self, key: bytes, data: bytes) -> tuple[bytes, bool]:
        """The value itself."""
        return data, False


IDENTITY = Identity()
