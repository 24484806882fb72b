"""Priority and fairness for requests: each waits for a seat of its level, or hears that it should come later.

    request ─ flow schema ─▶ level, flow ─ seat ─▶ runs ─ seat given back, the next one runs
                                         └ queue is full, or the wait too long ─▶ 429 with Retry-After

One process serves everybody, so what is limited is the number of requests that are between their start and their
answer. Watches give their seat back when they have begun. Members of system:masters are exempt.

Source: https://kubernetes.io/docs/concepts/cluster-administration/flow-control/
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from windlass.kube.api import status
from windlass.kube.api.flowcontrol.matching import flow_of, matches, sort_schemas
from windlass.kube.api.flowcontrol.queueing import Level, Queue, Server, State, Ticket
from windlass.kube.api.identity import MASTERS, Attributes
from windlass.kube.api.reader import Object, Reader

_GROUP = "flowcontrol.apiserver.k8s.io"
_LONGEST_WAIT = 15.0


class Gate:
    """The seats of one server.

    Args:
        seats: requests that run at once, over all levels.
    """

    def __init__(self, reader: Reader, seats: int) -> None:
        self._reader = reader
        self._seats = seats
        self._server = Server(seats)
        self._levels: dict[str, Level] = {}
        self._schemas: list[Object] | None = None
        self._waiting: dict[Ticket, asyncio.Future[None]] = {}
        self._uids: dict[str, str] = {}
        self.rejected = 0
        for resource in ("flowschemas", "prioritylevelconfigurations"):
            reader.subscribe(_GROUP, resource, lambda _event, _obj: self._forget())

    def _forget(self) -> None:
        self._schemas = None

    @property
    def running(self) -> int:
        """Requests that hold seats now."""
        return self._server.running

    @property
    def waiting(self) -> int:
        """Requests that wait for one."""
        return len(self._waiting)

    def _build(self) -> list[Object]:
        """Take over schemas and levels; a level that goes on keeps who is in it."""
        specs = {each["metadata"]["name"]: each for each in self._reader.list(_GROUP, "prioritylevelconfigurations")}
        shares = {
            name: (each["spec"].get("limited") or {}).get("nominalConcurrencyShares", 30)
            for name, each in specs.items()
            if each["spec"].get("type") == "Limited"
        }
        total = sum(shares.values()) or 1
        for name, each in specs.items():
            level = self._levels.setdefault(name, Level(name))
            _shape(level, each["spec"], self._seats, shares.get(name, 0) / total)
            self._uids[name] = each["metadata"].get("uid", "")
        self._schemas = sort_schemas(self._reader.list(_GROUP, "flowschemas"))
        return self._schemas

    def _classify(self, asked: Attributes) -> tuple[Object | None, Level | None]:
        schemas = self._schemas if self._schemas is not None else self._build()
        for schema in schemas:
            if matches(schema, asked):
                name = schema["spec"]["priorityLevelConfiguration"]["name"]
                return schema, self._levels.get(name)
        return None, None

    def enter(self, asked: Attributes) -> Ticket | None:
        """A seat for a request, or a place in a queue: then `wait` for it. None for who needs none.

        Raises:
            StatusError: 429.
        """
        if MASTERS in asked.user.groups:
            return None
        schema, level = self._classify(asked)
        if schema is None or level is None or level.exempt:
            return None
        ticket = self._server.arrive(level, f"{schema['metadata']['name']}/{flow_of(schema, asked)}")
        if ticket.state is State.REJECTED:
            raise self._refusal()
        return ticket

    async def wait(self, ticket: Ticket) -> None:
        """Wait until a place in a queue has become a seat.

        Raises:
            StatusError: 429, it took too long.
        """
        if ticket.state is State.RUNNING:
            return
        future = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_LONGEST_WAIT):
                await future
        except TimeoutError:
            self._abandon(ticket)
            raise self._refusal() from None
        except asyncio.CancelledError:
            self._abandon(ticket)
            raise
        finally:
            self._waiting.pop(ticket, None)

    def _abandon(self, ticket: Ticket) -> None:
        """A waiting request goes away; one that got its seat in the same moment gives it back."""
        if ticket.state is State.RUNNING:
            self.leave(ticket)
        else:
            self._server.leave(ticket)

    def _refusal(self) -> status.StatusError:
        self.rejected += 1
        return status.too_many_requests("Too many requests, please try again later.", 1)

    def leave(self, ticket: Ticket) -> None:
        """A request has its answer."""
        started = self._server.finish(ticket)
        for level in self._levels.values():
            if level.waiting:  # a seat that one level gives back may be what another one borrows
                started += self._server.dispatch(level)
        for next_one in started:
            future = self._waiting.get(next_one)
            if future is not None and not future.done():
                future.set_result(None)

    def headers(self, asked: Attributes) -> list[tuple[str, str]]:
        """Which schema and level a request was given, as upstream tells clients."""
        schema, level = self._classify(asked)
        if schema is None or level is None:
            return []
        return [
            ("X-Kubernetes-Pf-Flowschema-Uid", schema["metadata"].get("uid", "")),
            ("X-Kubernetes-Pf-Prioritylevel-Uid", self._uids.get(level.name, "")),
        ]


def _shape(level: Level, spec: Mapping[str, Any], seats: int, share: float) -> None:
    level.exempt = spec.get("type") == "Exempt"
    limited = spec.get("limited") or {}
    level.nominal = max(int(seats * share + 0.999), 1)
    borrow = limited.get("borrowingLimitPercent")
    level.limit = seats if borrow is None else min(level.nominal * (100 + borrow) // 100, seats)
    response = limited.get("limitResponse") or {}
    queuing = response.get("queuing") or {}
    if response.get("type") != "Queue":
        level.queues, level.hand, level.queue_length = [], 0, 0
        return
    count = queuing.get("queues", 64)
    while len(level.queues) < count:
        level.queues.append(Queue())
    level.hand = min(queuing.get("handSize", 8), count)
    level.queue_length = queuing.get("queueLengthLimit", 50)
