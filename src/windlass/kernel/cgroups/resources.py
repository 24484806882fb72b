"""OCI `linux.resources` as the list of writes that bring it about: a pure function for each cgroup version.

    {"memory": {"limit": 67108864, "swap": 134217728}}
        v1  memory/memory.memsw.limit_in_bytes ← 134217728, memory/memory.limit_in_bytes ← 67108864   (joint)
        v2  memory.max ← 67108864, memory.swap.max ← 67108864

A `Write` that is `joint` with its neighbours depends on them: the kernel refuses a memory limit above the memory+swap
limit, and a quota and a period whose ratio exceeds the parent's. Which must come first depends on what stands there
already, so such a write that is refused with EINVAL is tried again after the others (`group.py`).

Runtime specification: config-linux.md, "Control groups"; Linux: admin-guide/cgroup-v1/ and cgroup-v2.rst. As in the
runtimes that people use, zero means "not set" for limits that cannot be zero, -1 means "no limit", and the kernel
memory limits, which Linux has dropped, are ignored.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from windlass.kernel.cgroups.errors import CgroupError
from windlass.kernel.cgroups.values import io_weight_from_blkio, weight_from_shares

LARGEST = 2**63 - 1
KEEP = "%"
"""As the first word of a value of several words: that word stays what it is in the file."""
_PAGE_SIZE = re.compile(r"[1-9][0-9]{0,10}(KB|MB|GB)")
_WORD = re.compile(r"[^\s/\0]{1,255}")
_CPU_LIST = re.compile(r"[0-9,\- \n:/]{0,65536}")


class Write(NamedTuple):
    """One value for one control file.

    `choices` are (file, value) pairs of which the first whose file exists is used. `default` is the value that a new
    group has anyhow: a new group's write of it is left out, and a missing file is then no error. `key` is the first
    word of the line that the value replaces in a file of several lines; `clear` undoes it where no such line was.
    """

    controller: str
    choices: tuple[tuple[str, str], ...]
    default: str | None = None
    optional: bool = False
    joint: str = ""
    key: str = ""
    clear: str = ""


def _invalid(name: str, value: object, wanted: str) -> CgroupError:
    return CgroupError(errno.EINVAL, f"invalid resources: {name} must be {wanted}, not {value!r:.80}")


def _section(parent: Mapping[str, Any], name: str, where: str = "") -> Mapping[str, Any]:
    value = parent.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _invalid(where + name, value, "an object")
    return value


def _integer(parent: Mapping[str, Any], where: str, name: str, low: int = 0, high: int = LARGEST) -> int | None:
    value = parent.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _invalid(f"{where}.{name}", value, f"an integer from {low} to {high}")
    return value


def _boolean(parent: Mapping[str, Any], where: str, name: str) -> bool | None:
    value = parent.get(name)
    if value is not None and not isinstance(value, bool):
        raise _invalid(f"{where}.{name}", value, "true or false")
    return value


def _text(parent: Mapping[str, Any], where: str, name: str, pattern: re.Pattern[str], wanted: str) -> str | None:
    value = parent.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _invalid(f"{where}.{name}", value, wanted)
    return value


def _items(parent: Mapping[str, Any], where: str, name: str) -> list[Mapping[str, Any]]:
    value = parent.get(name)
    if value is None:
        return []
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, Mapping) for item in value):
        raise _invalid(f"{where}.{name}", value, "a list of objects")
    return list(value)


def _one(controller: str, file: str, value: object, default: str | None = None, joint: str = "") -> Write:
    return Write(controller, ((file, str(value)),), default=default, joint=joint)


def _required(value: int | None, name: str) -> int:
    if value is None:
        raise _invalid(name, None, "an integer")
    return value


def _device(item: Mapping[str, Any], where: str) -> str:
    major = _required(_integer(item, where, "major", 0, 2**32 - 1), f"{where}.major")
    minor = _required(_integer(item, where, "minor", 0, 2**32 - 1), f"{where}.minor")
    return f"{major}:{minor}"


# --- memory


class _Memory(NamedTuple):
    limit: int
    swap: int
    reservation: int
    swappiness: int | None
    disable_oom: bool | None
    use_hierarchy: bool | None


def _memory(resources: Mapping[str, Any]) -> _Memory:
    section = _section(resources, "memory")
    limit = _integer(section, "memory", "limit", -1) or 0
    swap = _integer(section, "memory", "swap", -1) or 0
    swappiness = _integer(section, "memory", "swappiness", 0, 2**64 - 1)
    if swappiness == 2**64 - 1:  # an unsigned -1, how some engines say "unset"
        swappiness = None
    if swappiness is not None and swappiness > 100:
        raise _invalid("memory.swappiness", swappiness, "an integer from 0 to 100")
    return _Memory(
        limit=limit,
        # Nothing to swap within once the memory is unlimited.
        swap=-1 if limit == -1 and not swap else swap,
        reservation=_integer(section, "memory", "reservation", -1) or 0,
        swappiness=swappiness,
        disable_oom=_boolean(section, "memory", "disableOOMKiller"),
        use_hierarchy=_boolean(section, "memory", "useHierarchy"),
    )


def _memory_v1(resources: Mapping[str, Any]) -> Iterator[Write]:
    memory = _memory(resources)
    if memory.swap:
        yield _one("memory", "memory.memsw.limit_in_bytes", memory.swap, "-1", joint="memory")
    if memory.limit:
        yield _one("memory", "memory.limit_in_bytes", memory.limit, "-1", joint="memory")
    if memory.reservation:
        yield _one("memory", "memory.soft_limit_in_bytes", memory.reservation, "-1")
    if memory.swappiness is not None:
        yield _one("memory", "memory.swappiness", memory.swappiness)
    if memory.disable_oom is not None:
        write = _one("memory", "memory.oom_control", int(memory.disable_oom), "0")
        yield write._replace(key="oom_kill_disable", clear="0")
    if memory.use_hierarchy:
        yield _one("memory", "memory.use_hierarchy", 1, "1")


def _memory_v2(resources: Mapping[str, Any]) -> Iterator[Write]:
    memory = _memory(resources)
    if memory.limit:
        yield _one("memory", "memory.max", _or_max(memory.limit), "max")
    if memory.swap == -1:
        yield _one("memory", "memory.swap.max", "max", "max")
    elif memory.swap:
        # The OCI value is memory and swap together; v2 counts swap alone.
        if memory.limit <= 0:
            raise CgroupError(errno.EINVAL, "unable to set swap limit without memory limit")
        if memory.swap < memory.limit:
            raise CgroupError(errno.EINVAL, "memory+swap limit should be >= memory limit")
        swap = memory.swap - memory.limit
        # A kernel without swap has no file: then "no swap" is what there is.
        yield _one("memory", "memory.swap.max", swap)._replace(optional=swap == 0)
    if memory.reservation:
        yield _one("memory", "memory.low", _or_max(memory.reservation), "0")


def _or_max(number: int) -> str:
    return "max" if number < 0 else str(number)


# --- cpu and cpuset


def _cpuset(section: Mapping[str, Any]) -> Iterator[Write]:
    for name in ("cpus", "mems"):
        value = _text(section, "cpu", name, _CPU_LIST, "a list of numbers and ranges")
        if value:
            yield _one("cpuset", f"cpuset.{name}", value)


def _cpu_v1(resources: Mapping[str, Any]) -> Iterator[Write]:
    section = _section(resources, "cpu")
    yield from _cpuset(section)
    if period := _integer(section, "cpu", "realtimePeriod"):
        yield _one("cpu", "cpu.rt_period_us", period, joint="rt")
    if runtime := _integer(section, "cpu", "realtimeRuntime", -1):
        yield _one("cpu", "cpu.rt_runtime_us", runtime, joint="rt")
    if shares := _integer(section, "cpu", "shares"):
        # The kernel would clamp in silence.
        if shares < 2:
            raise CgroupError(errno.EINVAL, "the minimum allowed cpu-shares is 2")
        if shares > 262144:
            raise CgroupError(errno.EINVAL, "the maximum allowed cpu-shares is 262144")
        yield _one("cpu", "cpu.shares", shares, "1024", joint="weight")
    if (idle := _integer(section, "cpu", "idle", 0, 1)) is not None:
        yield _one("cpu", "cpu.idle", idle, "0", joint="weight")
    if period := _integer(section, "cpu", "period"):
        yield _one("cpu", "cpu.cfs_period_us", period, "100000", joint="quota")
    if (burst := _integer(section, "cpu", "burst")) is not None:
        yield _one("cpu", "cpu.cfs_burst_us", burst, "0", joint="quota")
    if quota := _integer(section, "cpu", "quota", -1):
        yield _one("cpu", "cpu.cfs_quota_us", quota, "-1", joint="quota")


def _cpu_v2(resources: Mapping[str, Any]) -> Iterator[Write]:
    section = _section(resources, "cpu")
    yield from _cpuset(section)
    for name, low in (("realtimePeriod", 0), ("realtimeRuntime", -1)):
        if _integer(section, "cpu", name, low):
            raise CgroupError(errno.EOPNOTSUPP, f"cpu.{name} is not supported on cgroup v2")
    idle = _integer(section, "cpu", "idle", 0, 1)
    if idle is not None:
        yield _one("cpu", "cpu.idle", idle, "0", joint="weight")
    shares = _integer(section, "cpu", "shares")
    if shares and idle != 1:  # an idle group has no weight
        yield _one("cpu", "cpu.weight", weight_from_shares(shares), "100", joint="weight")
    quota, period = _integer(section, "cpu", "quota", -1), _integer(section, "cpu", "period")
    burst = _integer(section, "cpu", "burst")
    if quota or period:
        # A quota alone keeps the period. A period alone is to keep the quota, which only the file knows (group.py).
        value = _or_max(quota) if quota else KEEP
        yield _one("cpu", "cpu.max", f"{value} {period}" if period else value, "max", joint="quota")
    if burst is not None:
        yield _one("cpu", "cpu.max.burst", burst, "0", joint="quota")


# --- block devices


def _throttles(section: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """(operation, device, rate) for each throttle asked for."""
    for operation in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS"):
        name = f"throttle{operation}Device"
        for item in _items(section, "blockIO", name):
            rate = _required(_integer(item, f"blockIO.{name}", "rate", 0, 2**64 - 1), f"blockIO.{name}.rate")
            yield operation, _device(item, f"blockIO.{name}"), rate


def _weights(section: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """(device, weight); the device is "" for the group's own weight."""
    if weight := _integer(section, "blockIO", "weight", 0, 1000):
        yield "", weight
    for item in _items(section, "blockIO", "weightDevice"):
        if weight := _integer(item, "blockIO.weightDevice", "weight", 0, 1000):
            yield _device(item, "blockIO.weightDevice"), weight
        if _integer(item, "blockIO.weightDevice", "leafWeight", 0, 1000):
            raise CgroupError(errno.EOPNOTSUPP, "blockIO.weightDevice.leafWeight: Linux has no leaf weights since 5.0")
    if _integer(section, "blockIO", "leafWeight", 0, 1000):
        raise CgroupError(errno.EOPNOTSUPP, "blockIO.leafWeight: Linux has no leaf weights since 5.0")


