"""/metrics under upstream's names, in Prometheus' text format.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily

from windlass.http import Request, Response
from windlass.kube.api.identity import User
from windlass.kube.api.request import RequestInfo

_BUCKETS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LABELS = ("verb", "group", "version", "resource", "subresource", "scope")
_VERBS = {
    "get": "GET",
    "list": "LIST",
    "watch": "WATCH",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETECOLLECTION",
}


class _StoredObjects:
    """apiserver_resource_objects: counted when somebody asks."""

    def __init__(self, count: Callable[[], Mapping[str, int]]) -> None:
        self._count = count

    def collect(self) -> list[GaugeMetricFamily]:
        """See prometheus_client's collectors."""
        family = GaugeMetricFamily("apiserver_storage_objects", "Number of stored objects.", labels=["resource"])
        for name, count in sorted(self._count().items()):
            family.add_metric([name], count)
        return [family]


class Metrics:
    """The figures of one server; a page of it."""

    def __init__(self, count: Callable[[], Mapping[str, int]], revision: Callable[[], int]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._total = Counter(
            "apiserver_request_total",
            "Counter of apiserver requests.",
            ("verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component", "code"),
            registry=self._registry,
        )
        self._duration = Histogram(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds.",
            (*_LABELS, "component"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.inflight = Gauge(
            "apiserver_current_inflight_requests",
            "Requests that are being answered.",
            ("request_kind",),
            registry=self._registry,
        )
        self.longrunning = Gauge(
            "apiserver_longrunning_requests", "Watches and other streams that are open.", registry=self._registry
        )
        self.rejected = Counter(
            "apiserver_flowcontrol_rejected_requests_total", "Requests told to come later.", registry=self._registry
        )
        Gauge("apiserver_storage_revision", "The latest revision of the store.", registry=self._registry).set_function(
            revision
        )
        self._registry.register(_StoredObjects(count))
        self._children: dict[tuple[str, ...], tuple[Counter, Histogram]] = {}

    def observe(self, info: RequestInfo, code: int, seconds: float) -> None:
        """A request was answered."""
        scope = (
            "" if not info.is_resource else "resource" if info.name else "namespace" if info.namespace else "cluster"
        )
        verb = _VERBS.get(info.verb, info.verb.upper())
        key = (verb, info.group, info.version, info.resource, info.subresource, scope, str(code))
        found = self._children.get(key)
        if found is None:
            if len(self._children) > 5000:
                return  # names come from clients: not every one becomes a series
            counter = self._total.labels(verb, "", *key[1:6], "apiserver", key[6])
            histogram = self._duration.labels(*key[:6], "apiserver")
            found = self._children[key] = (counter, histogram)
        found[0].inc()
        found[1].observe(seconds)

    async def __call__(self, request: Request, user: User) -> Response:
        """The page."""
        return Response(200, [("Content-Type", _CONTENT_TYPE)], generate_latest(self._registry))
