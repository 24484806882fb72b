"""Waiting longer after each failure. Pure: the clock is the caller's.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy
"""

from __future__ import annotations

from collections.abc import Hashable

FIRST, LONGEST, FORGIVEN_AFTER = 10.0, 300.0, 600.0


class Backoff:
    """Delays by key, in seconds: 10, 20, 40 … 300; what has gone well for ten minutes begins anew."""

    def __init__(self, first: float = FIRST, longest: float = LONGEST) -> None:
        self._first, self._longest = first, longest
        self._entries: dict[Hashable, tuple[float, float]] = {}

    def delay(self, key: Hashable) -> float:
        """What the next attempt has to wait after the last failure, 0 if there was none."""
        found = self._entries.get(key)
        return found[0] if found is not None else 0.0

    def failed(self, key: Hashable, now: float) -> None:
        """Another failure: the next delay is twice as long."""
        found = self._entries.get(key)
        if found is None or now - found[1] > max(FORGIVEN_AFTER, 2 * self._longest):
            self._entries[key] = (self._first, now)
        else:
            self._entries[key] = (min(found[0] * 2, self._longest), now)

    def forget(self, key: Hashable) -> None:
        """It went well, or is gone."""
        self._entries.pop(key, None)