def _blkio_v1(resources: Mapping[str, Any]) -> Iterator[Write]:
    section = _section(resources, "blockIO")
    for device, weight in _weights(section):
        if device:
            line = f"{device} {weight}"
            choices = ("blkio.weight_device", line), ("blkio.bfq.weight_device", line)
            yield Write("blkio", choices, key=device, clear=f"{device} 0")
        else:
            yield Write("blkio", (("blkio.weight", str(weight)), ("blkio.bfq.weight", str(weight))))
    files = {"ReadBps": "read_bps", "WriteBps": "write_bps", "ReadIOPS": "read_iops", "WriteIOPS": "write_iops"}
    for operation, device, rate in _throttles(section):
        write = _one("blkio", f"blkio.throttle.{files[operation]}_device", f"{device} {rate}")
        yield write._replace(key=device, clear=f"{device} 0")


def _io_v2(resources: Mapping[str, Any]) -> Iterator[Write]:
    section = _section(resources, "blockIO")
    for device, weight in _weights(section):
        # BFQ, where it is loaded, knows v1's range; io.cost has a range of its own, and starts at v1's smallest, 10.
        converted = io_weight_from_blkio(max(weight, 10))
        key = device or "default"
        choices = ("io.bfq.weight", f"{key} {weight}"), ("io.weight", f"{key} {converted}")
        yield Write("io", choices, key=key, clear=f"{device} default" if device else "default 100")
    names = {"ReadBps": "rbps", "WriteBps": "wbps", "ReadIOPS": "riops", "WriteIOPS": "wiops"}
    for operation, device, rate in _throttles(section):
        line = f"{device} {names[operation]}={rate or 'max'}"
        write = _one("io", "io.max", line)
        yield write._replace(key=device, clear=f"{device} rbps=max wbps=max riops=max wiops=max")


