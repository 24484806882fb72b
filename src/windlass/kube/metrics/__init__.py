"""The resource metrics API, metrics.k8s.io, without an add-on: figures come from the kubelets as somebody asks.

    kubelets ─ /stats/summary ─▶ ResourceMetrics ─┬─▶ ResourceMetricsAPI: kubectl top, clients
                                 a few seconds old └─▶ controllers that scale

An APIService with a service of its own (a metrics-server that somebody has installed) has precedence.

Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/resource-metrics-pipeline/
"""

from windlass.kube.metrics.source import ResourceMetrics

__all__ = ["ResourceMetrics"]
