"""Seats and queues: fairness between flows, bounds, borrowing."""

from hypothesis import given
from hypothesis import strategies as st

from windlass.kube.api.flowcontrol.matching import flow_of, matches, sort_schemas
from windlass.kube.api.flowcontrol.queueing import Level, Queue, Server, State, deal
from windlass.kube.api.identity import Attributes, User


def level(nominal: int = 1, limit: int = 1, queues: int = 8, length: int = 50) -> Level:
    return Level("l", nominal, limit, [Queue() for _ in range(queues)], hand=2, queue_length=length)


def test_a_free_seat_is_taken_at_once_and_the_next_waits() -> None:
    server, low = Server(10), level()
    first, second = server.arrive(low, "a"), server.arrive(low, "a")
    assert (first.state, second.state) == (State.RUNNING, State.WAITING)
    assert server.finish(first) == [second]
    assert second.state is State.RUNNING


def test_a_flood_does_not_starve_another_flow() -> None:
    server, low = Server(1), level(length=1000)
    running = server.arrive(low, "noisy")
    for _ in range(100):
        server.arrive(low, "noisy")
    quiet = server.arrive(low, "quiet")
    turns = 0
    while quiet.state is State.WAITING:
        (running,) = server.finish(running)
        turns += 1
    assert turns <= 4


def test_a_full_queue_rejects_and_a_level_without_queues_too() -> None:
    server, low = Server(1), level(queues=1, length=1)
    states = [server.arrive(low, "a").state for _ in range(3)]
    assert states == [State.RUNNING, State.WAITING, State.REJECTED]
    strict = Level("catch-all")
    assert [server.arrive(strict, "a").state for _ in range(2)] == [State.RUNNING, State.REJECTED]


def test_a_level_borrows_only_while_the_server_has_free_seats() -> None:
    server, low = Server(3), level(nominal=1, limit=5)
    assert [server.arrive(low, "a").state.value for _ in range(4)] == ["running"] * 3 + ["waiting"]


def test_who_waits_too_long_is_sent_away() -> None:
    server, low = Server(1), level()
    server.arrive(low, "a")
    late = server.arrive(low, "a", deadline=5.0)
    assert server.expire(low, 4.9) == []
    assert server.expire(low, 5.0) == [late]
    assert (late.state, low.waiting) == (State.REJECTED, 0)


@given(st.text(), st.integers(1, 64), st.integers(1, 10))
def test_a_hand_is_stable_and_of_different_queues(flow: str, deck: int, hand: int) -> None:
    cards = deal(flow, deck, hand)
    assert cards == deal(flow, deck, hand)
    assert len(set(cards)) == len(cards) == min(hand, deck)
    assert all(0 <= card < deck for card in cards)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=100))
def test_seats_are_never_lost(script: list[tuple[str, bool]]) -> None:
    server, low = Server(4), level(nominal=2, limit=4, length=3)
    running = []
    for flow, ends in script:
        if ends and running:
            running += server.finish(running.pop(0))
        else:
            ticket = server.arrive(low, flow)
            running += [ticket] if ticket.state is State.RUNNING else []
        assert low.running == server.running == len(running) <= 4
        assert low.waiting == sum(len(queue.waiting) for queue in low.queues)
    while running:
        running += server.finish(running.pop(0))
    assert (low.running, low.waiting, server.running) == (0, 0, 0)


def test_the_schema_of_highest_precedence_that_matches_wins() -> None:
    subjects = [{"kind": "Group", "group": {"name": "dev"}}]
    rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["pods"], "namespaces": ["*"]}
    spec = {"rules": [{"subjects": subjects, "resourceRules": [rule]}], "distinguisherMethod": {"type": "ByUser"}}
    schema = {"metadata": {"name": "a"}, "spec": {**spec, "matchingPrecedence": 5}}
    other = {"metadata": {"name": "b"}, "spec": {**spec, "matchingPrecedence": 1}}
    asked = Attributes(User("ada", groups=("dev",)), "get", "", "v1", "pods", namespace="x")
    assert sort_schemas([schema, other]) == [other, schema]
    assert matches(schema, asked) and flow_of(schema, asked) == "ada"
    assert not matches(schema, Attributes(User("bob"), "get", "", "v1", "pods", namespace="x"))
    assert not matches(schema, Attributes(asked.user, "list", "", "v1", "pods"))
