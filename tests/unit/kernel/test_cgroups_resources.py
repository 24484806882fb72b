"""OCI resources as writes: the tables of the runtime specification and of the kernel's documents, without a kernel."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kernel.cgroups import CgroupError
from windlass.kernel.cgroups.resources import Write, plan_v1, plan_v2


def shown(writes: list[Write]) -> list[str]:
    """`file ← value`, the first choice of each."""
    return [f"{write.choices[0][0]} ← {write.choices[0][1]}" for write in writes]


DEVICE = {"major": 8, "minor": 16}

TABLE: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({}, [], []),
    ({"memory": None, "cpu": {}, "pids": {}}, [], []),
    ({"memory": {"limit": 0, "swap": 0, "reservation": 0}, "cpu": {"shares": 0, "quota": 0}}, [], []),
    (
        {"memory": {"limit": 1000, "swap": 3000, "reservation": 500}},
        ["memory.memsw.limit_in_bytes ← 3000", "memory.limit_in_bytes ← 1000", "memory.soft_limit_in_bytes ← 500"],
        ["memory.max ← 1000", "memory.swap.max ← 2000", "memory.low ← 500"],
    ),
    (
        {"memory": {"limit": 1000, "swap": 1000}},
        ["memory.memsw.limit_in_bytes ← 1000", "memory.limit_in_bytes ← 1000"],
        ["memory.max ← 1000", "memory.swap.max ← 0"],
    ),
    (
        {"memory": {"limit": -1}},
        ["memory.memsw.limit_in_bytes ← -1", "memory.limit_in_bytes ← -1"],
        ["memory.max ← max", "memory.swap.max ← max"],
    ),
    (
        {"memory": {"limit": 1000, "swap": -1}},
        ["memory.memsw.limit_in_bytes ← -1", "memory.limit_in_bytes ← 1000"],
        ["memory.max ← 1000", "memory.swap.max ← max"],
    ),
    (
        {"memory": {"swappiness": 0, "disableOOMKiller": True, "useHierarchy": True, "kernel": 5, "kernelTCP": 5}},
        ["memory.swappiness ← 0", "memory.oom_control ← 1", "memory.use_hierarchy ← 1"],
        [],
    ),
    ({"memory": {"swappiness": 2**64 - 1}}, [], []),
    (
        {"cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 1000, "cpus": "0-1", "mems": "0"}},
        [
            *("cpuset.cpus ← 0-1", "cpuset.mems ← 0", "cpu.shares ← 512"),
            *("cpu.cfs_period_us ← 100000", "cpu.cfs_burst_us ← 1000", "cpu.cfs_quota_us ← 50000"),
        ],
        ["cpuset.cpus ← 0-1", "cpuset.mems ← 0", "cpu.weight ← 59", "cpu.max ← 50000 100000", "cpu.max.burst ← 1000"],
    ),
    ({"cpu": {"quota": -1}}, ["cpu.cfs_quota_us ← -1"], ["cpu.max ← max"]),
    ({"cpu": {"period": 50000}}, ["cpu.cfs_period_us ← 50000"], ["cpu.max ← % 50000"]),
    ({"cpu": {"idle": 1, "shares": 2}}, ["cpu.shares ← 2", "cpu.idle ← 1"], ["cpu.idle ← 1"]),
    ({"pids": {"limit": 50}}, ["pids.max ← 50"], ["pids.max ← 50"]),
    ({"pids": {"limit": 0}}, ["pids.max ← max"], ["pids.max ← max"]),
    ({"pids": {"limit": -1}}, ["pids.max ← max"], ["pids.max ← max"]),
    (
        {"blockIO": {"weight": 500, "weightDevice": [{**DEVICE, "weight": 100}]}},
        ["blkio.weight ← 500", "blkio.weight_device ← 8:16 100"],
        ["io.bfq.weight ← default 500", "io.bfq.weight ← 8:16 100"],
    ),
    (
        {
            "blockIO": {
                "throttleReadBpsDevice": [{**DEVICE, "rate": 10}],
                "throttleWriteBpsDevice": [{**DEVICE, "rate": 0}],
            }
        },
        ["blkio.throttle.read_bps_device ← 8:16 10", "blkio.throttle.write_bps_device ← 8:16 0"],
        ["io.max ← 8:16 rbps=10", "io.max ← 8:16 wbps=max"],
    ),
    (
        {
            "blockIO": {
                "throttleReadIOPSDevice": [{**DEVICE, "rate": 1}],
                "throttleWriteIOPSDevice": [{**DEVICE, "rate": 2}],
            }
        },
        ["blkio.throttle.read_iops_device ← 8:16 1", "blkio.throttle.write_iops_device ← 8:16 2"],
        ["io.max ← 8:16 riops=1", "io.max ← 8:16 wiops=2"],
    ),
    (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]},
        ["hugetlb.2MB.limit_in_bytes ← 4194304", "hugetlb.2MB.rsvd.limit_in_bytes ← 4194304"],
        ["hugetlb.2MB.max ← 4194304", "hugetlb.2MB.rsvd.max ← 4194304"],
    ),
    (
        {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 100}}},
        ["rdma.max ← mlx5_1 hca_handle=3 hca_object=100"],
        ["rdma.max ← mlx5_1 hca_handle=3 hca_object=100"],
    ),
]


@pytest.mark.parametrize(("resources", "v1", "v2"), TABLE)
def test_plans(resources: dict[str, Any], v1: list[str], v2: list[str]) -> None:
    assert shown(plan_v1(resources)) == v1
    assert shown(plan_v2(resources)) == v2


def test_network_is_v1s() -> None:
    resources = {"network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]}}
    assert shown(plan_v1(resources)) == ["net_cls.classid ← 1048577", "net_prio.ifpriomap ← eth0 5"]
    with pytest.raises(CgroupError, match="not supported on cgroup v2"):
        plan_v2(resources)


def test_unified_is_v2s() -> None:
    resources = {"unified": {"memory.high": "1000", "io.max": "8:0 rbps=1\n8:16 rbps=2"}}
    assert shown(plan_v2(resources)) == ["memory.high ← 1000", "io.max ← 8:0 rbps=1", "io.max ← 8:16 rbps=2"]
    with pytest.raises(CgroupError, match="cannot use unified on cgroup v1"):
        plan_v1(resources)


def test_the_io_weight_file_depends_on_the_scheduler() -> None:
    (write,) = plan_v2({"blockIO": {"weight": 500}})
    assert write.choices == (("io.bfq.weight", "default 500"), ("io.weight", "default 4950"))


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"memory": {"limit": "64m"}}, "memory.limit must be an integer"),
        ({"memory": {"limit": True}}, "memory.limit must be an integer"),
        ({"memory": {"limit": -2}}, "memory.limit must be an integer"),
        ({"memory": {"limit": 2**63}}, "memory.limit must be an integer"),
        ({"memory": []}, "memory must be an object"),
        ({"memory": {"swappiness": 101}}, "from 0 to 100"),
        ({"memory": {"disableOOMKiller": "yes"}}, "true or false"),
        ({"cpu": {"cpus": "0-1;reboot"}}, "a list of numbers and ranges"),
        ({"cpu": {"idle": 2}}, "from 0 to 1"),
        ({"blockIO": {"weight": 1001}}, "from 0 to 1000"),
        ({"blockIO": {"leafWeight": 10}}, "no leaf weights"),
        ({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0}]}}, "rate must be an integer"),
        ({"blockIO": {"throttleReadBpsDevice": [{"rate": 1, "minor": 0}]}}, "major must be an integer"),
        ({"blockIO": {"throttleReadBpsDevice": {"rate": 1}}}, "a list of objects"),
        ({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}, "a size such as 2MB"),
        ({"hugepageLimits": [{"limit": 1}]}, "a size such as 2MB"),
        ({"rdma": {"a/b": {"hcaHandles": 1}}}, "must be an object"),
    ],
)
def test_what_no_kernel_could_take(resources: dict[str, Any], words: str) -> None:
    for plan in (plan_v1, plan_v2):
        with pytest.raises(CgroupError, match=words) as caught:
            plan(resources)
        assert caught.value.errno in {errno.EINVAL, errno.EOPNOTSUPP}


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"memory": {"swap": 1000}}, "unable to set swap limit without memory limit"),
        ({"memory": {"limit": 1000, "swap": 500}}, "memory\\+swap limit should be >= memory limit"),
        ({"cpu": {"realtimeRuntime": 1000}}, "not supported on cgroup v2"),
        ({"unified": {"../x": "1"}}, "no slashes"),
        ({"unified": {"memory.high": 5}}, "must be a string"),
    ],
)
def test_what_v2_cannot_take(resources: dict[str, Any], words: str) -> None:
    with pytest.raises(CgroupError, match=words):
        plan_v2(resources)


@pytest.mark.parametrize(("shares", "words"), [(1, "minimum allowed cpu-shares is 2"), (262145, "maximum allowed")])
def test_v1_does_not_clamp_shares_in_silence(shares: int, words: str) -> None:
    with pytest.raises(CgroupError, match=words):
        plan_v1({"cpu": {"shares": shares}})


NAMES = "limit swap reservation swappiness shares quota period cpus mems weight weightDevice rate major minor pageSize"
KEYS = st.sampled_from(
    ["memory", "cpu", "pids", "blockIO", "hugepageLimits", "network", "rdma", "unified", *NAMES.split()]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_foreign_json_is_a_plan_or_a_typed_error(resources: dict[str, Any]) -> None:
    for plan in (plan_v1, plan_v2):
        try:
            writes = plan(resources)
        except CgroupError:
            continue
        for write in writes:
            assert all("/" not in file and ".." not in file and "\0" not in value for file, value in write.choices)
