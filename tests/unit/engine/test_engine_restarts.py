"""When a container is started again."""

from __future__ import annotations

import pytest

from windlass.engine.restarts import (
    FIRST_DELAY,
    LONGEST_DELAY,
    Backoff,
    Policy,
    Run,
    decide,
    starts_with_daemon,
)
from windlass.engine.timestamps import MILLISECOND, SECOND

SHORT = 50 * MILLISECOND


@pytest.mark.parametrize(
    ("policy", "run", "restart"),
    [
        (Policy("no"), Run(1, SHORT), False),
        (Policy(""), Run(1, SHORT), False),
        (Policy("always"), Run(0, SHORT), True),
        (Policy("always"), Run(0, SHORT, signalled_by_hand=True), True),
        (Policy("always"), Run(0, SHORT, cancelled=True), False),
        (Policy("unless-stopped"), Run(0, SHORT), True),
        (Policy("unless-stopped"), Run(0, SHORT, signalled_by_hand=True), False),
        (Policy("on-failure"), Run(0, SHORT), False),
        (Policy("on-failure"), Run(1, SHORT), True),
        (Policy("on-failure"), Run(1, SHORT, cancelled=True), False),
    ],
)
def test_policies(policy: Policy, run: Run, restart: bool) -> None:
    assert decide(policy, Backoff(), run).restart is restart


def test_the_wait_doubles_up_to_a_minute() -> None:
    backoff, delays = Backoff(), []
    for _ in range(12):
        decision = decide(Policy("always"), backoff, Run(1, SHORT))
        backoff = decision.backoff
        delays.append(backoff.delay_ns)
    assert delays[:4] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY, 8 * FIRST_DELAY]
    assert delays[-1] == LONGEST_DELAY
    assert backoff.restarts == 12


def test_a_long_run_forgives() -> None:
    tried = Backoff(restarts=7, delay_ns=LONGEST_DELAY)
    assert decide(Policy("always"), tried, Run(1, 10 * SECOND)).backoff.delay_ns == FIRST_DELAY


def test_on_failure_counts() -> None:
    policy, backoff = Policy("on-failure", 2), Backoff()
    outcomes = []
    for _ in range(4):
        decision = decide(policy, backoff, Run(1, SHORT))
        backoff = decision.backoff
        outcomes.append(decision.restart)
    assert outcomes == [True, True, False, False]


@pytest.mark.parametrize(
    ("policy", "exit_code", "by_hand", "was_started", "starts"),
    [
        ("always", 0, True, True, True),
        ("always", 0, False, False, False),
        ("unless-stopped", 1, True, True, False),
        ("unless-stopped", 0, False, True, True),
        ("on-failure", 1, False, True, True),
        ("on-failure", 0, False, True, False),
        ("no", 1, False, True, False),
    ],
)
def test_when_the_daemon_starts(policy: str, exit_code: int, by_hand: bool, was_started: bool, starts: bool) -> None:
    assert (
        starts_with_daemon(
            Policy(policy), exit_code=exit_code, stopped_by_hand=by_hand, restarts=0, was_started=was_started
        )
        is starts
    )
