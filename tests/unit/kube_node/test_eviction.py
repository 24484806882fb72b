"""When a node is short of something, and which pod has to go first: by the numbers, without a node."""

from __future__ import annotations

from typing import Any

import pytest

from windlass.kube.node import eviction, imagegc, measures, thresholds
from windlass.kube.node.eviction import ContainerUse, PodUse
from windlass.kube.node.imagegc import Seen
from windlass.kube.node.thresholds import Conditions, Observation, Threshold

MEBIBYTE = 1 << 20
Object = dict[str, Any]


def pod(name: str, *, priority: int = 0, requests: Object | None = None, limits: Object | None = None) -> Object:
    resources: Object = {"requests": requests or {}, "limits": limits or {}}
    spec: Object = {"priority": priority, "containers": [{"name": "c", "resources": resources}]}
    return {"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": spec}


def names(pods: list[Object]) -> list[str]:
    return [each["metadata"]["name"] for each in pods]


# --- thresholds


def test_thresholds_are_written_as_the_kubelet_s_are() -> None:
    assert thresholds.parse("memory.available<100Mi, nodefs.available<10%") == thresholds.DEFAULTS[:2]
    assert thresholds.parse("") == ()
    assert thresholds.parse("pid.available<100,memory.available<0%") == (Threshold("pid.available", 100),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("memory.available", "invalid eviction threshold syntax memory.available"),
        ("memory<1", "unsupported eviction signal memory"),
        ("pid.available<1,pid.available<2", "found duplicate eviction threshold"),
        ("nodefs.available<110%", "must be >= 0% and <= 100%"),
        ("memory.available<-1", "must be positive"),
        ("memory.available<much", "quantities must match"),
    ],
)
def test_what_is_no_threshold_is_told(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        thresholds.parse(text)


def test_a_threshold_is_crossed_below_it_and_memory_is_the_most_urgent() -> None:
    observed = {
        thresholds.MEMORY: Observation(1000 * MEBIBYTE, 99 * MEBIBYTE),
        thresholds.NODE_DISK: Observation(1000, 99),
        thresholds.NODE_INODES: Observation(1000, 50),
    }
    reverse = thresholds.DEFAULTS[::-1]
    assert [each.signal for each in thresholds.met(reverse, observed)] == ["memory.available", "nodefs.available"]


def test_a_condition_stays_for_a_while() -> None:
    conditions = Conditions(300)
    assert conditions.update(thresholds.DEFAULTS[:1], 1000) == ["MemoryPressure"]
    assert conditions.update((), 1299) == ["MemoryPressure"]
    assert conditions.update(thresholds.DEFAULTS[1:2], 1300) == ["DiskPressure"]


# --- who goes first


def test_who_exceeds_its_request_goes_first_then_the_lower_priority_then_the_larger() -> None:
    pods = [
        pod("within", requests={"memory": "100Mi"}),
        pod("high", priority=10),
        pod("small"),
        pod("large"),
        pod("over", requests={"memory": "90Mi"}),
    ]
    sizes = {"within": 99, "high": 500, "small": 5, "large": 50, "over": 100}
    uses = {name: PodUse(memory=size * MEBIBYTE) for name, size in sizes.items()}
    assert names(eviction.rank(pods, uses, "memory")) == ["large", "over", "small", "high", "within"]


def test_for_processes_only_priority_and_number_count() -> None:
    pods = [pod("few"), pod("many"), pod("high", priority=1)]
    uses = {"few": PodUse(processes=1), "many": PodUse(processes=9), "high": PodUse(processes=99)}
    assert names(eviction.rank(pods, uses, "pids")) == ["many", "few", "high"]


def test_the_message_names_the_threshold_and_who_uses_too_much() -> None:
    use = PodUse(memory=64 * MEBIBYTE, containers={"c": ContainerUse(memory=64 * MEBIBYTE)})
    observed = Observation(1000 * MEBIBYTE, 73884 << 10)
    assert eviction.message(pod("p", requests={"memory": "10Mi"}), use, "memory", thresholds.DEFAULTS[0], observed) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 73884Ki. "
        "Container c was using 64Mi, request is 10Mi, has larger consumption of memory. "
    )
    inodes = eviction.message(pod("p"), use, "inodes", thresholds.DEFAULTS[2], Observation(1000, 20))
    assert inodes == "The node was low on resource: inodes. Threshold quantity: 50, available: 20. "


