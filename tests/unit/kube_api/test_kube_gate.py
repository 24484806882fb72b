"""Priority and fairness at work, and the controllers' queue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from windlass.kube.api.flowcontrol.gate import Gate
from windlass.kube.api.identity import Attributes, User
from windlass.kube.api.status import StatusError
from windlass.kube.controllers.queue import WorkQueue


class Objects:
    """A reader of two lists."""

    def __init__(self, **lists: list[dict[str, Any]]) -> None:
        self._lists = lists

    def get(self, group: str, resource: str, namespace: str, name: str) -> None:
        return None

    def list(self, group: str, resource: str, namespace: str = "") -> list[dict[str, Any]]:
        return self._lists.get(resource, [])

    def subscribe(self, group: str, resource: str, listener: Any) -> None:
        pass


def gate(seats: int, queue_length: int) -> Gate:
    queuing = {"queues": 4, "handSize": 1, "queueLengthLimit": queue_length}
    level = {
        "metadata": {"name": "low", "uid": "1"},
        "spec": {
            "type": "Limited",
            "limited": {"nominalConcurrencyShares": 10, "limitResponse": {"type": "Queue", "queuing": queuing}},
        },
    }
    rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
    everybody = {"kind": "Group", "group": {"name": "*"}}
    schema = {
        "metadata": {"name": "all", "uid": "2"},
        "spec": {
            "priorityLevelConfiguration": {"name": "low"},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{"subjects": [everybody], "resourceRules": [rule]}],
        },
    }
    return Gate(Objects(flowschemas=[schema], prioritylevelconfigurations=[level]), seats)


def asked(name: str, *groups: str) -> Attributes:
    return Attributes(User(name, groups=("system:authenticated", *groups)), "list", "", "v1", "pods")


async def test_who_finds_no_seat_waits_for_one() -> None:
    found = gate(1, 5)
    first, second = found.enter(asked("a")), found.enter(asked("b"))
    assert first is not None and second is not None
    await found.wait(first)
    waiting = asyncio.ensure_future(found.wait(second))
    await asyncio.sleep(0)
    assert found.waiting == 1 and not waiting.done()
    found.leave(first)
    await waiting
    assert found.running == 1
    found.leave(second)
    assert found.running == 0


async def test_who_finds_the_queue_full_is_told_to_come_later() -> None:
    found = gate(1, 1)
    first, second = found.enter(asked("a")), found.enter(asked("a"))
    assert first is not None and second is not None
    with pytest.raises(StatusError) as caught:
        found.enter(asked("a"))
    assert caught.value.code == 429 and caught.value.retry_after == 1
    assert found.enter(asked("root", "system:masters")) is None
    waiting = asyncio.ensure_future(found.wait(second))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    found.leave(first)
    assert found.running == 0


async def test_a_key_is_worked_on_by_one_worker_and_never_lost() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(3):
        queue.add("a")
    assert len(queue) == 1 and await queue.get() == "a"
    queue.add("a")  # changed while it is worked on
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert queue.is_idle
    delays = [queue.retry("b") for _ in range(4)]
    assert delays == sorted(delays) and delays[0] < delays[3]
    assert await asyncio.wait_for(queue.get(), 5) == "b"
    queue.forget("b")
    queue.close()
    assert await queue.get() is None