# --- the small ones


def _pids(resources: Mapping[str, Any]) -> Iterator[Write]:
    limit = _integer(_section(resources, "pids"), "pids", "limit", -(2**63))
    if limit is not None:
        yield _one("pids", "pids.max", limit if limit > 0 else "max", "max")


def _hugepages(resources: Mapping[str, Any], suffix: str) -> Iterator[Write]:
    for item in _items(resources, "resources", "hugepageLimits"):
        size = _text(item, "hugepageLimits", "pageSize", _PAGE_SIZE, "a size such as 2MB")
        if size is None:
            raise _invalid("hugepageLimits.pageSize", None, "a size such as 2MB")
        limit = _required(_integer(item, "hugepageLimits", "limit", 0, 2**64 - 1), "hugepageLimits.limit")
        yield _one("hugetlb", f"hugetlb.{size}.{suffix}", limit)
        # Reservations count too where the kernel (5.7 and newer) can limit them; they would else fail with SIGBUS only.
        yield _one("hugetlb", f"hugetlb.{size}.rsvd.{suffix}", limit)._replace(optional=True)


def _network_v1(resources: Mapping[str, Any]) -> Iterator[Write]:
    section = _section(resources, "network")
    if class_id := _integer(section, "network", "classID", 0, 2**32 - 1):
        yield _one("net_cls", "net_cls.classid", class_id)
    for item in _items(section, "network", "priorities"):
        name = _text(item, "network.priorities", "name", _WORD, "a network interface's name")
        priority = _required(
            _integer(item, "network.priorities", "priority", 0, 2**32 - 1), "network.priorities.priority"
        )
        if not name:
            raise _invalid("network.priorities.name", name, "a network interface's name")
        write = _one("net_prio", "net_prio.ifpriomap", f"{name} {priority}")
        yield write._replace(key=name, clear=f"{name} 0")


