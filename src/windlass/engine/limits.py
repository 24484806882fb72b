"""dockerd's checks of resource limits: the impossible is an error, what this host cannot do is dropped with a warning.

`check_resources` changes the document it is given: a limit that is dropped is reset to "not set", so that what
`docker inspect` shows is what holds. Limits are in the API's units (bytes, microseconds, 10⁻⁹ CPUs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from windlass.engine.host import HostFacts, parse_uint_list
from windlass.errors import Conflict, InvalidParameter

Document = dict[str, Any]

LEAST_MEMORY: Final = 6 << 20
_NO_CGROUP: Final = "or the cgroup is not mounted"


def _refuse(message: str) -> None:
    raise InvalidParameter(message)


def check_resources(resources: Document, host: HostFacts, *, update: bool) -> list[str]:
    """Check the limits of a create or update request; returns warnings. Raises `InvalidParameter`."""
    warnings: list[str] = []
    _memory(resources, host, warnings, update=update)
    _cpu(resources, host, warnings)
    _cpuset(resources, host, warnings)
    _blkio(resources, host, warnings)
    return warnings


def _memory(resources: Document, host: HostFacts, warnings: list[str], *, update: bool) -> None:
    if resources["MemorySwappiness"] == -1:
        resources["MemorySwappiness"] = None
    memory: int = resources["Memory"]
    if memory != 0 and memory < LEAST_MEMORY:
        _refuse("Minimum memory limit allowed is 6MB")
    if memory > 0 and not host.memory_limit:
        warnings.append(f"Your kernel does not support memory limit capabilities {_NO_CGROUP}. Limitation discarded.")
        resources["Memory"], resources["MemorySwap"] = 0, -1
        memory = 0
    if memory > 0 and resources["MemorySwap"] != -1 and not host.swap_limit:
        warnings.append(
            f"Your kernel does not support swap limit capabilities {_NO_CGROUP}. Memory limited without swap."
        )
        resources["MemorySwap"] = -1
    swap: int = resources["MemorySwap"]
    if memory > 0 and 0 < swap < memory:
        _refuse("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0 and not update:
        _refuse("You should always set the Memory limit when using Memoryswap limit, see usage")
    if resources["MemorySwappiness"] is not None and not host.memory_swappiness:
        warnings.append(
            f"Your kernel does not support memory swappiness capabilities {_NO_CGROUP}. Memory swappiness discarded."
        )
        resources["MemorySwappiness"] = None
    swappiness = resources["MemorySwappiness"]
    if swappiness is not None and not 0 <= swappiness <= 100:
        _refuse(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    if resources["MemoryReservation"] > 0 and not host.memory_reservation:
        warnings.append(
            f"Your kernel does not support memory soft limit capabilities {_NO_CGROUP}. Limitation discarded."
        )
        resources["MemoryReservation"] = 0
    reservation: int = resources["MemoryReservation"]
    if 0 < reservation < LEAST_MEMORY:
        _refuse("Minimum memory reservation allowed is 6MB")
    if 0 < memory < reservation:
        _refuse("Minimum memory limit can not be less than memory reservation limit, see usage")
    _oom_and_pids(resources, host, warnings)


def _oom_and_pids(resources: Document, host: HostFacts, warnings: list[str]) -> None:
    if resources["OomKillDisable"] is not None and not host.oom_kill_disable:
        if resources["OomKillDisable"]:
            warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
        resources["OomKillDisable"] = None
    if resources["OomKillDisable"] and resources["Memory"] == 0:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    if resources["PidsLimit"] is not None and not host.pids_limit:
        if resources["PidsLimit"] > 0:
            warnings.append(f"Your kernel does not support PIDs limit capabilities {_NO_CGROUP}. PIDs limit discarded.")
        resources["PidsLimit"] = None


def _cpu(resources: Document, host: HostFacts, warnings: list[str]) -> None:
    nano, period, quota = resources["NanoCpus"], resources["CpuPeriod"], resources["CpuQuota"]
    if nano > 0 and period > 0:
        _refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if nano > 0 and quota > 0:
        _refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if nano > 0 and not host.cpu_cfs:
        _refuse(f"NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler {_NO_CGROUP}")
    if nano < 0 or nano > host.cpu_count * 1_000_000_000:
        count = host.cpu_count
        _refuse(f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available")
    if resources["CpuShares"] < 0:
        _refuse(f"invalid CPU shares ({resources['CpuShares']}): value must be a positive integer")
    if resources["CpuShares"] > 0 and not host.cpu_shares:
        warnings.append(f"Your kernel does not support CPU shares {_NO_CGROUP}. Shares discarded.")
        resources["CpuShares"] = 0
    if (period or quota) and not host.cpu_cfs:
        warnings.append("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
        period = quota = resources["CpuPeriod"] = resources["CpuQuota"] = 0
    if period and not 1000 <= period <= 1_000_000:
        _refuse("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < quota < 1000:
        _refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if resources["CpuPercent"] > 0:
        warnings.append("linux does not support CPU percent. Percent discarded.")
        resources["CpuPercent"] = 0
    realtime_period, realtime_runtime = resources["CpuRealtimePeriod"], resources["CpuRealtimeRuntime"]
    if (realtime_period or realtime_runtime) and not host.cpu_realtime:
        _refuse("kernel does not support CPU real-time scheduler")
    if realtime_period and realtime_runtime > realtime_period:
        _refuse("cpu real-time runtime cannot be higher than cpu real-time period")


def _cpuset(resources: Document, host: HostFacts, warnings: list[str]) -> None:
    if (resources["CpusetCpus"] or resources["CpusetMems"]) and not host.cpuset:
        warnings.append(f"Your kernel does not support cpuset {_NO_CGROUP}. Cpuset discarded.")
        resources["CpusetCpus"] = resources["CpusetMems"] = ""
    for name, what, missing, available in (
        ("CpusetCpus", "cpuset cpus", "Requested CPUs are not available", host.cpus),
        ("CpusetMems", "cpuset mems", "Requested memory nodes are not available", host.mems),
    ):
        requested: str = resources[name]
        if not requested:
            continue
        try:
            wanted = parse_uint_list(requested)
        except ValueError as error:
            raise InvalidParameter(f"Invalid value {requested} for {what}: {error}") from None
        if not wanted <= parse_uint_list(available):
            _refuse(f"{missing} - requested {requested}, available: {available}")


_THROTTLES: Final = (
    ("BlkioDeviceReadBps", "blkio_read_bps", "BPS Block I/O read limit", "Block I/O BPS read limit"),
    ("BlkioDeviceWriteBps", "blkio_write_bps", "BPS Block I/O write limit", "Block I/O BPS write limit"),
    ("BlkioDeviceReadIOps", "blkio_read_iops", "IOPS Block read limit", "Block I/O IOPS read limit"),
    ("BlkioDeviceWriteIOps", "blkio_write_iops", "IOPS Block write limit", "Block I/O IOPS write limit"),
)


def _blkio(resources: Document, host: HostFacts, warnings: list[str]) -> None:
    if resources["BlkioWeight"] > 0 and not host.blkio_weight:
        warnings.append(f"Your kernel does not support Block I/O weight {_NO_CGROUP}. Weight discarded.")
        resources["BlkioWeight"] = 0
    if resources["BlkioWeight"] > 0 and not 10 <= resources["BlkioWeight"] <= 1000:
        _refuse("Range of blkio weight is from 10 to 1000")
    if resources["IOMaximumBandwidth"] != 0 or resources["IOMaximumIOps"] != 0:
        _refuse("Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps")
    if resources["BlkioWeightDevice"] and not host.blkio_weight_device:
        warnings.append(f"Your kernel does not support Block I/O weight_device {_NO_CGROUP}. Weight-device discarded.")
        resources["BlkioWeightDevice"] = []
    for name, fact, what, dropped in _THROTTLES:
        if resources[name] and not getattr(host, fact):
            warnings.append(f"Your kernel does not support {what} {_NO_CGROUP}. {dropped} discarded.")
            resources[name] = []


_UPDATABLE: Final = (
    "BlkioWeight",
    "CpuShares",
    "NanoCpus",
    "CpuPeriod",
    "CpuQuota",
    "CpusetCpus",
    "CpusetMems",
    "Memory",
    "MemorySwap",
    "MemoryReservation",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
)


def merge_update(current: Mapping[str, Any], update: Mapping[str, Any]) -> Document:
    """A HostConfig with the limits and the restart policy of an update request; 0 and "" mean "as it is".

    Raises `Conflict` where the two contradict each other.
    """
    merged = dict(current)

    def refuse(message: str) -> None:
        raise Conflict(message)

    if update["NanoCpus"] > 0 and current["CpuPeriod"] > 0:
        refuse("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
    if update["NanoCpus"] > 0 and current["CpuQuota"] > 0:
        refuse("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set")
    if update["CpuPeriod"] > 0 and current["NanoCpus"] > 0:
        refuse("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
    if update["CpuQuota"] > 0 and current["NanoCpus"] > 0:
        refuse("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
    # A swap limit of -1 is none, so that no memory limit is too large for it.
    swap = current["MemorySwap"]
    if update["Memory"] and update["MemorySwap"] == 0 and swap != -1 and update["Memory"] > swap:
        refuse(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    merged.update({name: update[name] for name in _UPDATABLE if update[name]})
    if update["PidsLimit"] is not None:
        merged["PidsLimit"] = update["PidsLimit"] if update["PidsLimit"] > 0 else 0
    if update["RestartPolicy"]["Name"]:
        if current["AutoRemove"] and update["RestartPolicy"]["Name"] != "no":
            refuse("Restart policy cannot be updated because AutoRemove is enabled for the container")
        merged["RestartPolicy"] = dict(update["RestartPolicy"])
    return merged
