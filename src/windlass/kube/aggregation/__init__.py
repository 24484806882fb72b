"""Aggregation: groups of the API that other servers answer, behind this one's authentication and authorization.

    proxy          passes requests on, telling who asks in headers that a front-proxy certificate vouches for
    availability   the controller that looks whether those servers answer, and lists what is served here, too

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/
"""

from windlass.kube.aggregation.availability import AvailabilityController
from windlass.kube.aggregation.proxy import Aggregator

__all__ = ["Aggregator", "AvailabilityController"]
