"""Which run of a container a log is of, and how its lines are shown."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from windlass.kube.api.status import StatusError
from windlass.kube.node.resources import Limits
from windlass.kube.node.runtime import REGULAR, Found
from windlass.kube.node.server.logs import _Lines, chosen
from windlass.logs.entry import LogEntry


def found(attempt: int, **more: Any) -> Found:
    made = Found(
        id=f"id{attempt}",
        name="c",
        kind=REGULAR,
        attempt=attempt,
        hash="",
        sandbox="",
        running=False,
        was_started=True,
        started_at=1,
        finished_at=2,
        created_at=1,
        exit_code=0,
        oom_killed=False,
        failure="",
        image="",
        image_id="",
        message_file="",
        limits=Limits(0, -1, 0),
        stop_signal="",
    )
    return dataclasses.replace(made, **more)


def pick(*runs: Found, known: dict[str, Any] | None = None, previous: bool = False) -> str:
    return chosen(runs, known or {}, "c", "p", previous=previous).id


def last_state(identity: str) -> dict[str, Any]:
    return {"state": {}, "lastState": {"terminated": {"containerID": f"windlass://{identity}"}}}


def test_the_latest_run_is_shown() -> None:
    assert pick(found(0), found(1, running=True)) == "id1"
    assert pick(found(0)) == "id0"
    assert pick(found(0), found(1, was_started=False)) == "id0"


def test_the_run_before_is_what_the_status_says_or_what_is_here() -> None:
    assert pick(found(0), found(1, running=True), previous=True) == "id0"
    assert pick(found(0), known=last_state("id0"), previous=True) == "id0"
    assert pick(found(0), found(1, running=True), known=last_state("gone"), previous=True) == "id0"
    with pytest.raises(StatusError, match='previous terminated container "c" in pod "p" not found'):
        pick(found(0, running=True), previous=True)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"waiting": {"reason": "ErrImagePull"}}, "is waiting to start: image can't be pulled"),
        ({"waiting": {"reason": "ImagePullBackOff"}}, "is waiting to start: trying and failing to pull image"),
        ({"waiting": {"reason": "ContainerCreating"}}, "is waiting to start: ContainerCreating"),
        ({"terminated": {}}, "is terminated"),
        ({}, "is not available"),
    ],
)
def test_why_there_is_no_log(state: dict[str, Any], message: str) -> None:
    with pytest.raises(StatusError) as refused:
        pick(known={"state": state} if state else {})
    assert (refused.value.code, refused.value.message) == (400, f'container "c" in pod "p" {message}')


def test_long_lines_have_one_time() -> None:
    lines = _Lines(timestamps=True)
    batch = [
        LogEntry("stdout", 1_000_000_001, b"long "),
        LogEntry("stderr", 2_000_000_000, b"other\n"),
        LogEntry("stdout", 3_000_000_000, b"line\n"),
    ]
    wanted = b"1970-01-01T00:00:01.000000001Z long 1970-01-01T00:00:02.000000000Z other\nline\n"
    assert lines.render(batch) == wanted
    assert _Lines(timestamps=False).render(batch) == b"long other\nline\n"
