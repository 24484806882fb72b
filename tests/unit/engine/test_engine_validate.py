"""dockerd's checks, in dockerd's words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from windlass.engine.host import HostFacts, memory_total, os_release, parse_uint_list
from windlass.engine.limits import merge_update
from windlass.engine.shapes import decode_update
from windlass.errors import Conflict, InvalidParameter

MIB = 1 << 20


def hc(**fields: Any) -> dict[str, Any]:
    return {"HostConfig": fields}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"WorkingDir": "tmp"}, "the working directory 'tmp' is invalid, it needs to be an absolute path"),
        ({"StopSignal": "NOSUCH"}, "invalid signal: NOSUCH"),
        ({"Env": ["=x"]}, "invalid environment variable: =x"),
        ({"Env": [""]}, "invalid environment variable: "),
        ({"Hostname": "h" * 65}, "is too long (maximum 64 bytes)"),
        ({"Healthcheck": {"Interval": 3}}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"Healthcheck": {"Retries": -1}}, "Retries in Healthcheck cannot be negative"),
        ({"ExposedPorts": {"abc/tcp": {}}}, "invalid start port 'abc': invalid syntax"),
        (hc(Memory=5 * MIB), "Minimum memory limit allowed is 6MB"),
        (hc(Memory=64 * MIB, MemorySwap=32 * MIB), "Minimum memoryswap limit should be larger than memory limit"),
        (hc(MemorySwap=32 * MIB), "You should always set the Memory limit when using Memoryswap limit"),
        (hc(MemorySwappiness=101), "Invalid value: 101, valid memory swappiness range is 0-100"),
        (hc(MemoryReservation=MIB), "Minimum memory reservation allowed is 6MB"),
        (
            hc(Memory=8 * MIB, MemoryReservation=9 * MIB),
            "Minimum memory limit can not be less than memory reservation limit",
        ),
        (hc(NanoCpus=5_000_000_000), "range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available"),
        (hc(NanoCpus=-1), "range of CPUs is from 0.01 to 4.00"),
        (hc(NanoCpus=1, CpuPeriod=1000), "Nano CPUs and CPU Period cannot both be set"),
        (hc(NanoCpus=1, CpuQuota=1000), "Nano CPUs and CPU Quota cannot both be set"),
        (hc(CpuShares=-1), "invalid CPU shares (-1): value must be a positive integer"),
        (hc(CpuPeriod=999), "CPU cfs period can not be less than 1ms"),
        (hc(CpuQuota=999), "CPU cfs quota can not be less than 1ms"),
        (hc(CpuRealtimePeriod=1000), "kernel does not support CPU real-time scheduler"),
        (hc(CpusetCpus="7"), "Requested CPUs are not available - requested 7, available: 0-3"),
        (hc(CpusetCpus="a-b"), "Invalid value a-b for cpuset cpus: invalid format: a-b"),
        (hc(CpusetMems="1-9223372036854775807"), "Invalid value 1-9223372036854775807 for cpuset mems: value of out"),
        (hc(BlkioWeight=5), "Range of blkio weight is from 10 to 1000"),
        (hc(IOMaximumIOps=1), "linux does not support Maximum IO Bandwidth or Maximum IO IOps"),
        (hc(OomScoreAdj=1001), "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
        (hc(ShmSize=-1), "SHM size can not be less than 0"),
        (hc(IpcMode="x"), "invalid IPC mode: x"),
        (hc(PidMode="container:"), "invalid PID mode: container:"),
        (hc(UTSMode="x"), "invalid UTS mode: x"),
        (hc(CgroupnsMode="x"), "invalid cgroup namespace mode: x"),
        (hc(Isolation="hyperv"), "invalid isolation (hyperv): linux only supports 'default'"),
        (hc(Runtime="nosuch"), "unknown or invalid runtime name: nosuch"),
        (hc(CapAdd=["NOSUCH"]), 'invalid CapAdd: unknown capability: "CAP_NOSUCH"'),
        (hc(CapDrop=["sys_resource"]), "invalid CapDrop: capability not supported by your kernel or not available"),
        (hc(SecurityOpt=["nosuch"]), 'invalid --security-opt 1: "nosuch"'),
        (hc(SecurityOpt=["nosuch=x"]), 'invalid --security-opt 2: "nosuch=x"'),
        (
            hc(RestartPolicy={"Name": "sometimes"}),
            "invalid restart policy: unknown policy 'sometimes'; use",
        ),
        (
            hc(RestartPolicy={"Name": "always", "MaximumRetryCount": 1}),
            "maximum retry count can only be used with 'on-failure'",
        ),
        (
            hc(RestartPolicy={"Name": "on-failure", "MaximumRetryCount": -1}),
            "maximum retry count cannot be negative",
        ),
        (hc(AutoRemove=True, RestartPolicy={"Name": "always"}), "can't create 'AutoRemove' container with restart"),
        (hc(ExtraHosts=["a"]), 'bad format for add-host: "a"'),
        (hc(ExtraHosts=["a:b"]), 'invalid IP address in add-host: "b"'),
        (hc(PortBindings={"x": []}), 'invalid port specification: "x"'),
        (hc(PortBindings={"80/tcp": [{"HostPort": "70000"}]}), 'invalid port specification: "70000"'),
        (hc(NetworkMode="container:"), "invalid network mode: invalid container format container:<name|id>"),
        (
            {"Hostname": "h", **hc(NetworkMode="container:x")},
            "conflicting options: hostname and the network mode",
        ),
        (
            hc(NetworkMode="container:x", PortBindings={"80/tcp": []}),
            "conflicting options: port publishing and the container type network mode",
        ),
        ({"Hostname": "h", **hc(UTSMode="host")}, "conflicting options: hostname and the UTS mode"),
        (hc(Ulimits=[{"Name": "nosuch", "Soft": 1, "Hard": 1}]), "invalid ulimit name nosuch"),
        (hc(Ulimits=[{"Name": "nofile", "Soft": 2, "Hard": 1}]), "ulimit soft limit must be less than or equal"),
        (hc(Tmpfs={"/": ""}), "invalid specification: destination can't be '/'"),
        (
            hc(DeviceRequests=[{"Driver": "nvidia", "Capabilities": [["gpu"]]}]),
            'could not select device driver "nvidia" with capabilities: [[gpu]]',
        ),
        (
            {"NetworkingConfig": {"EndpointsConfig": {"net": {"IPAMConfig": {"IPv4Address": "::1"}}}}},
            "invalid config for network net: invalid IPv4 address: ::1",
        ),
        (
            {"NetworkingConfig": {"EndpointsConfig": {"bridge": {"IPAMConfig": {"IPv4Address": "10.0.0.1"}}}}},
            "user specified IP address is supported on user defined networks only",
        ),
    ],
)
def test_what_is_refused(checked: Any, body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        checked(body)
    assert message in str(refused.value)


def test_what_is_normalised(checked: Any) -> None:
    request = checked(
        {
            "WorkingDir": "/a/../b/",
            "ExposedPorts": {"8000-8001": {}},
            "HostConfig": {
                "PortBindings": {"80": []},
                "CapAdd": ["net_admin", "all"],
                "PidsLimit": -1,
                "MemorySwappiness": -1,
            },
        }
    )
    assert request.config["WorkingDir"] == "/b"
    assert request.config["ExposedPorts"] == {"8000/tcp": {}, "8001/tcp": {}}
    assert request.host_config["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": ""}]}
    assert request.host_config["CapAdd"] == ["CAP_NET_ADMIN", "ALL"]
    assert request.host_config["PidsLimit"] is None
    assert request.host_config["MemorySwappiness"] is None
    assert request.host_config["NetworkMode"] == "bridge"
    assert request.host_config["RestartPolicy"]["Name"] == "no"
    assert request.warnings == []


@pytest.mark.parametrize(
    ("missing", "fields", "warning", "after"),
    [
        ("memory_limit", {"Memory": 64 * MIB}, "memory limit capabilities", {"Memory": 0, "MemorySwap": -1}),
        ("swap_limit", {"Memory": 64 * MIB}, "swap limit capabilities", {"MemorySwap": -1}),
        ("memory_reservation", {"MemoryReservation": 64 * MIB}, "memory soft limit", {"MemoryReservation": 0}),
        ("memory_swappiness", {"MemorySwappiness": 10}, "memory swappiness", {"MemorySwappiness": None}),
        ("oom_kill_disable", {"OomKillDisable": True}, "OomKillDisable discarded", {"OomKillDisable": None}),
        ("pids_limit", {"PidsLimit": 10}, "PIDs limit discarded", {"PidsLimit": None}),
        ("cpu_shares", {"CpuShares": 10}, "Shares discarded", {"CpuShares": 0}),
        ("cpu_cfs", {"CpuQuota": 10000}, "CPU period/quota discarded", {"CpuQuota": 0}),
        ("cpuset", {"CpusetCpus": "0"}, "Cpuset discarded", {"CpusetCpus": ""}),
        ("blkio_weight", {"BlkioWeight": 100}, "Weight discarded", {"BlkioWeight": 0}),
        (
            "blkio_read_bps",
            {"BlkioDeviceReadBps": [{"Path": "/dev/null", "Rate": 1}]},
            "Block I/O BPS read limit discarded",
            {"BlkioDeviceReadBps": []},
        ),
        ("ipv4_forwarding", {}, "IPv4 forwarding is disabled. Networking will not work.", {}),
        ("cgroup_namespaces", {"CgroupnsMode": "private"}, "cgroup namespaces", {"CgroupnsMode": "host"}),
    ],
)
def test_what_the_host_cannot_do_is_dropped_with_a_warning(
    checked: Any, host: HostFacts, missing: str, fields: dict[str, Any], warning: str, after: dict[str, Any]
) -> None:
    request = checked(hc(**fields), replace(host, **{missing: False}))
    assert len(request.warnings) == 1 and warning in request.warnings[0]
    assert {name: request.host_config[name] for name in after} == after


def test_an_oom_killer_that_is_off_without_a_limit_is_warned_of(checked: Any) -> None:
    assert "OOM killer is disabled" in checked(hc(OomKillDisable=True)).warnings[0]


@pytest.mark.parametrize(
    ("current", "update", "message"),
    [
        ({"CpuPeriod": 1000}, {"NanoCpus": 1}, "Nano CPUs cannot be updated as CPU Period has already been set"),
        ({"NanoCpus": 1}, {"CpuQuota": 1000}, "CPU Quota cannot be updated as NanoCPUs has already been set"),
        (
            {"Memory": 10 * MIB, "MemorySwap": 20 * MIB},
            {"Memory": 30 * MIB},
            "Memory limit should be smaller than already set memoryswap limit",
        ),
        (
            {"AutoRemove": True},
            {"RestartPolicy": {"Name": "always"}},
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ),
    ],
)
def test_updates_that_contradict(checked: Any, current: dict[str, Any], update: dict[str, Any], message: str) -> None:
    with pytest.raises(Conflict) as refused:
        merge_update(checked(hc(**current)).host_config, decode_update(update))
    assert message in str(refused.value)


def test_an_update_changes_what_it_names_only(checked: Any) -> None:
    current = checked(hc(CpuShares=100, PidsLimit=10)).host_config
    merged = merge_update(current, decode_update({"CpuShares": 200, "RestartPolicy": {"Name": "always"}}))
    assert (merged["CpuShares"], merged["PidsLimit"]) == (200, 10)
    assert merged["RestartPolicy"]["Name"] == "always"
    assert current["CpuShares"] == 100
    assert merge_update(current, decode_update({"PidsLimit": -1}))["PidsLimit"] == 0


@pytest.mark.parametrize(
    ("text", "numbers"), [("", set()), ("3", {3}), ("0-2,7", {0, 1, 2, 7}), ("03,1-3", {1, 2, 3}), ("0-0,0", {0})]
)
def test_lists_of_numbers(text: str, numbers: set[int]) -> None:
    assert parse_uint_list(text) == numbers


@pytest.mark.parametrize("text", ["-", "a", "1-", "3-1", "1,,2", "1-99999999", "１"])
def test_what_is_no_list_of_numbers(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid format|out range"):
        parse_uint_list(text)


def test_what_the_host_says_of_itself() -> None:
    assert memory_total("MemFree: 1 kB\nMemTotal:       2048 kB\n") == 2 * MIB
    assert os_release('NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12"\nVERSION_ID="12"\n') == (
        "Debian GNU/Linux 12",
        "12",
    )
    assert os_release("") == ("Linux", "")
