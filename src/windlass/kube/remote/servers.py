"""The servers of a cluster as one of their clients sees them: the one in use, and where to go when it does not answer.

    first (a flag, never forgotten) ─┐
    learned (the endpoints)  ────────┴▶ current ── failed ──▶ the next one in turn

Source: https://docs.k3s.io/architecture#fixed-registration-address-for-agent-nodes
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

log = logging.getLogger("windlass.kube.remote")


class Servers:
    """Shared by all connections of a process."""

    def __init__(self, first: str, learned: Iterable[str] = ()) -> None:
        self._first = first.rstrip("/")
        self._listeners: list[Callable[[], None]] = []
        self.current = self._first
        self.known: tuple[str, ...] = ()
        self.learn(learned)

    def learn(self, urls: Iterable[str]) -> bool:
        """Take these for the cluster's servers; whether that is news. The one in use stays in use."""
        known = tuple(sorted({url.rstrip("/") for url in urls} - {self._first}))
        known, before = (self._first, *known), self.known
        self.known = known
        return known != before

    def failed(self, url: str) -> None:
        """A server did not answer: use the next one, unless somebody has seen to that before."""
        if url != self.current:
            return
        if len(self.known) > 1:
            position = self.known.index(url) if url in self.known else -1
            self.current = self.known[(position + 1) % len(self.known)]
            log.warning("%s does not answer: going on with %s", url, self.current)
        for listener in list(self._listeners):
            listener()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call this when a server has failed."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        """Call it no longer."""
        self._listeners.remove(listener)
