"""Who leads among several servers, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any, cast

from windlass.kube.api.status import already_exists, not_found
from windlass.kube.client import APIClient
from windlass.kube.controllers.leader_election import LeaderElector, Timing

Object = dict[str, Any]
FAST = Timing(lease=15, renew_deadline=0.2, retry_period=0.01)


class OneLease:
    """An API that keeps one lease; `fails` makes it unavailable."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.fails = False

    async def update(
        self, group: str, plural: str, namespace: str, name: str, change: Callable[[Object], None]
    ) -> Object:
        if self.fails:
            raise OSError("gone")
        if self.lease is None:
            raise not_found(plural, group, name)
        live = copy.deepcopy(self.lease)
        change(live)
        self.lease = live
        return live

    async def create(self, group: str, plural: str, obj: Object, namespace: str = "") -> Object:
        if plural != "leases":
            return obj
        if self.lease is not None:
            raise already_exists(plural, group, obj["metadata"]["name"])
        self.lease = copy.deepcopy(obj)
        return obj

    @property
    def spec(self) -> Object:
        assert self.lease is not None
        found: Object = self.lease["spec"]
        return found


class Server:
    """An elector and whether it leads."""

    def __init__(self, api: OneLease, name: str, clock: Callable[[], float], timing: Timing = FAST) -> None:
        self.leads = False
        self.elector = LeaderElector(
            cast(APIClient, api), "l", name, lead=self._lead, yield_=self._stop, timing=timing, clock=clock
        )

    async def _lead(self) -> None:
        self.leads = True

    async def _stop(self) -> None:
        self.leads = False


async def soon(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.005)


async def test_the_first_leads_at_once_and_the_next_when_it_stops() -> None:
    api = OneLease()
    first, second = (Server(api, name, lambda: 0.0) for name in ("a", "b"))
    await first.elector.start()
    assert first.leads and api.spec["holderIdentity"] == "a" and api.spec["leaseDurationSeconds"] == 15
    await second.elector.start()
    await asyncio.sleep(0.05)
    assert not second.leads
    await first.elector.stop()
    assert not first.leads
    await soon(lambda: second.leads)
    assert (api.spec["holderIdentity"], api.spec["leaseTransitions"]) == ("b", 1)
    await second.elector.stop()
    assert api.spec["holderIdentity"] == "" and api.spec["leaseDurationSeconds"] == 1


async def test_a_dead_leaders_lease_expires_on_the_waiting_ones_own_clock() -> None:
    api, now = OneLease(), 100.0
    dead = Server(api, "a", lambda: 0.0)
    await dead.elector.start()
    assert dead.elector._task
    dead.elector._task.cancel()  # it died: nothing renews or releases
    waiting = Server(api, "b", lambda: now)
    await waiting.elector.start()
    now = 114.9
    await asyncio.sleep(0.1)
    assert not waiting.leads
    now = 115.1
    await soon(lambda: waiting.leads)
    await waiting.elector.stop()


async def test_one_that_crashed_takes_its_own_lease_over_at_once() -> None:
    api = OneLease()
    dead = Server(api, "a", lambda: 0.0)
    await dead.elector.start()
    assert dead.elector._task
    dead.elector._task.cancel()
    again = Server(api, "a", lambda: 0.0)
    await again.elector.start()
    assert again.leads and api.spec["leaseTransitions"] == 0
    await again.elector.stop()


async def test_who_cannot_renew_stops_before_others_may_begin() -> None:
    api, now = OneLease(), 0.0
    server = Server(api, "a", lambda: now)
    await server.elector.start()
    api.fails = True
    await asyncio.sleep(0.05)
    assert server.leads
    now = 0.25
    await soon(lambda: not server.leads)
    # It may lead again when the API is back: the record is still its own.
    api.fails = False
    await soon(lambda: server.leads)
    await server.elector.stop()


async def test_who_finds_anothers_name_in_the_lease_stops() -> None:
    api = OneLease()
    server = Server(api, "a", lambda: 0.0)
    await server.elector.start()
    api.spec["holderIdentity"] = "b"
    await soon(lambda: not server.leads)
    await server.elector.stop()
    assert api.spec["holderIdentity"] == "b"
