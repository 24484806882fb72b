"""Which revisions a store keeps: the recent ones, by time and by number.

Kubernetes' API server compacts what is older than five minutes, so that a client may finish a list that it reads in
pages and resume a watch. A store that is hardly written keeps more: at least a number of revisions.

Pure: the clock's value is passed in.
"""

from __future__ import annotations

from collections import deque


class History:
    """Decides up to where to compact.

    Args:
        seconds: how long a revision is kept at least.
        revisions: how many of the latest are kept at least.
        most: how many are kept at most, whatever their age, so that memory stays bounded (0: no bound).
    """

    def __init__(self, seconds: float = 300.0, revisions: int = 1000, most: int = 200_000) -> None:
        self._seconds = seconds
        self._revisions = revisions
        self._most = most
        self._marks: deque[tuple[float, int]] = deque()

    def compaction(self, now: float, revision: int) -> int:
        """The revision to compact through; 0 for none. Call it now and then with the present revision."""
        self._marks.append((now, revision))
        old = 0
        while self._marks and self._marks[0][0] <= now - self._seconds:
            old = self._marks[0][1]
            if len(self._marks) > 1 and self._marks[1][0] <= now - self._seconds:
                self._marks.popleft()
            else:
                break
        target = min(old, revision - self._revisions)
        if self._most:
            target = max(target, revision - self._most)
        return max(target, 0)
