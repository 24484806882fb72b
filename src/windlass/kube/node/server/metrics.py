"""/metrics, /metrics/resource, /metrics/cadvisor and /metrics/probes: Prometheus' text format under upstream's names.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/ and .../node-metrics/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from windlass import __version__
from windlass.http import Response
from windlass.kube.node.server.ask import Ask
from windlass.kube.node.server.pods import PodFinder, spec_of
from windlass.kube.node.server.usage import ContainerUse, PodUse, Usage, Use

Object = dict[str, Any]

_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECOND: Final = 10**9
_MILLI: Final = 10**6
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


class Sample(NamedTuple):
    """One value; `time` in milliseconds, 0 for now."""

    labels: Mapping[str, str]
    value: float
    time: int = 0


class Family(NamedTuple):
    """One metric; `type` is "counter" or "gauge"."""

    name: str
    type: str
    help: str
    samples: Iterable[Sample]


def render(families: Iterable[Family]) -> bytes:
    """The text format. Pure."""
    lines = []
    for family in families:
        lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.type}"]
        for labels, value, time in family.samples:
            inside = ",".join(f'{name}="{text.translate(_ESCAPES)}"' for name, text in labels.items())
            lines.append(f"{family.name}{{{inside}}}" if inside else family.name)
            lines[-1] += f" {value!r}" + (f" {time}" if time else "")
    lines.append("")
    return "\n".join(lines).encode()


class MetricsPages:
    """The pages of one node."""

    def __init__(self, node: str, finder: PodFinder, usage: Usage) -> None:
        self._node = node
        self._finder = finder
        self._usage = usage
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)

    # /metrics ------------------------------------------------------------------------------------------------------

    async def own(self, ask: Ask) -> Response:
        """Of the kubelet itself."""
        del ask
        states = {"created": 0, "exited": 0, "running": 0}
        running_pods = 0
        for pod in self._finder.all():
            containers = self._finder.runtime.containers(pod["metadata"]["uid"])
            running_pods += any(each.running for each in containers)
            for each in containers:
                states["running" if each.running else "exited" if each.was_started else "created"] += 1
        version = {"git_version": f"v1.37.0+windlass{__version__}", "major": "1", "minor": "37"}
        families = [
            Family("kubelet_node_name", "gauge", "The node's name.", [Sample({"node": self._node}, 1)]),
            Family("kubelet_running_pods", "gauge", "Pods that have a running container.", [Sample({}, running_pods)]),
            Family(
                "kubelet_running_containers",
                "gauge",
                "Containers by state.",
                [Sample({"container_state": state}, count) for state, count in states.items()],
            ),
            Family("kubernetes_build_info", "gauge", "What was built.", [Sample(version, 1)]),
        ]
        return _page(generate_latest(self._registry) + render(families))

    # /metrics/resource ---------------------------------------------------------------------------------------------

    async def resource(self, ask: Ask) -> Response:
        """Processor and memory."""
        del ask
        node, pods = await self._usage.node(), await self._usage.pods()
        containers = [(_labels(pod, each), each) for pod in pods for each in pod.containers]
        return _page(
            render(
                [
                    Family(
                        "node_cpu_usage_seconds_total",
                        "counter",
                        "Processor time of the node in core-seconds.",
                        [_cpu({}, node)],
                    ),
                    Family(
                        "node_memory_working_set_bytes",
                        "gauge",
                        "Working set of the node in bytes.",
                        [_working_set({}, node)],
                    ),
                    Family(
                        "pod_cpu_usage_seconds_total",
                        "counter",
                        "Processor time of the pod in core-seconds.",
                        [_cpu(_pod_labels(each.pod), each.use) for each in pods],
                    ),
                    Family(
                        "pod_memory_working_set_bytes",
                        "gauge",
                        "Working set of the pod in bytes.",
                        [_working_set(_pod_labels(each.pod), each.use) for each in pods],
                    ),
                    Family(
                        "container_cpu_usage_seconds_total",
                        "counter",
                        "Processor time of the container in core-seconds.",
                        [_cpu(labels, each.use) for labels, each in containers],
                    ),
                    Family(
                        "container_memory_working_set_bytes",
                        "gauge",
                        "Working set of the container in bytes.",
                        [_working_set(labels, each.use) for labels, each in containers],
                    ),
                    Family(
                        "container_start_time_seconds",
                        "gauge",
                        "When the container was started, seconds since 1970.",
                        [Sample(labels, each.found.started_at / _SECOND) for labels, each in containers],
                    ),
                    Family("resource_scrape_error", "gauge", "1 if something could not be measured.", [Sample({}, 0)]),
                ]
            )
        )

    # /metrics/cadvisor ---------------------------------------------------------------------------------------------

    async def cadvisor(self, ask: Ask) -> Response:
        """What cAdvisor tells, for dashboards that know its names."""
        del ask
        node, pods = await self._usage.node(), await self._usage.pods()
        rows: list[tuple[dict[str, str], Use]] = [({"container": "", "id": "/", "namespace": "", "pod": ""}, node)]
        for pod in pods:
            uid = pod.pod["metadata"]["uid"]
            rows.append(({"container": "", "id": f"/kubepods/pod{uid}", **_pod_labels(pod.pod)}, pod.use))
            rows += [(_cadvisor_labels(pod, each), each.use) for each in pod.containers]
        families = [
            Family(
                "container_cpu_usage_seconds_total",
                "counter",
                "Processor time in core-seconds.",
                [_cpu({**labels, "cpu": "total"}, use) for labels, use in rows],
            ),
            Family(
                "container_cpu_user_seconds_total",
                "counter",
                "Of that, in programs.",
                [Sample(labels, use.stats.cpu.user_ns / _SECOND, use.time // _MILLI) for labels, use in rows[1:]],
            ),
            Family(
                "container_cpu_system_seconds_total",
                "counter",
                "Of that, in the kernel.",
                [Sample(labels, use.stats.cpu.system_ns / _SECOND, use.time // _MILLI) for labels, use in rows[1:]],
            ),
            Family(
                "container_cpu_cfs_periods_total",
                "counter",
                "Enforcement intervals of the quota.",
                [Sample(labels, use.stats.cpu.periods, use.time // _MILLI) for labels, use in rows[1:]],
            ),
            Family(
                "container_cpu_cfs_throttled_periods_total",
                "counter",
                "Those in which it was used up.",
                [Sample(labels, use.stats.cpu.throttled_periods, use.time // _MILLI) for labels, use in rows[1:]],
            ),
            Family(
                "container_cpu_cfs_throttled_seconds_total",
                "counter",
                "How long the container had to wait then.",
                [Sample(labels, use.stats.cpu.throttled_ns / _SECOND, use.time // _MILLI) for labels, use in rows[1:]],
            ),
            *(
                Family(name, "gauge", text, [Sample(labels, value(use), use.time // _MILLI) for labels, use in rows])
                for name, text, value in _MEMORY
            ),
            Family(
                "container_spec_memory_limit_bytes",
                "gauge",
                "The limit of memory, 0 for none.",
                [Sample(labels, use.stats.memory.limit or 0) for labels, use in rows[1:]],
            ),
            Family(
                "container_threads",
                "gauge",
                "Tasks that run.",
                [Sample(labels, use.stats.pids.current) for labels, use in rows[1:]],
            ),
            Family(
                "container_start_time_seconds",
                "gauge",
                "When the container was started, seconds since 1970.",
                [
                    Sample(_cadvisor_labels(pod, each), each.found.started_at / _SECOND)
                    for pod in pods
                    for each in pod.containers
                ],
            ),
            *await self._networks(pods),
            Family("machine_memory_bytes", "gauge", "Memory of the machine.", [Sample({}, self._usage.capacity)]),
        ]
        return _page(render(families))

    async def _networks(self, pods: Iterable[PodUse]) -> list[Family]:
        core = self._finder.runtime.engine.parts.core
        found: dict[str, list[Sample]] = {name: [] for name, _ in _NETWORK}
        for pod in pods:
            sandbox = self._finder.runtime.sandbox(pod.pod["metadata"]["uid"])
            if sandbox is None or sandbox.netns is None:
                continue
            for interface, counters in (await core.networks.statistics(sandbox.id)).items():
                labels = {**_pod_labels(pod.pod), "interface": interface}
                for name, counter in _NETWORK:
                    found[name].append(Sample(labels, counters[counter]))
        return [
            Family(name, "counter", f"{counter} of the pod's interface.", found[name]) for name, counter in _NETWORK
        ]

    # /metrics/probes -----------------------------------------------------------------------------------------------

    async def probes(self, ask: Ask) -> Response:
        """How probes went."""
        del ask
        samples = []
        for worker in self._finder.pods:
            metadata = worker.pod["metadata"]
            for container, kind, result, count in worker.probe_counts():
                labels = {
                    "container": container,
                    "namespace": metadata["namespace"],
                    "pod": metadata["name"],
                    "pod_uid": metadata["uid"],
                    "probe_type": kind.capitalize(),
                    "result": result,
                }
                samples.append(Sample(labels, count))
        return _page(render([Family("prober_probe_total", "counter", "Probes by their results.", samples)]))


_MEMORY: Final[Sequence[tuple[str, str, Callable[[Use], int]]]] = (
    ("container_memory_usage_bytes", "All memory, caches included.", lambda use: use.memory),
    ("container_memory_working_set_bytes", "Memory that cannot be given back at once.", lambda use: use.working_set),
    ("container_memory_rss", "Memory that is no cache.", lambda use: use.rss),
    ("container_memory_cache", "Cached files.", lambda use: use.cache),
)
_NETWORK: Final = (
    ("container_network_receive_bytes_total", "rx_bytes"),
    ("container_network_receive_packets_total", "rx_packets"),
    ("container_network_receive_errors_total", "rx_errors"),
    ("container_network_receive_packets_dropped_total", "rx_dropped"),
    ("container_network_transmit_bytes_total", "tx_bytes"),
    ("container_network_transmit_packets_total", "tx_packets"),
    ("container_network_transmit_errors_total", "tx_errors"),
    ("container_network_transmit_packets_dropped_total", "tx_dropped"),
)


def _pod_labels(pod: Object) -> dict[str, str]:
    return {"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"]}


def _labels(pod: PodUse, each: ContainerUse) -> dict[str, str]:
    return {"container": each.found.name, **_pod_labels(pod.pod)}


def _cadvisor_labels(pod: PodUse, each: ContainerUse) -> dict[str, str]:
    group = f"/kubepods/pod{pod.pod['metadata']['uid']}/{each.found.id}"
    image = (spec_of(pod.pod, each.found.name) or {}).get("image", "")
    return {**_labels(pod, each), "id": group, "image": image, "name": each.found.id}


def _cpu(labels: Mapping[str, str], use: Use) -> Sample:
    return Sample(labels, use.cpu / _SECOND, use.time // _MILLI)


def _working_set(labels: Mapping[str, str], use: Use) -> Sample:
    return Sample(labels, use.working_set, use.time // _MILLI)


def _page(body: bytes) -> Response:
    return Response(200, [("Content-Type", _TYPE)], body)