def _rdma(resources: Mapping[str, Any]) -> Iterator[Write]:
    for name, limits in _section(resources, "rdma").items():
        if not isinstance(limits, Mapping) or not _WORD.fullmatch(name):
            raise _invalid(f"rdma.{name:.80}", limits, "an object")
        words = [
            f"{file}={value}"
            for file, field in (("hca_handle", "hcaHandles"), ("hca_object", "hcaObjects"))
            if (value := _integer(limits, f"rdma.{name}", field, 0, 2**32 - 1)) is not None
        ]
        if words:
            write = _one("rdma", "rdma.max", f"{name} {' '.join(words)}")
            yield write._replace(key=name, clear=f"{name} hca_handle=max hca_object=max")


def _unified(resources: Mapping[str, Any]) -> Iterator[Write]:
    for file, value in _section(resources, "unified").items():
        if not isinstance(file, str) or not _WORD.fullmatch(file) or "." not in file:
            raise CgroupError(errno.EINVAL, f"unified resource {file!r:.80} must be a file name (no slashes)")
        if not isinstance(value, str) or "\0" in value or len(value) > 65536:
            raise _invalid(f"unified.{file}", value, "a string")
        # The kernel takes one line of a file of several lines at a time.
        for line in value.splitlines():
            key = line.split(" ")[0] if " " in line or file in {"io.max", "io.weight", "rdma.max"} else ""
            yield _one(file.partition(".")[0], file, line)._replace(key=key if ":" in key else "")


def plan_v1(resources: Mapping[str, Any]) -> list[Write]:
    """The writes for v1, in order; `devices` apart. CgroupError (EINVAL, EOPNOTSUPP) on what no kernel could take."""
    if _section(resources, "unified"):
        raise CgroupError(errno.EINVAL, "invalid configuration: cannot use unified on cgroup v1")
    steps: tuple[Callable[[Mapping[str, Any]], Iterator[Write]], ...] = (
        _memory_v1, _cpu_v1, _pids, _blkio_v1, _network_v1, _rdma,
    )  # fmt: skip
    writes = [write for step in steps for write in step(resources)]
    return writes + list(_hugepages(resources, "limit_in_bytes"))


def plan_v2(resources: Mapping[str, Any]) -> list[Write]:
    """The writes for v2, in order; `devices` apart. CgroupError (EINVAL, EOPNOTSUPP) on what no kernel could take."""
    network = _section(resources, "network")
    if _integer(network, "network", "classID", 0, 2**32 - 1) or _items(network, "network", "priorities"):
        raise CgroupError(errno.EOPNOTSUPP, "network.classID and network.priorities are not supported on cgroup v2")
    steps: tuple[Callable[[Mapping[str, Any]], Iterator[Write]], ...] = (_memory_v2, _cpu_v2, _pids, _io_v2, _rdma)
    writes = [write for step in steps for write in step(resources)]
    return writes + list(_hugepages(resources, "max")) + list(_unified(resources))
