"""The core of priority and fairness: seats, queues, who is next. No clock, no tasks; times are passed in.

    arrive(flow) ─ a seat is free and nobody waits ─▶ RUNNING
                 ─ shuffle sharding: the shortest of the flow's hand of queues ─▶ WAITING ─▶ RUNNING │ expired
                 ─ that queue is full, or the level does not queue ─▶ REJECTED
    finish ─▶ seats go to the queue that has had the least service

A flow's hand is a few of the level's queues drawn by its hash, so that one noisy flow cannot fill them all. A level may
take seats beyond its nominal ones, up to its limit, while the server as a whole has free ones.
"""

from __future__ import annotations

import enum
import hashlib
from collections import deque
from dataclasses import dataclass, field


class State(enum.Enum):
    """Where a request stands."""

    RUNNING = "running"
    WAITING = "waiting"
    REJECTED = "rejected"


@dataclass(slots=True, eq=False)
class Ticket:
    """One request's place."""

    level: Level
    seats: int
    state: State
    deadline: float = 0.0
    queue: Queue | None = None


@dataclass(slots=True, eq=False)
class Queue:
    """Requests of the flows that hash here; `service` counts seats given."""

    waiting: deque[Ticket] = field(default_factory=deque)
    service: float = 0.0


@dataclass(slots=True, eq=False)
class Level:
    """One priority level. `nominal` seats are its own; `limit` includes what it may borrow; exempt never wait."""

    name: str
    nominal: int = 1
    limit: int = 1
    queues: list[Queue] = field(default_factory=list)
    hand: int = 0
    queue_length: int = 0
    exempt: bool = False
    running: int = 0
    waiting: int = 0


class Server:
    """All levels of a server that has `seats` in total."""

    def __init__(self, seats: int) -> None:
        self.seats = seats
        self.running = 0

    def arrive(self, level: Level, flow: str, *, seats: int = 1, deadline: float = 0.0) -> Ticket:
        """Take a seat, a place in a queue, or neither."""
        if level.exempt or (not level.waiting and self._fits(level, seats)):
            return self._start(Ticket(level, seats, State.RUNNING))
        if not level.queues:
            return Ticket(level, seats, State.REJECTED)
        hand = deal(flow, len(level.queues), level.hand)
        queue = min((level.queues[index] for index in hand), key=lambda item: len(item.waiting))
        if len(queue.waiting) >= level.queue_length:
            return Ticket(level, seats, State.REJECTED)
        if not queue.waiting:  # who was idle has not saved up service
            busy = [item.service for item in level.queues if item.waiting]
            queue.service = max(queue.service, min(busy, default=queue.service))
        ticket = Ticket(level, seats, State.WAITING, deadline, queue)
        queue.waiting.append(ticket)
        level.waiting += 1
        return ticket

    def finish(self, ticket: Ticket) -> list[Ticket]:
        """Give the seats back; who runs now in their place (of this level; `dispatch` looks at others)."""
        ticket.level.running -= ticket.seats
        if not ticket.level.exempt:
            self.running -= ticket.seats
        return self.dispatch(ticket.level)

    def dispatch(self, level: Level) -> list[Ticket]:
        """Start who waits at a level, as seats allow, the least served queue first."""
        started: list[Ticket] = []
        while level.waiting:
            queue = min((item for item in level.queues if item.waiting), key=lambda item: item.service)
            ticket = queue.waiting[0]
            if not self._fits(level, ticket.seats):
                break
            queue.waiting.popleft()
            queue.service += ticket.seats
            level.waiting -= 1
            ticket.state = State.RUNNING
            started.append(self._start(ticket))
        return started

    def leave(self, ticket: Ticket) -> None:
        """A waiting request's client is gone, or its deadline has passed."""
        if ticket.state is State.WAITING and ticket.queue is not None:
            ticket.queue.waiting.remove(ticket)
            ticket.level.waiting -= 1
            ticket.state = State.REJECTED

    def expire(self, level: Level, now: float) -> list[Ticket]:
        """Send away who has waited too long."""
        late = [ticket for queue in level.queues for ticket in queue.waiting if ticket.deadline <= now]
        for ticket in late:
            self.leave(ticket)
        return late

    def _fits(self, level: Level, seats: int) -> bool:
        taken = level.running + seats
        if level.running == 0 or taken <= level.nominal:  # a request wider than the level still runs alone
            return True
        return taken <= level.limit and self.running + seats <= self.seats

    def _start(self, ticket: Ticket) -> Ticket:
        ticket.level.running += ticket.seats
        if not ticket.level.exempt:
            self.running += ticket.seats
        return ticket


def deal(flow: str, deck: int, hand: int) -> list[int]:
    """The flow's hand: `hand` different queues of `deck`, always the same for a flow."""
    value = int.from_bytes(hashlib.blake2b(flow.encode(errors="surrogateescape"), digest_size=16).digest(), "big")
    cards = list(range(deck))
    found: list[int] = []
    for _ in range(min(hand, deck)):
        value, index = divmod(value, len(cards))
        found.append(cards.pop(index))
    return found
