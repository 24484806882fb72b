"""The pages of a kubelet put together, with what they measure."""

from __future__ import annotations

from windlass.http import Response
from windlass.kube.node.measures import Measures
from windlass.kube.node.pods import Pods
from windlass.kube.node.rooms import Rooms
from windlass.kube.node.server.ask import Ask
from windlass.kube.node.server.hostlogs import HostLogs
from windlass.kube.node.server.kubelet import Kubelet, Object, json_page
from windlass.kube.node.server.metrics import MetricsPages
from windlass.kube.node.server.pods import PodFinder
from windlass.kube.node.server.summary import Summary
from windlass.kube.node.server.usage import Usage
from windlass.kube.node.settings import NodeSettings


def kubelet(pods: Pods, rooms: Rooms) -> tuple[Kubelet, Usage]:
    """The kubelet's API, and what has to be kept measuring for it."""
    settings, runtime = rooms.settings, rooms.runtime
    data, images = str(settings.data_dir), str(runtime.engine.parts.core.settings.data_root)
    finder = PodFinder(pods, runtime)
    measures = Measures(data, images, runtime, rooms.cgroups, rooms.volumes)
    usage = Usage(finder, measures, rooms.cgroups.stats)
    metrics = MetricsPages(settings.name, finder, usage)
    summary = Summary(settings.name, usage, runtime, rooms.volumes.directory, data=data, images=images)

    async def configz(ask: Ask) -> Response:
        del ask
        return json_page({"kubeletconfig": configuration(settings)})

    found = Kubelet(
        finder,
        {
            "/stats/summary": summary,
            "/metrics": metrics.own,
            "/metrics/resource": metrics.resource,
            "/metrics/cadvisor": metrics.cadvisor,
            "/metrics/probes": metrics.probes,
            "/configz": configz,
            "/logs/": HostLogs(),
        },
    )
    return found, usage


def configuration(settings: NodeSettings) -> Object:
    """The node's settings as a KubeletConfiguration. Pure.

    Source: https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/
    """
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": "0.0.0.0",
        "port": settings.kubelet_port,
        "readOnlyPort": 0,
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}},
        "authorization": {"mode": "Webhook"},
        "staticPodPath": str(settings.static_manifests or ""),
        "clusterDomain": settings.cluster_domain,
        "clusterDNS": list(settings.cluster_dns),
        "maxPods": settings.max_pods,
        "cgroupRoot": settings.cgroup_parent,
        "imageGCHighThresholdPercent": settings.image_gc_high,
        "imageGCLowThresholdPercent": settings.image_gc_low,
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 5,
        "enableServer": True,
    }
