"""The probes of one container: three tasks, and what they have found.

    startup     until it succeeds once, the others wait; when it fails often enough the container is restarted
    liveness    when it fails often enough the container is restarted
    readiness   whether the container gets traffic

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-probes
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from windlass.errors import WindlassError
from windlass.kube.node import handlers
from windlass.kube.node.handlers import Answer
from windlass.kube.node.probes import grpc

Object = dict[str, Any]
Execute = Callable[[list[str]], Awaitable[tuple[int, bytes]]]
KINDS: Final = ("startup", "liveness", "readiness")


class ContainerProbes:
    """The probes of one container's run.

    Attributes:
        container: its name.
        started: the startup probe has succeeded, or there is none.
        ready: the readiness probe says so, or there is none.
        killed_by: the kind of probe by whose word the container is to be restarted, and its grace period.
        counts: how often each kind has succeeded and failed.
    """

    def __init__(
        self,
        container: Object,
        *,
        address: str,
        started_at: float,
        execute: Execute,
        changed: Callable[[], None],
        failed: Callable[[str, str], None],
    ) -> None:
        """`started_at`: Unix time. `failed(kind, message)` tells of each failure."""
        self._container = container
        self.container: str = container["name"]
        self._address = address
        self._started_at = started_at
        self._execute = execute
        self._changed = changed
        self._failed = failed
        self._specs = {kind: container.get(f"{kind}Probe") for kind in KINDS}
        self.started = self._specs["startup"] is None
        self.ready = False
        self.killed_by: tuple[str, int | None] | None = None
        self.counts: Counter[tuple[str, str]] = Counter()
        if self.started and self._specs["readiness"] is None:
            self.ready = True
        self._startup_done = asyncio.Event()
        if self.started:
            self._startup_done.set()
        self._tasks = [
            asyncio.create_task(self._run(kind, spec), name=f"{kind} probe {container['name']}")
            for kind, spec in self._specs.items()
            if spec is not None
        ]

    def stop(self) -> None:
        """Probe no longer."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def _run(self, kind: str, spec: Object) -> None:
        if kind != "startup":
            await self._startup_done.wait()
        period = float(spec.get("periodSeconds") or 10)
        await asyncio.sleep(max(self._started_at + (spec.get("initialDelaySeconds") or 0) - time.time(), 0))
        good = bad = 0
        while True:
            answer = await self._probe(spec)
            self.counts[kind, "successful" if answer.ok else "failed"] += 1
            if answer.ok:
                good, bad = good + 1, 0
                if good >= (spec.get("successThreshold") or 1) and self._succeeded(kind):
                    return
            else:
                good, bad = 0, bad + 1
                self._failed(kind, answer.message)
                if bad >= (spec.get("failureThreshold") or 3) and self._gave_up(kind, spec):
                    return
            # Not all probes of a node at the same moment.
            await asyncio.sleep(period * (1 + random.uniform(-0.05, 0.05)))  # noqa: S311 - no secret

    def _succeeded(self, kind: str) -> bool:
        """What a success changes; whether the probe is over."""
        if kind == "startup":
            self.started = True
            self._startup_done.set()
            if self._specs["readiness"] is None:
                self.ready = True
            self._changed()
            return True
        if kind == "readiness" and not self.ready:
            self.ready = True
            self._changed()
        return False

    def _gave_up(self, kind: str, spec: Object) -> bool:
        """What failing often enough changes; whether the probe is over."""
        if kind == "readiness":
            if self.ready:
                self.ready = False
                self._changed()
            return False
        self.killed_by = (kind, spec.get("terminationGracePeriodSeconds"))
        self.ready = False
        self._changed()
        return True

    async def _probe(self, spec: Object) -> Answer:
        seconds = float(spec.get("timeoutSeconds") or 1)
        try:
            async with asyncio.timeout(seconds):
                return await self._ask(spec)
        except TimeoutError:
            if "exec" in spec:
                return Answer(
                    False, f'command timed out: "{" ".join(spec["exec"]["command"])}" timed out after {seconds:g}s'
                )
            return Answer(False, "context deadline exceeded (Client.Timeout exceeded while awaiting headers)")

    async def _ask(self, spec: Object) -> Answer:
        if action := spec.get("httpGet"):
            return await handlers.http(self._container, action, self._address)
        if action := spec.get("tcpSocket"):
            return await handlers.tcp(self._container, action, self._address)
        if action := spec.get("grpc"):
            return await grpc.check(self._address, int(action["port"]), action.get("service") or "")
        try:
            code, output = await self._execute(list(spec["exec"]["command"]))
        except WindlassError as error:
            return Answer(False, str(error))
        return Answer(code == 0, output.decode(errors="replace"))
