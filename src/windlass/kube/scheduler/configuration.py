"""KubeSchedulerConfiguration: profiles with the plugins that each uses, from a file.

Source: https://kubernetes.io/docs/reference/config-api/kube-scheduler-config.v1/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from windlass.kube.api import configfile
from windlass.kube.api.configfile import Node
from windlass.kube.scheduler.scores import STRATEGIES, WEIGHTS, Strategy
from windlass.kube.scheduler.spreading import TOPOLOGIES

KIND: Final = "KubeSchedulerConfiguration"
VERSIONS: Final = ("kubescheduler.config.k8s.io/v1",)
DEFAULT_NAME: Final = "default-scheduler"

FILTERS: Final = (
    "NodeUnschedulable",
    "NodeName",
    "TaintToleration",
    "NodeAffinity",
    "NodePorts",
    "NodeResourcesFit",
    "VolumeRestrictions",
    "NodeVolumeLimits",
    "VolumeBinding",
    "VolumeZone",
    "PodTopologySpread",
    "InterPodAffinity",
)
_PREEMPTION: Final = "DefaultPreemption"
_OTHERS: Final = ("PrioritySort", "SchedulingGates", "DefaultBinder", "DynamicResources", _PREEMPTION)
_KNOWN: Final = frozenset((*FILTERS, *WEIGHTS, *_OTHERS))
# Plugins of these points always work as they do here.
_FIXED_POINTS: Final = ("preEnqueue", "queueSort", "preFilter", "preScore", "reserve", "permit", "preBind", "bind")
_FIXED_POINTS_LATE: Final = ("postBind",)


@dataclass(frozen=True)
class Profile:
    """How pods of one schedulerName are placed.

    Attributes:
        filters: the names of those that count.
        weights: of each score.
        preempts: whether less important pods may be ended.
        strategy: how NodeResourcesFit scores.
        hard_affinity_weight: of others' required affinity, in the score.
        added_affinity: node affinity that holds for every pod (NodeAffinity's addedAffinity).
        default_spread: constraints for pods without any: keys with the most skew, and whether they are required.
    """

    name: str = DEFAULT_NAME
    filters: frozenset[str] = frozenset(FILTERS)
    weights: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    preempts: bool = True
    strategy: Strategy = STRATEGIES["LeastAllocated"]
    hard_affinity_weight: int = 1
    added_affinity: Mapping[str, Any] = field(default_factory=dict)
    default_spread: tuple[tuple[str, int, bool], ...] = TOPOLOGIES


@dataclass(frozen=True)
class Configuration:
    """What the file says; back-offs in seconds."""

    profiles: tuple[Profile, ...] = (Profile(),)
    first_backoff: float = 1.0
    longest_backoff: float = 10.0


def load(path: Path | None) -> Configuration:
    """Read a file; the defaults where there is none. Raises BadConfiguration."""
    if path is None:
        return Configuration()
    root = configfile.load(path, KIND, VERSIONS)
    profiles = tuple(_profile(each) for each in root.children("profiles")) or (Profile(),)
    names = [each.name for each in profiles]
    if len(set(names)) < len(names):
        raise root.error("profiles", "two have the same schedulerName")
    first = _number(root, "podInitialBackoffSeconds", 1)
    longest = _number(root, "podMaxBackoffSeconds", 10)
    if longest < first:
        raise root.error("podMaxBackoffSeconds", "must not be less than podInitialBackoffSeconds")
    # What only a process of its own would need: how it elects, connects, shows itself, and how much it looks at.
    for name in (
        "leaderElection",
        "clientConnection",
        "parallelism",
        "percentageOfNodesToScore",
        "enableProfiling",
        "enableContentionProfiling",
        "delayCacheUntilActive",
    ):
        root.any(name)
    root.done()
    return Configuration(profiles, float(first), float(longest))


def _number(node: Node, name: str, default: int, least: int = 1) -> int:
    value = node.any(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise node.error(name, f"expected a number of at least {least}")
    return value


class _Plugins:
    """Which are on while a profile is read."""

    def __init__(self) -> None:
        self.filters = set(FILTERS)
        self.weights = dict(WEIGHTS)
        self.preempts = True

    def disable(self, point: str, name: str) -> None:
        for of_point, names in (("filter", self.filters), ("score", self.weights)):
            if point in ("multiPoint", of_point):
                for each in list(names):
                    if name in ("*", each):
                        self._drop(of_point, each)
        if point in ("multiPoint", "postFilter") and name in ("*", _PREEMPTION):
            self.preempts = False

    def _drop(self, point: str, name: str) -> None:
        if point == "filter":
            self.filters.discard(name)
        else:
            self.weights.pop(name, None)

    def enable(self, point: str, name: str, weight: int) -> None:
        if point in ("multiPoint", "filter") and name in FILTERS:
            self.filters.add(name)
        if point in ("multiPoint", "score") and name in WEIGHTS:
            self.weights[name] = float(weight or self.weights.get(name) or WEIGHTS[name])
        if point in ("multiPoint", "postFilter") and name == _PREEMPTION:
            self.preempts = True


def _profile(node: Node) -> Profile:
    name = node.text("schedulerName", DEFAULT_NAME)
    plugins = _Plugins()
    points = node.child("plugins")
    for point in ("multiPoint", "filter", "postFilter", "score", *_FIXED_POINTS, *_FIXED_POINTS_LATE):
        found = points.child(point)
        for each in found.children("disabled"):
            plugins.disable(point, _plugin(each, allow_all=True))
            each.any("weight")
            each.done()
        for each in found.children("enabled"):
            plugins.enable(point, _plugin(each), _number(each, "weight", 0, least=0))
            each.done()
        found.done()
    points.done()
    arguments = {}
    for each in node.children("pluginConfig"):
        plugin = _plugin(each)
        if plugin in arguments:
            raise each.error("name", f"there is a configuration of {plugin} already")
        arguments[plugin] = each.child("args")
        each.done()
    node.any("percentageOfNodesToScore")
    node.done()
    nothing = Node({}, "", "")
    spread = arguments.get("PodTopologySpread", nothing)
    constraints = tuple(
        (
            each.text("topologyKey", required=True),
            _number(each, "maxSkew", 1),
            each.choice("whenUnsatisfiable", ("DoNotSchedule", "ScheduleAnyway")) == "DoNotSchedule",
        )
        for each in spread.children("defaultConstraints")
    )
    kind = spread.choice("defaultingType", ("System", "List"), "System")
    if constraints and kind == "System":
        raise spread.error("defaultConstraints", 'must be empty where defaultingType is "System"')
    affinity = arguments.get("InterPodAffinity", nothing)
    return Profile(
        name,
        frozenset(plugins.filters),
        plugins.weights,
        plugins.preempts,
        _strategy(arguments.get("NodeResourcesFit", nothing)),
        _number(affinity, "hardPodAffinityWeight", 1, least=0),
        arguments.get("NodeAffinity", nothing).child("addedAffinity").json(),
        constraints if kind == "List" else TOPOLOGIES,
    )


def _plugin(node: Node, *, allow_all: bool = False) -> str:
    name = node.text("name", required=True)
    if name not in _KNOWN and not (allow_all and name == "*"):
        raise node.error("name", f'there is no plugin "{name}"')
    return name


def _strategy(node: Node) -> Strategy:
    found = node.child("scoringStrategy")
    kind = found.choice("type", ("LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"), "LeastAllocated")
    weights = tuple(
        (each.text("name", required=True), _number(each, "weight", 1)) for each in found.children("resources")
    )
    shape = tuple(
        (_number(each, "utilization", 0, least=0), _number(each, "score", 0, least=0))
        for each in found.child("requestedToCapacityRatio").children("shape")
    )
    if kind == "RequestedToCapacityRatio" and not shape:
        raise found.error("requestedToCapacityRatio.shape", "Required value")
    return Strategy(kind, weights or STRATEGIES["LeastAllocated"].weights, shape)