# --- limits of disks


def test_pods_have_to_keep_the_limits_of_their_disks() -> None:
    bounded = pod("p", limits={"ephemeral-storage": "1Mi"})
    assert eviction.has_limits(bounded) and not eviction.has_limits(pod("q"))
    small = PodUse(containers={"c": ContainerUse(disk=MEBIBYTE)})
    assert eviction.beyond_limits(bounded, small) == ""
    large = PodUse(containers={"c": ContainerUse(disk=MEBIBYTE + 1)})
    total = "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "
    assert eviction.beyond_limits(bounded, large) == total
    bounded["spec"]["containers"].append({"name": "d", "resources": {"limits": {"ephemeral-storage": "1Gi"}}})
    assert eviction.beyond_limits(bounded, large) == 'Container c exceeded its local ephemeral storage limit "1Mi". '


def test_an_empty_dir_has_to_keep_its_limit() -> None:
    found = pod("p")
    found["spec"]["volumes"] = [{"name": "e", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "f", "emptyDir": {}}]
    assert eviction.has_limits(found)
    assert eviction.beyond_limits(found, PodUse(volumes={"e": MEBIBYTE, "f": 9 * MEBIBYTE})) == ""
    told = 'Usage of EmptyDir volume "e" exceeds the limit "1Mi". '
    assert eviction.beyond_limits(found, PodUse(volumes={"e": MEBIBYTE + 1})) == told


def test_memory_is_no_disk() -> None:
    use = PodUse(volumes={"m": 7, "d": 1}, in_memory=frozenset({"m"}), containers={"c": ContainerUse(disk=2)})
    assert use.disk == 3


# --- who is taken


@pytest.mark.parametrize(
    ("conditions", "qos", "tolerations", "taken"),
    [
        ([], "BestEffort", [], True),
        (["MemoryPressure"], "BestEffort", [], False),
        (["MemoryPressure"], "Burstable", [], True),
        (["MemoryPressure"], "BestEffort", [{"operator": "Exists"}], True),
        (["DiskPressure"], "Guaranteed", [{"operator": "Exists"}], False),
        (["DiskPressure", "MemoryPressure"], "Guaranteed", [], False),
    ],
)
def test_a_node_in_need_takes_few(conditions: list[str], qos: str, tolerations: list[Object], taken: bool) -> None:
    found = pod("p")
    found["spec"]["tolerations"] = tolerations
    refused = eviction.refusal(found, qos, conditions)
    assert refused == (None if taken else ("Evicted", f"The node had condition: [{' '.join(conditions)}]. "))
    assert eviction.refusal(pod("critical", priority=2_000_000_000), qos, conditions) is None


# --- images


def test_images_go_by_how_long_nobody_used_them() -> None:
    seen = imagegc.track({}, ["old", "used", "never"], {"used", "old"}, 1000)
    seen = imagegc.track(seen, ["old", "used", "never", "new"], {"used"}, 2000)
    assert seen["used"] == Seen(1000, 2000) and seen["new"] == Seen(2000, 0)
    assert imagegc.order(seen, {"used"}, 2060, 120) == ["never", "old"]
    assert imagegc.order(seen, set(), 2120, 120) == ["never", "new", "old", "used"]
    assert "old" not in imagegc.track(seen, ["new"], set(), 3000)


@pytest.mark.parametrize(
    ("available", "high", "freed"), [(16, 85, 0), (15, 85, 5), (0, 85, 20), (0, 100, 0), (1, 99, 19)]
)
def test_a_disk_is_freed_until_it_is_less_full(available: int, high: int, freed: int) -> None:
    assert imagegc.excess(Observation(100, available), high, 80) == freed


def test_the_cache_of_files_that_nobody_needs_is_memory_that_is_left() -> None:
    text = "MemTotal: 1000 kB\nAnonPages: 100 kB\nCached: 300 kB\nBuffers: 10 kB\nInactive(file): 250 kB\n"
    assert measures.memory(text) == Observation(1000 << 10, 840 << 10)
