"""What nodes and pods use now: asked of the kubelets, all at once, and kept for a few seconds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import orjson

from windlass.kube.api import times
from windlass.kube.api.kubelets import Kubelets, told_port
from windlass.kube.api.quantity import Quantity
from windlass.kube.api.reader import Reader
from windlass.kube.api.status import StatusError

Object = dict[str, Any]
Matcher = Callable[[Mapping[str, str]], bool]

log = logging.getLogger("windlass.kube.metrics")

API_VERSION: Final = "metrics.k8s.io/v1beta1"
_FRESH_SECONDS: Final = 5.0
_PATIENCE: Final = 5.0
_NANO: Final = 10**9
_QUERY: Final = (("only_cpu_and_memory", "true"),)


class ResourceMetrics:
    """Gives NodeMetrics and PodMetrics objects. Nodes that do not answer are left out."""

    def __init__(self, kubelets: Kubelets, reader: Reader, clock: Callable[[], float] = time.monotonic) -> None:
        self._kubelets = kubelets
        self._reader = reader
        self._clock = clock
        self._known: dict[str, tuple[float, asyncio.Task[Object | None]]] = {}

    async def nodes(self, matches: Matcher | None = None, name: str = "") -> list[Object]:
        """Of all nodes whose labels match, or of one."""
        found = [
            node
            for node in self._reader.list("", "nodes")
            if (not name or node["metadata"]["name"] == name)
            and (matches is None or matches(node["metadata"].get("labels") or {}))
        ]
        summaries = await self._summaries(node["metadata"]["name"] for node in found)
        metrics = []
        for node in found:
            summary = summaries.get(node["metadata"]["name"])
            if summary is not None and (use := _use(summary["node"])) is not None:
                metrics.append(_object("NodeMetrics", node, summary["node"], {"usage": use}))
        return metrics

    async def pods(self, namespace: str = "", matches: Matcher | None = None, name: str = "") -> list[Object]:
        """Of the pods of a namespace (or all) whose labels match, or of one."""
        found = [
            pod
            for pod in self._reader.list("", "pods", namespace)
            if (not name or pod["metadata"]["name"] == name)
            and (pod.get("status") or {}).get("phase") == "Running"
            and (matches is None or matches(pod["metadata"].get("labels") or {}))
        ]
        summaries = await self._summaries({pod["spec"].get("nodeName") or "" for pod in found} - {""})
        measured = {
            each["podRef"]["uid"]: each for summary in summaries.values() for each in (summary or {}).get("pods") or ()
        }
        metrics = []
        for pod in found:
            each = measured.get(pod["metadata"]["uid"])
            if each is None:
                continue
            containers = [(one["name"], _use(one)) for one in each["containers"]]
            # Figures of a part of a pod would look like those of the whole.
            if containers and all(use is not None for _, use in containers):
                shown = [{"name": name, "usage": use} for name, use in containers]
                metrics.append(_object("PodMetrics", pod, each, {"containers": shown}))
        return metrics

    async def _summaries(self, names: Iterable[str]) -> dict[str, Object | None]:
        wanted = [name for name in names if self._is_served(name)]
        found = await asyncio.gather(*(self._summary(name) for name in wanted))
        return dict(zip(wanted, found, strict=True))

    def _is_served(self, name: str) -> bool:
        """Whether a node tells where its kubelet is."""
        return bool(told_port(self._reader.get("", "nodes", "", name) or {}))

    async def _summary(self, name: str) -> Object | None:
        now = self._clock()
        known = self._known.get(name)
        if known is None or now - known[0] > _FRESH_SECONDS or known[1].cancelled():
            self._known = {key: each for key, each in self._known.items() if now - each[0] <= 2 * _FRESH_SECONDS}
            known = self._known[name] = now, asyncio.get_running_loop().create_task(self._ask(name), name=name)
        # Several may wait for it: one of them that leaves must not end it.
        return await asyncio.shield(known[1])

    async def _ask(self, name: str) -> Object | None:
        try:
            async with asyncio.timeout(_PATIENCE):
                found: Object = orjson.loads(await self._kubelets.find(name).read("/stats/summary", _QUERY))
                return found
        except (StatusError, OSError, TimeoutError, orjson.JSONDecodeError) as error:
            log.debug("node %s says nothing of what is used: %s", name, error)
            return None

    async def close(self) -> None:
        """Ask no more."""
        tasks = [task for _, task in self._known.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._known.clear()


def _use(measured: Object) -> Object | None:
    """Quantities of what is used; None where there is no rate yet. Pure."""
    cpu, memory = measured.get("cpu") or {}, measured.get("memory") or {}
    if not cpu.get("windowNanoSeconds") or "workingSetBytes" not in memory:
        return None
    rate = int(cpu["usageNanoCores"])
    memory_quantity = Quantity(int(memory["workingSetBytes"]) * _NANO, "binary")
    return {"cpu": f"{rate}n" if rate else "0", "memory": str(memory_quantity)}


def _object(kind: str, source: Object, measured: Object, content: Object) -> Object:
    metadata = source["metadata"]
    found: Object = {"name": metadata["name"], "creationTimestamp": times.format_time(time.time())}
    for key in ("namespace", "labels"):
        if metadata.get(key):
            found[key] = metadata[key]
    cpu = measured["cpu"]
    return {
        "kind": kind,
        "apiVersion": API_VERSION,
        "metadata": found,
        "timestamp": cpu["time"],
        "window": times.format_duration(round(cpu["windowNanoSeconds"] / _NANO, 3)),
        **content,
    }
