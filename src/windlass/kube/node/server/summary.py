"""/stats/summary: what the node, its pods and their containers use, in one document.

Source: https://kubernetes.io/docs/reference/instrumentation/node-metrics/#summary-api-source
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from windlass.errors import WindlassError
from windlass.http import Response
from windlass.kube.api import times
from windlass.kube.node.runtime import PodRuntime
from windlass.kube.node.server.ask import Ask, refused
from windlass.kube.node.server.kubelet import json_page
from windlass.kube.node.server.usage import ContainerUse, PodUse, Usage, Use
from windlass.volumes.trees import disk_usage

Object = dict[str, Any]
_SECOND: Final = 10**9
_DISK_SECONDS: Final = 60.0


class Summary:
    """The page. `data` is where pods' files are, `images` where those of images and containers are."""

    def __init__(
        self,
        node: str,
        usage: Usage,
        runtime: PodRuntime,
        directory_of: Callable[[str], str],
        *,
        data: str,
        images: str,
    ) -> None:
        self._name = node
        self._usage = usage
        self._runtime = runtime
        self._directory_of = directory_of
        self._data, self._images = data, images
        self._disk: dict[str, tuple[float, int]] = {}

    async def __call__(self, ask: Ask) -> Response:
        """GET /stats/summary. With only_cpu_and_memory, nothing is looked for on disks. Raises StatusError."""
        if ask.path not in ("/stats/summary", "/stats/summary/"):
            raise refused(404, "404 page not found")
        return json_page(await self.document(brief=ask.options.flag("only_cpu_and_memory")))

    async def document(self, *, brief: bool) -> Object:
        """The summary. Raises OSError."""
        found = {
            "node": await self._node(brief=brief),
            "pods": [await self._pod(each, brief=brief) for each in await self._usage.pods()],
        }
        now = time.monotonic()
        self._disk = {key: each for key, each in self._disk.items() if now - each[0] < 2 * _DISK_SECONDS}
        return found

    async def _node(self, *, brief: bool) -> Object:
        use = await self._usage.node()
        boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        found: Object = {
            "nodeName": self._name,
            "startTime": times.format_time(boot),
            "cpu": _cpu(use, brief=brief),
            "memory": {**_memory(use), "availableBytes": self._usage.free},
        }
        if brief:
            return found
        moment = _time(use.time)
        image_disk = _space(self._images, moment)
        found |= {
            "network": _network(moment, await asyncio.to_thread(_interfaces)),
            "fs": _space(self._data, moment),
            "runtime": {"imageFs": image_disk, "containerFs": image_disk},
            "rlimit": _processes(moment),
        }
        return found

    async def _pod(self, each: PodUse, *, brief: bool) -> Object:
        metadata = each.pod["metadata"]
        moment = _time(each.use.time)
        found: Object = {
            "podRef": {key: metadata[key] for key in ("name", "namespace", "uid")},
            "startTime": (each.pod.get("status") or {}).get("startTime") or metadata.get("creationTimestamp"),
            "containers": [await self._container(one, brief=brief) for one in each.containers],
            "cpu": _cpu(each.use, brief=brief),
            "memory": _memory(each.use),
        }
        if brief:
            return found
        sandbox = self._runtime.sandbox(metadata["uid"])
        if sandbox is not None and sandbox.netns is not None:
            counters = await self._runtime.engine.parts.core.networks.statistics(sandbox.id)
            found["network"] = _network(moment, counters)
        volumes: list[Object] = [
            {"time": moment, "name": name, "usedBytes": used}
            for name, used in (await self._volumes(metadata["uid"])).items()
        ]
        written = sum(one[part]["usedBytes"] for one in found["containers"] for part in ("rootfs", "logs"))
        found |= {
            "ephemeral-storage": {
                **_space(self._data, moment),
                "usedBytes": written + sum(each["usedBytes"] for each in volumes),
            },
            "process_stats": {"process_count": each.use.stats.pids.current},
        }
        if volumes:
            found["volume"] = volumes
        return found

    async def _container(self, one: ContainerUse, *, brief: bool) -> Object:
        found: Object = {
            "name": one.found.name,
            "startTime": times.format_time(one.found.started_at / _SECOND),
            "cpu": _cpu(one.use, brief=brief),
            "memory": _memory(one.use),
        }
        if not brief:
            moment = _time(one.use.time)
            root, logs = await self._written(one.found.id), await self._logged(one.found.id)
            found["rootfs"] = {**_space(self._images, moment), "usedBytes": root}
            found["logs"] = {**_space(self._images, moment), "usedBytes": logs}
        return found

    # Disks: what was counted a minute ago is true enough ------------------------------------------------------------

    async def _written(self, identity: str) -> int:
        async def count() -> int:
            return (await self._runtime.engine.parts.core.images.rootfs_usage(identity))[0]

        return await self._counted(f"root {identity}", count)

    async def _logged(self, identity: str) -> int:
        directory = str(self._runtime.engine.parts.core.store.directory(identity))
        return await self._counted(directory, _counter(directory))

    async def _volumes(self, uid: str) -> dict[str, int]:
        found = {}
        for kind in ("empty-dir", "configmap", "secret", "projected", "downward-api"):
            place = f"{self._directory_of(uid)}/volumes/kubernetes.io~{kind}"
            for name in await asyncio.to_thread(_names, place):
                path = f"{place}/{name}"
                found[name] = await self._counted(path, _counter(path))
        return found

    async def _counted(self, key: str, count: Callable[[], Awaitable[int]]) -> int:
        known = self._disk.get(key)
        if known is None or time.monotonic() - known[0] > _DISK_SECONDS:
            try:
                size = await count()
            except (OSError, WindlassError):
                size = 0  # it goes just now
            known = self._disk[key] = time.monotonic(), size
        return known[1]


