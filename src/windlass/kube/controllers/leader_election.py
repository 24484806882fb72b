"""One of several servers leads: the holder of a Lease, which it renews; the others wait until it does not.

    free, expired, our own ─▶ held: renewed every 2 s ─┬ not renewed for 10 s, or somebody else's: lost, try again
                                                       └ stop: released, the next one takes it at once

    other's record   we look at it again every 2 to 4.4 s; it has expired 15 s after *we* saw it change last, by our own
                     monotonic clock: clocks of different hosts are never compared

The times are client-go's. A holder stops at 10 s, others take over at 15 s at the earliest, so that two never lead at
once as long as clocks run at about the same speed. A server that crashed and comes back with its identity finds its own
record and leads at once.

Source: https://kubernetes.io/docs/concepts/architecture/leases/#leader-election
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from windlass.kube.api import times
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import APIClient
from windlass.kube.controllers.events import NORMAL, EventRecorder

log = logging.getLogger("windlass.kube.controllers")

NAMESPACE: Final = "kube-system"
_GROUP, _PLURAL = "coordination.k8s.io", "leases"
_JITTER: Final = 1.2


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: how long a lease lasts, how long a holder tries to renew it, and how often."""

    lease: int = 15
    renew_deadline: float = 10.0
    retry_period: float = 2.0


class _Held(Exception):
    """Somebody else holds the lease."""


class LeaderElector:
    """Leads whenever it can: `lead` is called when that begins, `yield_` when it ends. `start`, then `stop`.

    Args:
        name: the Lease's, in kube-system.
        identity: ours, unique among the servers and the same after a restart.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        client: APIClient,
        name: str,
        identity: str,
        *,
        lead: Callable[[], Awaitable[None]],
        yield_: Callable[[], Awaitable[None]],
        timing: Timing = Timing(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._name = name
        self._identity = identity
        self._lead = lead
        self._yield = yield_
        self._timing = timing
        self._clock = clock
        self._recorder = EventRecorder(client, name)
        self._observed: tuple[Object, float] | None = None
        self._task: asyncio.Task[None] | None = None
        self.is_leader = False

    async def start(self) -> None:
        """Lead at once where nobody else does; else wait for it in the background."""
        if await self._try_once():
            await self._begin()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"leader election {self._name}")

    async def stop(self) -> None:
        """Lead no longer, and let the next one lead at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.is_leader:
            await self._end()
            await self._release()
        await self._recorder.settled()

    async def _run(self) -> None:
        while True:
            try:
                if not self.is_leader:
                    await self._acquire()
                    await self._begin()
                await self._hold()
                log.error("leader election lost: %s", self._name)
            except Exception:
                log.exception("%s cannot lead: %s", self._identity, self._name)
            await self._end()

    async def _begin(self) -> None:
        self.is_leader = True
        log.info("%s leads: %s", self._identity, self._name)
        await self._tell("became leader")
        await self._lead()

    async def _end(self) -> None:
        self.is_leader = False
        try:
            await self._yield()
        finally:
            await self._tell("stopped leading")

    async def _tell(self, what: str) -> None:
        involved: Object = {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "Lease",
            "metadata": {"namespace": NAMESPACE, "name": self._name},
        }
        self._recorder.event(involved, NORMAL, "LeaderElection", f"{self._identity} {what}")

    async def _acquire(self) -> None:
        while not await self._try_once():
            period = self._timing.retry_period
            await asyncio.sleep(period * (1 + _JITTER * random.random()))  # noqa: S311

    async def _hold(self) -> None:
        """Renew; returns when the lease is lost."""
        renewed = self._clock()
        while True:
            await asyncio.sleep(self._timing.retry_period)
            left = renewed + self._timing.renew_deadline - self._clock()
            try:
                async with asyncio.timeout(max(left, 0)):
                    held = await self._try_once()
            except TimeoutError:
                return
            if held:
                renewed = self._clock()
            elif self._holder() != self._identity or self._clock() - renewed >= self._timing.renew_deadline:
                return

    def _holder(self) -> str:
        """Who held the lease when we saw it last."""
        return str(self._observed[0].get("holderIdentity") or "") if self._observed is not None else ""

    async def _try_once(self) -> bool:
        """Take or renew the lease; whether it is ours then."""
        try:
            await self._client.update(_GROUP, _PLURAL, NAMESPACE, self._name, self._take)
        except _Held:
            return False
        except StatusError as error:
            if error.code != 404:
                log.warning("the lease %s cannot be taken: %s", self._name, error.message)
                return False
            return await self._create()
        except Exception as error:
            log.warning("the lease %s cannot be taken: %s", self._name, error)
            return False
        return True

    def _take(self, live: Object) -> None:
        """The change of the stored lease. Raises _Held."""
        spec: Object = live.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        now = self._clock()
        if self._observed is None or self._observed[0] != spec:
            self._observed = (dict(spec), now)
        lasts = float(spec.get("leaseDurationSeconds") or self._timing.lease)
        if holder and holder != self._identity and self._observed[1] + lasts > now:
            raise _Held
        live["spec"] = self._record(spec, took=holder != self._identity)
        self._observed = (dict(live["spec"]), now)

    async def _create(self) -> bool:
        lease: Object = {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": NAMESPACE},
            "spec": self._record({}, took=True) | {"leaseTransitions": 0},
        }
        try:
            await self._client.create(_GROUP, _PLURAL, lease, NAMESPACE)
        except StatusError as error:
            log.info("the lease %s was not created: %s", self._name, error.message)
            return False
        self._observed = (dict(lease["spec"]), self._clock())
        return True

    def _record(self, before: Object, *, took: bool) -> Object:
        now = times.format_micro_time(time.time())
        transitions = int(before.get("leaseTransitions") or 0)
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._timing.lease,
            "acquireTime": now if took else before.get("acquireTime") or now,
            "renewTime": now,
            "leaseTransitions": transitions + 1 if took else transitions,
        }

    async def _release(self) -> None:
        def change(live: Object) -> None:
            spec = live.get("spec") or {}
            if spec.get("holderIdentity") != self._identity:
                raise _Held
            now = times.format_micro_time(time.time())
            live["spec"] = {
                "holderIdentity": "",
                "leaseDurationSeconds": 1,
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": int(spec.get("leaseTransitions") or 0),
            }

        try:
            await self._client.update(_GROUP, _PLURAL, NAMESPACE, self._name, change)
        except _Held:
            return
        except Exception as error:
            log.warning("the lease %s cannot be released: %s", self._name, error)
