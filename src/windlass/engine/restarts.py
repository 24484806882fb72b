"""When a container that ended is started again, and how long that waits. Pure: state and facts in, a decision out.

The wait doubles from 100 ms to at most a minute; a run of ten seconds or more forgives what was before. A policy
other than "no" restarts by these rules:

    always           whatever the exit code
    unless-stopped   whatever the exit code, but not if a signal was sent by hand
    on-failure[:n]   a non-zero exit code, at most n times in a row (0: no limit)

`docker stop`, and any signal that is the container's stop signal, cancels the restart whatever the policy. When the
daemon starts, `always` starts also what was stopped by hand, and `unless-stopped` does not (`starts_with_daemon`).
"""

from __future__ import annotations

from typing import NamedTuple

from windlass.engine.timestamps import MILLISECOND, SECOND

FIRST_DELAY = 100 * MILLISECOND
LONGEST_DELAY = 60 * SECOND
FORGIVING_RUN = 10 * SECOND


class Policy(NamedTuple):
    """`HostConfig.RestartPolicy`."""

    name: str
    maximum_retry_count: int = 0


class Run(NamedTuple):
    """What is known about the run that just ended."""

    exit_code: int
    duration_ns: int
    signalled_by_hand: bool = False
    cancelled: bool = False


class Backoff(NamedTuple):
    """What is carried from one restart to the next."""

    restarts: int = 0
    delay_ns: int = 0


class Decision(NamedTuple):
    """Whether to start again, and the state to carry on; `backoff.delay_ns` is how long to wait."""

    restart: bool
    backoff: Backoff


def decide(policy: Policy, backoff: Backoff, run: Run) -> Decision:
    """What follows the end of `run`."""
    delay = 0 if run.duration_ns >= FORGIVING_RUN else backoff.delay_ns
    delay = min(delay * 2, LONGEST_DELAY) if delay else FIRST_DELAY
    match policy.name:
        case _ if run.cancelled:
            restart = False
        case "always":
            restart = True
        case "unless-stopped":
            restart = not run.signalled_by_hand
        case "on-failure":
            limit = policy.maximum_retry_count
            restart = run.exit_code != 0 and (limit == 0 or backoff.restarts < limit)
        case _:
            restart = False
    if not restart:
        return Decision(False, Backoff(backoff.restarts, delay))
    return Decision(True, Backoff(backoff.restarts + 1, delay))


def starts_with_daemon(
    policy: Policy, *, exit_code: int, stopped_by_hand: bool, restarts: int, was_started: bool
) -> bool:
    """Whether a container that is not running is started when the daemon starts."""
    if not was_started:
        return False
    match policy.name:
        case "always":
            return True
        case "unless-stopped":
            return not stopped_by_hand
        case "on-failure":
            limit = policy.maximum_retry_count
            return exit_code != 0 and not stopped_by_hand and (limit == 0 or restarts < limit)
        case _:
            return False