def _counter(path: str) -> Callable[[], Awaitable[int]]:
    return lambda: asyncio.to_thread(disk_usage, path)


def _time(nanoseconds: int) -> str:
    return times.format_time(nanoseconds / _SECOND)


def _cpu(use: Use, *, brief: bool) -> Object:
    found: Object = {"time": _time(use.time), "usageCoreNanoSeconds": use.cpu}
    if use.window:
        found["usageNanoCores"] = use.rate
    if brief:
        # Not upstream's: the resource metrics API tells of what time its figures are.
        found["windowNanoSeconds"] = use.window
    return found


def _memory(use: Use) -> Object:
    found: Object = {
        "time": _time(use.time),
        "usageBytes": use.memory,
        "workingSetBytes": use.working_set,
        "rssBytes": use.rss,
        "pageFaults": use.faults,
        "majorPageFaults": use.major_faults,
    }
    limit = use.stats.memory.limit
    if limit is not None:
        found["availableBytes"] = max(limit - use.working_set, 0)
    return found


def _space(path: str, moment: str) -> Object:
    found = os.statvfs(path)
    return {
        "time": moment,
        "availableBytes": found.f_bavail * found.f_frsize,
        "capacityBytes": found.f_blocks * found.f_frsize,
        "usedBytes": (found.f_blocks - found.f_bfree) * found.f_frsize,
        "inodesFree": found.f_ffree,
        "inodes": found.f_files,
        "inodesUsed": found.f_files - found.f_ffree,
    }


def _network(moment: str, counters: dict[str, dict[str, int]]) -> Object:
    interfaces = [
        {
            "name": name,
            "rxBytes": each["rx_bytes"],
            "rxErrors": each["rx_errors"],
            "txBytes": each["tx_bytes"],
            "txErrors": each["tx_errors"],
        }
        for name, each in counters.items()
    ]
    found: Object = {"time": moment, "interfaces": interfaces}
    if interfaces:
        found |= next((each for each in interfaces if each["name"] == "eth0"), interfaces[0])
    return found


def _interfaces() -> dict[str, dict[str, int]]:
    """The machine's own interfaces. Blocking."""
    found = {}
    with open("/proc/net/dev", encoding="ascii") as file:
        for line in list(file)[2:]:
            name, _, rest = line.partition(":")
            words = [int(word) for word in rest.split()]
            if not name.strip().startswith(("lo", "veth", "wl")):
                found[name.strip()] = {
                    "rx_bytes": words[0],
                    "rx_errors": words[2],
                    "tx_bytes": words[8],
                    "tx_errors": words[10],
                }
    return found


def _processes(moment: str) -> Object:
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        most = int(file.read())
    with open("/proc/loadavg", encoding="ascii") as file:
        now = int(file.read().split()[3].partition("/")[2])
    return {"time": moment, "maxpid": most, "curproc": now}


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
