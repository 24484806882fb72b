"""`linux.resources`: the API's limits in the OCI specification's names. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from windlass.errors import InvalidParameter

Document = dict[str, Any]
DeviceNumbers = Callable[[str], tuple[int, int]]

CFS_PERIOD: Final = 100_000  # microseconds: what --cpus counts in
_RULE = re.compile(r"([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})")
_THROTTLES: Final = (
    ("BlkioDeviceReadBps", "throttleReadBpsDevice"),
    ("BlkioDeviceWriteBps", "throttleWriteBpsDevice"),
    ("BlkioDeviceReadIOps", "throttleReadIOPSDevice"),
    ("BlkioDeviceWriteIOps", "throttleWriteIOPSDevice"),
)


def _memory(limits: Mapping[str, Any], *, update: bool) -> Document:
    memory: Document = {}
    if limits["Memory"] > 0:
        memory["limit"] = limits["Memory"]
    if limits["MemoryReservation"] > 0:
        memory["reservation"] = limits["MemoryReservation"]
    # Where nothing limits swap yet, "unlimited" needs no word.
    if limits["MemorySwap"] > 0 or (update and limits["MemorySwap"] == -1):
        memory["swap"] = limits["MemorySwap"]
    if limits["MemorySwappiness"] is not None:
        memory["swappiness"] = limits["MemorySwappiness"]
    if limits["OomKillDisable"] is not None:
        memory["disableOOMKiller"] = limits["OomKillDisable"]
    return memory


def _cpu(limits: Mapping[str, Any]) -> Document:
    cpu: Document = {}
    if limits["CpuShares"]:
        cpu["shares"] = limits["CpuShares"]
    if limits["NanoCpus"] > 0:
        cpu["period"] = CFS_PERIOD
        cpu["quota"] = limits["NanoCpus"] * CFS_PERIOD // 1_000_000_000
    for name, field in (
        ("CpuPeriod", "period"),
        ("CpuQuota", "quota"),
        ("CpuRealtimePeriod", "realtimePeriod"),
        ("CpuRealtimeRuntime", "realtimeRuntime"),
        ("CpusetCpus", "cpus"),
        ("CpusetMems", "mems"),
    ):
        if limits[name]:
            cpu[field] = limits[name]
    return cpu


def _block_io(limits: Mapping[str, Any], numbers: DeviceNumbers) -> Document:
    block: Document = {}
    if limits["BlkioWeight"]:
        block["weight"] = limits["BlkioWeight"]
    if limits["BlkioWeightDevice"]:
        devices = []
        for device in limits["BlkioWeightDevice"]:
            major, minor = numbers(device["Path"])
            devices.append({"major": major, "minor": minor, "weight": device["Weight"]})
        block["weightDevice"] = devices
    for name, field in _THROTTLES:
        if limits[name]:
            devices = []
            for device in limits[name]:
                major, minor = numbers(device["Path"])
                devices.append({"major": major, "minor": minor, "rate": device["Rate"]})
            block[field] = devices
    return block


def linux_resources(limits: Mapping[str, Any], numbers: DeviceNumbers, *, update: bool = False) -> Document:
    """The limits of a HostConfig or an update request; `numbers` gives the device numbers of a path."""
    resources: Document = {}
    if memory := _memory(limits, update=update):
        resources["memory"] = memory
    if cpu := _cpu(limits):
        resources["cpu"] = cpu
    if block := _block_io(limits, numbers):
        resources["blockIO"] = block
    if limits["PidsLimit"] is not None:
        resources["pids"] = {"limit": limits["PidsLimit"] if limits["PidsLimit"] > 0 else -1}
    return resources


def parse_device_rules(rules: Iterable[str]) -> list[Document]:
    """`--device-cgroup-rule`s such as `c 10:* rw`. Raises `InvalidParameter`."""
    parsed = []
    for rule in rules:
        match = _RULE.fullmatch(rule)
        if match is None:
            raise InvalidParameter(f"invalid device cgroup rule format: '{rule}'")
        major, minor = (-1 if number == "*" else int(number) for number in (match[2], match[3]))
        parsed.append({"allow": True, "type": match[1], "major": major, "minor": minor, "access": match[4]})
    return parsed
