"""The kernel's own control groups: each test on whatever this host offers (v1, v2, hybrid and each half of a hybrid).

The same module runs in a virtual machine with cgroup v2 alone (tests/vm). All groups are below one of our own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from windlass.kernel import bpf, mounts
from windlass.kernel.cgroups import Cgroup, CgroupError, Hierarchy, detect, features, make_room, open_cgroup
from windlass.kernel.cgroups.devices import CONTAINER_RULES
from windlass.kernel.mount_options import MS_PRIVATE
from windlass.kernel.namespaces import CLONE_NEWCGROUP, CLONE_NEWNS, unshare

pytestmark = pytest.mark.root

PARENT = f"/windlass-test-{os.getpid()}"
MIB = 1 << 20


def offered() -> list[str]:
    if os.geteuid() != 0:
        return ["the host's"]
    with detect() as hierarchy:
        return ["the host's"] + (["v1 alone", "v2 alone"] if hierarchy.version == "hybrid" else [])


@pytest.fixture(params=offered())
def hierarchy(request: pytest.FixtureRequest) -> Iterator[Hierarchy]:
    found = detect()
    if request.param == "v1 alone":
        os.close(found.unified.fd)
        found = forget(found, Hierarchy(found.mounts, None))
    elif request.param == "v2 alone":
        for mount in found.mounts:
            os.close(mount.fd)
        found = forget(found, Hierarchy((), found.unified))
    with found:
        yield found
        open_cgroup(PARENT, found).discard()


def forget(whole: Hierarchy, half: Hierarchy) -> Hierarchy:
    """`half` has taken over what it needs of `whole`."""
    whole.mounts, whole.unified = (), None
    return half


@pytest.fixture
def make(hierarchy: Hierarchy) -> Iterator[Callable[..., Cgroup]]:
    made: list[Cgroup] = []

    def make_one(name: str = "x") -> Cgroup:
        group = open_cgroup(f"{PARENT}/{name}", hierarchy)
        group.create()
        made.append(group)
        return group

    yield make_one
    for group in made:
        group.kill()
        group.remove()


@pytest.fixture
def group(make: Callable[..., Cgroup]) -> Cgroup:
    return make()


class Child:
    """A process that does as it is told, one task at a time, and says how it went."""

    def __init__(self, group: Cgroup | None = None) -> None:
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            self._live(theirs, group)
        theirs.close()
        self.socket = ours
        self.answer()

    def _live(self, theirs: socket.socket, group: Cgroup | None) -> None:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if group is not None:
                group.enter()
            held = []
            theirs.send(b"ready")
            while command := theirs.recv(4096).decode():
                word, _, rest = command.partition(" ")
                try:
                    if word == "eat":
                        held.append(bytearray(b"x") * int(rest))
                    elif word == "burn":
                        end = time.process_time() + float(rest)
                        while time.process_time() < end:
                            pass
                    elif word == "open":
                        os.close(os.open(rest, os.O_RDWR))
                    elif word == "fork":
                        for _ in range(int(rest)):
                            if os.fork() == 0:
                                signal.pause()
                    theirs.send(b"done")
                except OSError as error:
                    theirs.send(errno.errorcode[error.errno or 0].encode())
        finally:
            os._exit(1)

    def tell(self, command: str) -> None:
        self.socket.send(command.encode())

    def answer(self) -> str:
        return self.socket.recv(100).decode()

    def ask(self, command: str) -> str:
        self.tell(command)
        return self.answer()

    def answers_within(self, seconds: float) -> bool:
        return bool(select.select([self.socket], [], [], seconds)[0])

    def end(self) -> int:
        """Wait for it; its wait status."""
        self.socket.close()
        with contextlib.suppress(ChildProcessError):
            return os.waitpid(self.pid, 0)[1]
        return -1


@pytest.fixture
def child(group: Cgroup) -> Iterator[Child]:
    one = Child(group)
    yield one
    group.kill()
    one.end()


def needs(hierarchy: Hierarchy, *controllers: str) -> None:
    for controller in controllers:
        if controller not in hierarchy.controllers:
            pytest.skip(f"no controller {controller} in this hierarchy")


def value(group: Cgroup, controller: str, v1: str, v2: str) -> str:
    """What stands in a control file now."""
    paths = group.paths
    path = f"{paths['']}/{v2}" if group.hierarchy.version == "v2" else f"{paths[controller]}/{v1}"
    with open(path) as file:
        return file.read().strip()


def set_value(group: Cgroup, controller: str, v1: str, v2: str, text: str) -> None:
    paths = group.paths
    with open(f"{paths['']}/{v2}" if group.hierarchy.version == "v2" else f"{paths[controller]}/{v1}", "w") as file:
        file.write(text)


LIMIT = ("memory", "memory.limit_in_bytes", "memory.max")
PIDS = ("pids", "pids.max", "pids.max")
QUOTA = ("cpu", "cpu.cfs_quota_us", "cpu.max")


# --- life


def test_a_group_is_made_with_its_parents_and_removed(hierarchy: Hierarchy) -> None:
    group = open_cgroup(f"{PARENT}/a/b", hierarchy)
    assert not group.exists()
    group.create()
    assert group.exists()
    assert all(os.path.isdir(path) for path in group.paths.values())
    assert group.pids() == []
    group.remove()
    assert not any(os.path.exists(path) for path in group.paths.values())
    group.remove()
    assert open_cgroup(f"{PARENT}/a", hierarchy).discard()


def test_an_unused_group_of_the_same_name_is_made_anew(group: Cgroup, hierarchy: Hierarchy) -> None:
    needs(hierarchy, "pids")
    group.apply({"pids": {"limit": 7}})
    again = open_cgroup(group.path, hierarchy)
    assert again.paths == group.paths
    again.create()
    assert value(again, *PIDS) == "max"


def test_a_group_in_use_is_not_taken_over(group: Cgroup, child: Child, hierarchy: Hierarchy) -> None:
    again = open_cgroup(group.path, hierarchy)
    with pytest.raises(CgroupError, match=r"is not empty: 1 process\(es\) found") as caught:
        again.create()
    assert caught.value.errno == errno.EBUSY
    assert group.pids() == [child.pid]


def test_a_parent_is_discarded_only_when_unused(group: Cgroup, hierarchy: Hierarchy) -> None:
    parent = open_cgroup(PARENT, hierarchy)
    assert not parent.discard()
    assert group.exists()
    group.remove()
    assert parent.discard()
    assert not parent.exists()


def test_a_process_enters_by_itself(group: Cgroup, child: Child) -> None:
    assert group.pids() == [child.pid]
    with open(f"/proc/{child.pid}/cgroup") as file:
        members = file.read()
    for controller in group.paths:
        assert any(
            f":{PARENT}/x" in line for line in members.splitlines() if controller in line.split(":")[1].split(",")
        )


def test_a_process_is_added(group: Cgroup) -> None:
    other = Child()
    assert group.pids() == []
    group.add(other.pid)
    assert group.pids() == [other.pid]
    group.kill()
    assert os.WTERMSIG(other.end()) == signal.SIGKILL


def test_adding_a_process_that_is_gone_names_it(group: Cgroup) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(CgroupError, match=f'failed to write "{pid}": write .*/cgroup.procs: no such process') as caught:
        group.add(pid)
    assert caught.value.errno == errno.ESRCH


def test_a_process_is_added_beside_another_where_the_group_itself_can_hold_none(group: Cgroup) -> None:
    if group.hierarchy.version != "v2" or "pids" not in group.hierarchy.controllers:
        pytest.skip("only v2 has groups that can hold no processes")
    inner = open_cgroup(f"{group.path}/init", group.hierarchy)
    first, second = Child(), Child()
    inner.create()
    inner.add(first.pid)
    with open(f"{group.paths['']}/cgroup.subtree_control", "w") as file:
        file.write("+memory")
    with pytest.raises(CgroupError, match="device or resource busy"):
        group.add(second.pid)
    group.add(second.pid, beside=first.pid)
    assert sorted(inner.pids()) == sorted([first.pid, second.pid])
    with pytest.raises(CgroupError, match="is not in"):
        group.add(second.pid, beside=os.getpid())
    group.kill()
    first.end()
    second.end()


def test_processes_of_child_groups_count(group: Cgroup, hierarchy: Hierarchy) -> None:
    inner = open_cgroup(f"{group.path}/inner", hierarchy)
    inner.create()
    child = Child(inner)
    assert group.pids() == [child.pid]
    group.kill()
    child.end()
    group.remove()
    assert not inner.exists()


def test_a_group_with_living_processes_is_not_removed(group: Cgroup, child: Child) -> None:
    with pytest.raises(CgroupError, match=r"rmdir .*: device or resource busy"):
        group.remove(timeout=0.05)
    assert group.exists()


def test_removal_waits_for_the_last_process(group: Cgroup, child: Child) -> None:
    group.kill()  # not yet reaped, perhaps not yet dead
    group.remove()
    assert not group.exists()


def test_a_failed_creation_leaves_nothing(hierarchy: Hierarchy, group: Cgroup) -> None:
    child = Child()
    last = list(group.paths.values())[-1]
    group.add(child.pid)
    other = open_cgroup(f"{PARENT}/y", hierarchy)
    blocked = last.removesuffix("/x") + "/y"
    os.mkdir(blocked)
    if "cpuset" in blocked:
        pytest.skip("an unfilled cpuset takes no process")
    with open(f"{blocked}/cgroup.procs", "w") as file:
        file.write(str(child.pid))
    try:
        with pytest.raises(CgroupError, match="is not empty"):
            other.create()
        assert [path for path in other.paths.values() if os.path.exists(path)] == [blocked]
    finally:
        with open(f"{last}/cgroup.procs", "w") as file:
            file.write(str(child.pid))
        os.rmdir(blocked)
        group.kill()
        child.end()


def test_an_engine_in_a_container_makes_room_for_groups(hierarchy: Hierarchy, make: Callable[..., Cgroup]) -> None:
    """What looks like the root in a cgroup namespace is none, and its processes are in the way of limits below it."""
    if hierarchy.version != "v2":
        pytest.skip("v1 has no such rule")
    outer = make("outer")
    pid = os.fork()
    if pid == 0:
        try:
            outer.enter()
            unshare(CLONE_NEWNS | CLONE_NEWCGROUP)
            mounts.set_attributes(os.open("/", os.O_PATH), propagation=MS_PRIVATE, recursive=True)
            top = hierarchy.unified.path if hierarchy.unified else ""
            mounts.mount_all([mounts.Mount("cgroup2", "cgroup", ())], top)
            membership, mountinfo = "0::/\n", f"30 23 0:26 / {top} rw - cgroup2 cgroup2 rw\n"
            with detect(mountinfo=mountinfo, membership=membership) as inner:
                with pytest.raises(
                    CgroupError, match="processes in the group itself keep it from passing controllers on"
                ):
                    open_cgroup("/x", inner).create()
                assert make_room(inner)
                assert not make_room(inner)
                group = open_cgroup("/x", inner)
                group.create()
                assert open_cgroup("/init", inner).pids() == [os.getpid()]
                group.remove()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_hierarchy_that_nobody_uses_is_closed() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for _ in range(5):
        assert not open_cgroup(f"{PARENT}/never").exists()
    assert count() == before


# --- freezer and kill


def test_freeze_and_thaw(group: Cgroup, child: Child) -> None:
    assert not group.frozen()
    group.freeze()
    assert group.frozen()
    child.tell("burn 0")
    assert not child.answers_within(0.05)
    group.thaw()
    assert not group.frozen()
    assert child.answer() == "done"


def test_an_empty_group_freezes_at_once(group: Cgroup) -> None:
    group.freeze()
    assert group.frozen()
    group.thaw()


def test_freezing_twice_and_thawing_twice_is_no_error(group: Cgroup, child: Child) -> None:
    group.freeze()
    group.freeze()
    group.thaw()
    group.thaw()
    assert child.ask("burn 0") == "done"


def test_kill_reaches_a_frozen_group_and_all_that_it_forked(group: Cgroup, child: Child) -> None:
    assert child.ask("fork 5") == "done"
    assert len(group.pids()) == 6
    group.freeze()
    group.kill()
    assert os.WTERMSIG(child.end()) == signal.SIGKILL
    group.remove()


def test_kill_beats_a_process_that_forks_without_end(group: Cgroup, hierarchy: Hierarchy) -> None:
    pid = os.fork()
    if pid == 0:
        group.enter()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            with contextlib.suppress(OSError):
                if os.fork():
                    os._exit(0)  # the child goes on: never the same process for long
    os.waitpid(pid, 0)
    assert group.pids()
    group.kill()
    group.remove()
    assert not group.exists()


def test_a_group_that_is_gone_can_be_killed(hierarchy: Hierarchy) -> None:
    open_cgroup(f"{PARENT}/never", hierarchy).kill()


# --- limits


def test_every_kind_of_limit_at_once(group: Cgroup, hierarchy: Hierarchy) -> None:
    needs(hierarchy, "memory", "cpu", "cpuset", "pids")
    cpus = sorted(os.sched_getaffinity(0))
    group.apply(
        {
            "memory": {"limit": 64 * MIB, "swap": 64 * MIB, "reservation": 32 * MIB},
            "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": str(cpus[0]), "mems": "0"},
            "pids": {"limit": 50},
        }
    )
    assert value(group, *LIMIT) == str(64 * MIB)
    assert value(group, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(32 * MIB)
    assert value(group, *PIDS) == "50"
    assert value(group, "cpu", "cpu.shares", "cpu.weight") in {"512", "59"}
    assert value(group, *QUOTA) in {"50000", "50000 100000"}
    assert value(group, "cpuset", "cpuset.cpus", "cpuset.cpus") == str(cpus[0])
    child = Child(group)
    assert os.sched_getaffinity(child.pid) == {cpus[0]}
    group.kill()
    child.end()


def test_memory_and_swap_grow_and_shrink_in_any_order(group: Cgroup, hierarchy: Hierarchy) -> None:
    needs(hierarchy, "memory")
    for limit, swap in ((64, 128), (512, 1024), (16, 32), (16, 16), (1024, 1024), (-1, -1), (32, -1), (32, 64)):
        memory = {"limit": limit * MIB if limit > 0 else -1, "swap": swap * MIB if swap > 0 else -1}
        group.apply({"memory": memory})
        assert value(group, *LIMIT) in {str(limit * MIB), "max", "9223372036854771712"}
        assert group.stats().memory.limit == (limit * MIB if limit > 0 else None)


def test_quota_and_period_change_in_any_order(make: Callable[..., Cgroup], hierarchy: Hierarchy) -> None:
    """The parent's ratio bounds the child's at each step, not only in the end."""
    needs(hierarchy, "cpu")
    parent, child = make("p"), make("p/c")
    parent.apply({"cpu": {"quota": 50000, "period": 100000}})
    for quota, period in ((50000, 100000), (5000, 10000), (100000, 200000), (10000, 20000)):
        child.apply({"cpu": {"quota": quota, "period": period}})
        assert value(child, *QUOTA) in {str(quota), f"{quota} {period}"}
    child.remove()


def test_a_period_alone_keeps_the_quota(group: Cgroup, hierarchy: Hierarchy) -> None:
    needs(hierarchy, "cpu")
    group.apply({"cpu": {"quota": 30000, "period": 100000}})
    group.apply({"cpu": {"period": 50000}})
    assert value(group, *QUOTA) in {"30000", "30000 50000"}
    group.apply({"cpu": {"quota": -1}})
    assert value(group, *QUOTA) in {"-1", "max 50000"}


def test_what_is_refused_changes_nothing(group: Cgroup, hierarchy: Hierarchy) -> None:
    needs(hierarchy, "memory", "cpu", "pids", "cpuset")
    group.apply({"memory": {"limit": 64 * MIB}, "pids": {"limit": 50}, "cpu": {"quota": 50000}})
    before = [value(group, *file) for file in (LIMIT, PIDS, QUOTA)]
    with pytest.raises(CgroupError, match=r'failed to write "8000": write .*cpuset.cpus: ') as caught:
        group.apply({"memory": {"limit": 32 * MIB}, "cpu": {"quota": 20000, "cpus": "8000"}, "pids": {"limit": 5}})
    assert caught.value.value == "8000"
    assert str(caught.value.filename).endswith("/cpuset.cpus")
    assert [value(group, *file) for file in (LIMIT, PIDS, QUOTA)] == before


def test_refused_device_rules_take_the_limits_back(group: Cgroup, hierarchy: Hierarchy) -> None:
    needs(hierarchy, "pids", "devices" if hierarchy.version != "v2" else "pids")
    group.apply({"pids": {"limit": 50}})
    hole = [{"allow": True, "type": "c", "major": 1}, {"allow": False, "type": "c", "major": 1, "minor": 3}]
    if hierarchy.version == "v2":
        hole = [{"allow": True, "type": "c", "major": "one"}]
    with pytest.raises(CgroupError, match="invalid resources"):
        group.apply({"pids": {"limit": 5}, "devices": hole})
    assert value(group, *PIDS) == "50"


def test_a_limit_of_a_controller_that_is_not_there(hierarchy: Hierarchy, group: Cgroup) -> None:
    if "rdma" in hierarchy.controllers:
        pytest.skip("this host has the controller")
    with pytest.raises(CgroupError, match=r'failed to write "mlx hca_handle=1" to rdma.max: cgroup controller rdma'):
        group.apply({"rdma": {"mlx": {"hcaHandles": 1}}})


def test_settings_that_say_nothing_need_no_controller(group: Cgroup) -> None:
    group.apply({"memory": {"disableOOMKiller": False}, "pids": {"limit": 0}, "cpu": {"shares": 0}, "blockIO": {}})


def test_the_pids_limit_holds(group: Cgroup, hierarchy: Hierarchy, child: Child) -> None:
    needs(hierarchy, "pids")
    group.apply({"pids": {"limit": 3}})
    assert child.ask("fork 10") == "EAGAIN"
    assert group.stats().pids == (3, 3)


def test_block_devices_are_throttled_and_set_free(group: Cgroup, hierarchy: Hierarchy) -> None:
    needs(hierarchy, "io" if hierarchy.version == "v2" else "blkio")
    device = next((name for name in sorted(os.listdir("/sys/block")) if name.startswith(("vd", "sd", "loop"))), None)
    if device is None:
        pytest.skip("no block device")
    with open(f"/sys/block/{device}/dev") as file:
        major, minor = map(int, file.read().split(":"))

    def throttle(rate: int) -> dict[str, Any]:
        return {"blockIO": {"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": rate}]}}

    file = ("blkio", "blkio.throttle.read_bps_device", "io.max")
    group.apply(throttle(MIB))
    assert value(group, *file).startswith(f"{major}:{minor} ")
    assert str(MIB) in value(group, *file)
    group.apply(throttle(0))
    assert value(group, *file) == ""


def test_a_refused_throttle_is_taken_back(group: Cgroup, hierarchy: Hierarchy) -> None:
    needs(hierarchy, "io" if hierarchy.version == "v2" else "blkio", "pids")
    group.apply({"pids": {"limit": 50}})
    with pytest.raises(CgroupError, match=r'failed to write "4095:1048575 '):
        group.apply(
            {
                "pids": {"limit": 5},
                "blockIO": {"throttleReadBpsDevice": [{"major": 4095, "minor": 1048575, "rate": 1}]},
            }
        )
    assert value(group, *PIDS) == "50"


def test_unified_settings(group: Cgroup, hierarchy: Hierarchy) -> None:
    if hierarchy.version != "v2":
        with pytest.raises(CgroupError, match="cannot use unified on cgroup v1"):
            group.apply({"unified": {"memory.high": "1"}})
        return
    needs(hierarchy, "memory")
    group.apply({"unified": {"memory.high": str(16 * MIB), "cgroup.max.descendants": "5"}})
    assert value(group, "", "", "memory.high") == str(16 * MIB)
    assert value(group, "", "", "cgroup.max.descendants") == "5"
    with pytest.raises(CgroupError, match="no such file or directory"):
        group.apply({"unified": {"memory.nonsense": "1", "memory.high": "1"}})
    assert value(group, "", "", "memory.high") == str(16 * MIB)


def test_a_limit_below_the_usage_is_refused_where_asked(group: Cgroup, hierarchy: Hierarchy, child: Child) -> None:
    needs(hierarchy, "memory")
    group.apply({"memory": {"limit": 64 * MIB}})
    assert child.ask(f"eat {32 * MIB}") == "done"
    with pytest.raises(CgroupError, match=r"device or resource busy|unable to set memory limit"):
        group.apply({"memory": {"limit": 8 * MIB, "checkBeforeUpdate": True}})
    assert value(group, *LIMIT) == str(64 * MIB)
    assert child.ask("burn 0") == "done"


# --- out of memory


def test_an_oom_kill_is_counted_and_announced(group: Cgroup, hierarchy: Hierarchy, child: Child) -> None:
    needs(hierarchy, "memory")
    group.apply({"memory": {"limit": 16 * MIB, "swap": 16 * MIB}})
    event = group.oom_event_fd()
    assert event is not None
    try:
        assert group.oom_kill_count() == 0
        assert not select.select([event], [], [], 0)[0]
        child.tell(f"eat {64 * MIB}")
        assert os.WTERMSIG(child.end()) == signal.SIGKILL
        assert select.select([event], [], [], 10)[0]
        assert os.read(event, 4096)
        assert group.oom_kill_count() == 1
    finally:
        os.close(event)


def test_counting_where_the_group_is_gone(hierarchy: Hierarchy) -> None:
    assert open_cgroup(f"{PARENT}/never", hierarchy).oom_kill_count() == 0


# --- devices

RULES = [{"allow": False, "access": "rwm"}] + [
    {"allow": rule.allow, "type": rule.type, "major": rule.major, "minor": rule.minor, "access": rule.access}
    for rule in CONTAINER_RULES
]


def denied(*numbers: int) -> dict[str, Any]:
    return {"allow": False, "type": "c", "major": numbers[0], "minor": numbers[1], "access": "rw"}


def device_host(hierarchy: Hierarchy) -> None:
    if hierarchy.version != "v2":
        needs(hierarchy, "devices")


def test_only_allowed_devices_open(group: Cgroup, hierarchy: Hierarchy, child: Child) -> None:
    device_host(hierarchy)
    assert child.ask("open /dev/kmsg") == "done"
    group.apply({"devices": RULES})
    assert child.ask("open /dev/null") == "done"
    assert child.ask("open /dev/kmsg") == "EPERM"


def test_device_rules_are_replaced(group: Cgroup, hierarchy: Hierarchy, child: Child) -> None:
    device_host(hierarchy)
    group.apply({"devices": RULES})
    group.apply({"devices": [*RULES, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"}]})
    assert child.ask("open /dev/kmsg") == "done"
    group.apply({"devices": [*RULES, denied(1, 3)]})
    assert child.ask("open /dev/kmsg") == "EPERM"
    assert child.ask("open /dev/null") == "EPERM"
    group.apply({"devices": [{"allow": True}]})
    assert child.ask("open /dev/kmsg") == "done"
    if hierarchy.version == "v2":
        fd = group.fd()
        assert fd is not None
        assert len(bpf.attached_device_programs(fd)) == 1
        os.close(fd)


def test_several_programs_become_one(group: Cgroup, hierarchy: Hierarchy, child: Child) -> None:
    fd = group.fd()
    if fd is None:
        pytest.skip("v1 has files instead")
    try:
        deny = bpf.device_program([])
        for _ in range(2):
            program = bpf.load_device_program(deny)
            bpf._attach(fd, program)
            os.close(program)
        assert len(bpf.attached_device_programs(fd)) == 2
        assert child.ask("open /dev/null") == "EPERM"
        bpf.set_device_program(fd, bpf.device_program([bpf.DeviceMatch(True, None, None, None, 7)]))
        assert len(bpf.attached_device_programs(fd)) == 1
        assert child.ask("open /dev/null") == "done"
        bpf.set_device_program(fd, None)
        assert bpf.attached_device_programs(fd) == []
    finally:
        os.close(fd)


def test_a_broken_program_is_refused_with_the_verifiers_words() -> None:
    with pytest.raises(OSError, match="the device program was refused"):
        bpf.load_device_program(bpf.instruction(0x95))


# --- figures


def test_figures_of_a_group_at_work(group: Cgroup, hierarchy: Hierarchy, child: Child) -> None:
    needs(hierarchy, "memory", "pids", "cpu")
    group.apply({"memory": {"limit": 64 * MIB}, "pids": {"limit": 50}, "cpu": {"quota": 20000, "period": 100000}})
    assert child.ask(f"eat {8 * MIB}") == "done"
    assert child.ask("burn 0.2") == "done"
    stats = group.stats()
    assert 0.15e9 <= stats.cpu.total_ns < 5e9  # a tick's time may not be charged yet
    assert abs(stats.cpu.total_ns - stats.cpu.user_ns - stats.cpu.system_ns) <= 2_000_000
    assert stats.cpu.periods > 0
    assert stats.cpu.throttled_periods > 0
    assert stats.cpu.throttled_ns > 0
    assert 8 * MIB <= stats.memory.usage <= 64 * MIB
    assert stats.memory.limit == 64 * MIB
    assert stats.memory.max_usage is None or stats.memory.max_usage >= 8 * MIB
    assert stats.memory.stat["anon" if hierarchy.version == "v2" else "total_rss"] >= 8 * MIB
    assert stats.pids == (1, 50)
    if hierarchy.version != "v2":
        assert sum(stats.cpu.per_cpu_ns) == stats.cpu.total_ns


def test_figures_without_controllers_or_group_are_zero(hierarchy: Hierarchy) -> None:
    stats = open_cgroup(f"{PARENT}/never", hierarchy).stats()
    assert stats.cpu.total_ns == 0
    assert stats.memory.limit is None
    assert stats.blkio.service_bytes == ()


def test_features_agree_with_the_controllers(hierarchy: Hierarchy) -> None:
    found = features(hierarchy, f"{PARENT}/probe")
    assert found.memory_limit == ("memory" in hierarchy.controllers)
    assert found.pids_limit == ("pids" in hierarchy.controllers)
    assert found.cpuset == ("cpuset" in hierarchy.controllers)
    if found.cpuset:
        assert os.sched_getaffinity(0) <= found.cpus
