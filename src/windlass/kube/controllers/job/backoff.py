"""How long a job waits before it replaces a pod that failed: ten seconds, twice as long each time, ten minutes at most.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-backoff-failure-policy
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from windlass.kube.api.resource import Object
from windlass.kube.controllers.job import pods

_FIRST: Final = 10.0
_LONGEST: Final = 600.0


@dataclass(frozen=True)
class Failures:
    """How often pods failed since one succeeded last, and when the last one did."""

    count: int = 0
    last: int = 0

    def after(self, succeeded: Sequence[Object], failed: Sequence[Object]) -> Failures:
        """The same when some more pods have ended."""
        ends = sorted(map(pods.finished_at, failed))
        if not succeeded:
            return Failures(self.count + len(ends), ends[-1]) if ends else self
        success = max(map(pods.finished_at, succeeded))
        ends = [each for each in ends if each > success]
        return Failures(len(ends), ends[-1]) if ends else Failures()


def remaining(failures: Failures, now: float) -> float:
    """Seconds to wait from now on."""
    if not failures.count:
        return 0.0
    wait: float = min(_FIRST * 2.0 ** min(failures.count - 1, 30), _LONGEST)
    return max(wait - (now - failures.last), 0.0)
