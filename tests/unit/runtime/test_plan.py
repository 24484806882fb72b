"""The plan: which steps a configuration becomes, and that the order in which escapes live is never another.

Each invariant stands for a known escape from a container; the live half of each is in tests/acceptance/test_escapes.py.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.containers import docker_config
from windlass.kernel.capabilities import parse_caps
from windlass.kernel.mount_options import MOUNT_ATTR_RDONLY, MS_PRIVATE, MS_SHARED, MS_SLAVE
from windlass.runtime import plan
from windlass.runtime.plan import steps
from windlass.runtime.wire import LaunchFailure

Change = Callable[[dict[str, Any]], None]


def planned(change: Change | None = None, **more: Any) -> plan.Plan:
    config = docker_config(["true"])
    if change is not None:
        change(config)
    return plan.plan_container(config, **more)


def positions(made: plan.Plan, *kinds: type) -> list[int]:
    return [position for position, step in enumerate(made) if isinstance(step, kinds)]


def only(made: plan.Plan, kind: type) -> Any:
    found = [step for step in made if isinstance(step, kind)]
    assert len(found) == 1, f"{kind.__name__}: {found}"
    return found[0]


def terminal(config: dict[str, Any]) -> None:
    config["process"]["terminal"] = True


def no_new_privileges(config: dict[str, Any]) -> None:
    config["process"]["noNewPrivileges"] = True


def readonly(config: dict[str, Any]) -> None:
    config["root"]["readonly"] = True


def remapped(config: dict[str, Any]) -> None:
    config["linux"]["namespaces"].append({"type": "user"})
    for key in ("uidMappings", "gidMappings"):
        config["linux"][key] = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def joined(config: dict[str, Any]) -> None:
    config["linux"]["namespaces"] += [
        {"type": "network", "path": "/run/netns/x"},
        {"type": "time"},
    ]


def limited(config: dict[str, Any]) -> None:
    config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2048}]
    config["linux"]["sysctl"] = {"kernel.shmmax": "4096", "fs.mqueue.msg_max": "20"}
    config["process"]["apparmorProfile"] = "docker-default"
    config["hooks"] = {name: [{"path": "/h"}] for name in ("createRuntime", "createContainer", "startContainer")}


VARIANTS: list[Change] = [
    lambda config: None, terminal, no_new_privileges, readonly, remapped, joined, limited,
]  # fmt: skip
every_variant = pytest.mark.parametrize("change", VARIANTS)


@every_variant
def test_everything_of_the_host_is_used_before_the_pivot_and_nothing_after_it(change: Change) -> None:
    made = planned(change)
    pivot = positions(made, steps.PivotRoot)
    assert len(pivot) == 1
    host = (
        steps.SetOomScore, steps.JoinNamespace, steps.Unshare, steps.SetTimeOffsets, steps.EnterCgroup,
        steps.WriteSysctls, steps.AttachRoot, steps.MountFilesystem, steps.BindMount, steps.MountCgroups,
        steps.MakeDevices, steps.MakeLinks, steps.OpenConsole, steps.MaskPath, steps.MakeReadonly,
    )  # fmt: skip
    assert max(positions(made, *host)) < pivot[0]


@every_variant
def test_the_tree_is_cut_off_from_the_host_s_before_anything_is_mounted(change: Change) -> None:
    made = planned(change)
    cut = positions(made, steps.SetPropagation)[0]
    assert cut < min(positions(made, steps.AttachRoot, steps.MountFilesystem, steps.MountCgroups))
    assert only(made, steps.SetPropagation).flag in {MS_SLAVE, MS_PRIVATE}


@every_variant
def test_capabilities_go_in_the_order_bounding_user_sets(change: Change) -> None:
    made = planned(change)
    bounding, user, sets = (
        positions(made, kind)[0] for kind in (steps.DropBounding, steps.SetUser, steps.SetCapabilities)
    )
    assert bounding < user < sets


@every_variant
def test_every_descriptor_is_closed_and_the_directory_proven_just_before_the_program(change: Change) -> None:
    # CVE-2024-21626: a leaked descriptor of a host directory, and a working directory that leads through it.
    made = planned(change)
    checked, closed = positions(made, steps.CheckDirectory)[0], positions(made, steps.CloseDescriptors)[0]
    assert positions(made, steps.PivotRoot)[0] < checked < closed
    assert isinstance(made[-1], steps.Execute)
    assert all(isinstance(step, steps.LoadSeccomp) for step in made[closed + 1 : -1])
    assert only(made, steps.CloseDescriptors).first == 3


@every_variant
def test_labels_and_parameters_are_written_before_the_image_is_root_or_through_a_descriptor_held_since(
    change: Change,
) -> None:
    # CVE-2019-16884, CVE-2023-27561, CVE-2025-52881.
    made = planned(change)
    for position in positions(made, steps.WriteSysctls, steps.SetOomScore):
        assert position < positions(made, steps.AttachRoot)[0]
    for position in positions(made, steps.SetExecLabel):
        assert position < positions(made, steps.SetNoNewPrivileges, steps.LoadSeccomp)[0]


@every_variant
def test_masks_cover_mounts_that_are_complete(change: Change) -> None:
    made = planned(change)
    mounted = max(positions(made, steps.MountFilesystem, steps.MountCgroups, steps.BindMount, steps.OpenConsole))
    assert mounted < min(positions(made, steps.MaskPath, steps.MakeReadonly))


@every_variant
def test_the_root_becomes_read_only_when_nothing_has_to_be_made_in_it_any_more(change: Change) -> None:
    made = planned(change)
    for position in positions(made, steps.MakeRootReadonly):
        assert position > max(positions(made, steps.MakeWorkingDirectory, steps.MakeDevices, steps.PivotRoot))
    assert bool(positions(made, steps.MakeRootReadonly)) == (change is readonly)


def test_the_cgroup_is_entered_before_its_namespace_is_made() -> None:
    made = planned()
    entered = positions(made, steps.EnterCgroup)[0]
    assert [step.kinds for step in made[entered:] if isinstance(step, steps.Unshare)] == [("cgroup",)]


def test_without_no_new_privs_the_filter_comes_while_we_may_install_it_and_with_it_at_the_very_end() -> None:
    made = planned()
    assert positions(made, steps.LoadSeccomp)[0] < positions(made, steps.DropBounding)[0]
    made = planned(no_new_privileges)
    assert positions(made, steps.SetNoNewPrivileges)[0] < positions(made, steps.SetUser)[0]
    assert positions(made, steps.LoadSeccomp) == [len(made) - 2]
    assert positions(made, steps.FindProgram)[0] < len(made) - 2


def test_limits_come_after_hooks_and_before_the_rights_to_raise_them_go() -> None:
    made = planned(limited)
    limit = positions(made, steps.SetRlimit)[0]
    assert max(positions(made, steps.RunHooks)) < limit < positions(made, steps.SetUser)[0]


@pytest.mark.parametrize("inheritable", [[], ["CAP_CHOWN"], ["CAP_CHOWN", "CAP_KILL"]])
@pytest.mark.parametrize("ambient", [[], ["CAP_KILL"]])
def test_no_capability_is_inheritable_but_for_ambient_ones(inheritable: list[str], ambient: list[str]) -> None:
    # CVE-2022-29162, CVE-2022-27650, CVE-2022-24769.
    def change(config: dict[str, Any]) -> None:
        config["process"]["capabilities"] |= {"inheritable": inheritable, "ambient": ambient}

    step = only(planned(change), steps.SetCapabilities)
    assert step.inheritable & ~parse_caps(ambient) == 0
    assert step.ambient == parse_caps(ambient)


@pytest.mark.parametrize("value", [-1, 2**32 - 1, 2**32, 2**63, "0", 1.0, True])
@pytest.mark.parametrize("key", ["uid", "gid", "additionalGids"])
def test_an_identity_that_is_none_is_refused(key: str, value: Any) -> None:
    # CVE-2024-40635, CVE-2026-30892: beyond the range, root is what comes out.
    def change(config: dict[str, Any]) -> None:
        config["process"]["user"][key] = [value] if key == "additionalGids" else value

    with pytest.raises(LaunchFailure, match="range"):
        planned(change)
    config = docker_config(["true"])
    change(config)
    with pytest.raises(LaunchFailure, match="range"):
        plan.plan_exec(config["process"], {})


@pytest.mark.parametrize("value", [0, 1, 65534, 2**31, 2**32 - 2])
def test_every_identity_in_the_range_is_taken_as_it_is(value: int) -> None:
    made = planned(lambda config: config["process"]["user"].update(uid=value, gid=value))
    assert (only(made, steps.SetUser).uid, only(made, steps.SetUser).gid) == (value, value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"destination": "/proc/sys", "type": "tmpfs", "source": "x"}, "inside /proc"),
        ({"destination": "/proc//./self/../1", "type": "bind", "source": "/x", "options": ["bind"]}, "inside /proc"),
        ({"destination": "/x/../proc", "type": "bind", "source": "/x", "options": ["bind"]}, "not of type proc"),
        ({"destination": "/proc", "type": "tmpfs", "source": "x"}, "not of type proc"),
        ({"destination": "/proc", "type": "sysfs", "source": "x"}, "not of type proc"),
        ({"destination": "/", "type": "tmpfs", "source": "x"}, "cover the root"),
        ({"destination": "/a/..", "type": "tmpfs", "source": "x"}, "cover the root"),
        ({"destination": "", "type": "tmpfs"}, "no destination"),
        ({"destination": "/x"}, "no type"),
        ({"destination": "/x", "type": "bind", "source": "/y", "uidMappings": [
            {"containerID": 0, "hostID": 1, "size": 1}]}, "both"),
        ({"destination": "/x", "type": "bind", "source": "/y", "options": ["idmap"]}, "idmap"),
    ],
)  # fmt: skip
def test_a_mount_that_would_replace_what_the_kernel_says_is_refused(entry: dict[str, Any], words: str) -> None:
    # CVE-2019-16884, CVE-2019-19921, CVE-2023-28642.
    with pytest.raises(LaunchFailure, match=words):
        planned(lambda config: config["mounts"].append(entry))


def test_files_of_numbers_in_proc_may_be_bound_over() -> None:
    entry = {"destination": "/proc/meminfo", "type": "bind", "source": "/x", "options": ["bind"]}
    assert any(isinstance(s, steps.BindMount) for s in planned(lambda config: config["mounts"].append(entry)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kernel.core_pattern", "not in a separate kernel namespace"),
        ("kernel/core_pattern", "not in a separate kernel namespace"),
        ("vm.overcommit_memory", "not in a separate"),
        ("net.ipv4.ip_forward", "host network"),
        ("net/ipv4/ip_forward", "host network"),
        ("kernel.hostname", "hostname"),
        ("fs.file-max", "not in a separate"),
        ("fs.mqueue./../file-max", "not a valid name|not in a separate"),
        ("fs.mqueue...file-max", "not a valid name"),
        ("net/../kernel/core_pattern", "not a valid name"),
        ("kernel.shmmax/../core_pattern", "not a valid name|not in a separate"),
        ("", "not a valid name"),
        ("kernel.shmmax\0", "not a valid name|not in a separate"),
    ],
)
def test_a_kernel_parameter_of_the_host_is_refused(name: str, words: str) -> None:
    with pytest.raises(LaunchFailure, match=words):
        planned(lambda config: config["linux"].update(sysctl={name: "1"}))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("kernel.shmmax", "kernel/shmmax"),
        ("kernel/shmmax", "kernel/shmmax"),
        ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
        ("net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"),
        ("net/ipv4/conf/eth0.100/forwarding", "net/ipv4/conf/eth0.100/forwarding"),
    ],
)
def test_a_kernel_parameter_is_a_path_with_dots_or_slashes(name: str, path: str) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "network"})
        config["linux"]["sysctl"] = {name: "1"}

    assert only(planned(change), steps.WriteSysctls).values == ((path, "1"),)


NAME_PARTS = st.sampled_from(["net", "kernel", "..", ".", "", "shmmax", "ipv4", "fs", "mqueue", "a/b"])


@given(st.text(max_size=40) | st.lists(NAME_PARTS, max_size=6).map(".".join) | st.lists(NAME_PARTS).map("/".join))
def test_no_name_of_a_parameter_leads_out_of_the_namespaces_directories(name: str) -> None:
    config = docker_config(["true"])
    config["linux"]["namespaces"].append({"type": "network"})
    config["linux"]["sysctl"] = {name: "1"}
    try:
        ((path, _),) = only(plan.plan_container(config), steps.WriteSysctls).values
    except LaunchFailure:
        return
    parts = path.split("/")
    assert ".." not in parts and "." not in parts and "" not in parts
    assert parts[0] == "net" or parts[:2] == ["fs", "mqueue"] or (parts[0] == "kernel" and len(parts) == 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["linux"]["namespaces"].append({"type": "pid"}), "duplicated"),
        (lambda c: c["linux"]["namespaces"].append({"type": "moon"}), "unknown namespace"),
        (lambda c: c["linux"]["namespaces"].pop(0), "mount namespace of its own"),
        (lambda c: c["linux"]["namespaces"][0].update(path="/proc/1/ns/mnt"), "mount namespace of its own"),
        (lambda c: c["linux"]["namespaces"].pop(1), "UTS namespace"),
        (lambda c: c["root"].update(path=""), "root.path"),
        (lambda c: c["process"].update(args=[]), "args"),
        (lambda c: c["process"].update(cwd="x"), "absolute"),
        (lambda c: c["linux"].update(uidMappings=[{"containerID": 0, "hostID": 1, "size": 1}]), "user namespace"),
        (lambda c: c["linux"]["namespaces"].append({"type": "user"}), "no uid mappings"),
        (lambda c: c["linux"].update(timeOffsets={"boottime": {"secs": 1}}), "time namespace"),
        (lambda c: c["linux"].update(rootfsPropagation="sideways"), "sideways"),
        (lambda c: c["linux"].update(intelRdt={"closID": "x"}), "intelRdt"),
        (lambda c: c["process"].update(rlimits=[{"type": "RLIMIT_LUCK", "soft": 1, "hard": 1}]), "RLIMIT_LUCK"),
        (lambda c: c["process"]["capabilities"].update(bounding=["CAP_FLY"]), "CAP_FLY"),
        (lambda c: c["process"].update(scheduler={"policy": "SCHED_LUCK"}), "SCHED_LUCK"),
        (lambda c: c["linux"]["seccomp"].update(flags=["NO_SUCH"]), "NO_SUCH"),
        (lambda c: c["linux"]["devices"].append({"path": "/dev/x", "type": "z"}), "cannot be made"),
        (lambda c: c["linux"]["devices"].append({"path": "/", "type": "c"}), "cannot be made"),
        (lambda c: c["process"]["user"].update(umask=0o1000), "umask"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(change: Change, words: str) -> None:
    with pytest.raises(LaunchFailure, match=words) as caught:
        planned(change)
    assert caught.value.stage == "config"


def test_a_bind_is_a_slave_of_the_host_s_unless_it_says_otherwise() -> None:
    def bind(*options: str) -> Change:
        entry = {"destination": "/x", "type": "bind", "source": "/y", "options": ["rbind", *options]}
        return lambda config: config["mounts"].append(entry)

    def propagations(change: Change) -> Any:
        return only(planned(change), steps.BindMount).options.propagations

    assert propagations(bind()) == ((MS_SLAVE, True),)
    assert propagations(bind("rprivate")) == ((MS_PRIVATE, True),)
    assert propagations(bind("rshared")) == ((MS_SHARED, True),)


def test_a_shared_root_is_still_cut_off_from_the_host_s_tree() -> None:
    made = planned(lambda config: config["linux"].update(rootfsPropagation="rshared"))
    assert only(made, steps.SetPropagation).flag == MS_SLAVE
    assert only(made, steps.SetRootPropagation) == steps.SetRootPropagation(MS_SHARED, True)
    assert positions(made, steps.SetRootPropagation)[0] > positions(made, steps.PivotRoot)[0]


def test_read_only_binds_are_read_only_with_all_below_where_asked() -> None:
    entry = {"destination": "/x", "type": "bind", "source": "/y", "options": ["rbind", "rro"]}
    options = only(planned(lambda config: config["mounts"].append(entry)), steps.BindMount).options
    assert options.recursive_set == MOUNT_ATTR_RDONLY
    assert options.recursive_bind


def test_nothing_is_made_in_a_dev_of_the_host() -> None:
    def change(config: dict[str, Any]) -> None:
        config["mounts"] = [{"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}]

    assert not positions(planned(change), steps.MakeDevices, steps.MakeLinks)


def test_a_later_device_of_the_same_path_replaces_the_default() -> None:
    entry = {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 5, "gid": 6}
    step = only(planned(lambda config: config["linux"]["devices"].append(entry)), steps.MakeDevices)
    assert [device for device in step.devices if device.name == "null"] == [
        steps.Device("null", "c", 1, 3, 0o600, 5, 6)
    ]


def test_a_gate_stands_before_the_start_hooks_and_the_program() -> None:
    made = planned(limited, gate=True)
    waits = positions(made, steps.WaitForStart)[0]
    assert positions(made, steps.PivotRoot)[0] < waits < positions(made, steps.RunHooks)[-1] < len(made) - 1


def test_the_path_variable_that_counts_is_the_last() -> None:
    made = planned(lambda config: config["process"].update(env=["PATH=/a", "X", "PATH=/b"]))
    assert only(made, steps.FindProgram).path == "/b"


def test_a_further_process_writes_to_the_host_s_files_before_it_enters() -> None:
    document = docker_config(["true"])["process"] | {
        "oomScoreAdj": 5,
        "execCPUAffinity": {"initial": "0-1", "final": "1"},
    }
    outside, inside = plan.plan_exec(document, {})
    assert outside == (
        steps.SetAffinity(frozenset({0, 1})),
        steps.SetOomScore(5),
        steps.EnterCgroup(),
        steps.SetAffinity(frozenset({1})),
    )
    assert isinstance(inside[-1], steps.Execute)
    assert not positions(inside, steps.PivotRoot, steps.SetOomScore, steps.EnterCgroup)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**33) | st.sampled_from(["", "/", "x", "/proc", "..", "bind"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "path", "uid", "destination"]), inner, max_size=2)
    ),
    max_leaves=4,
)
PLACES = st.sampled_from(
    [
        (), ("process",), ("linux",), ("root",), ("process", "user"), ("process", "capabilities"), ("linux", "seccomp"),
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(PLACES, JSON, st.data())
def test_any_configuration_is_a_plan_or_a_launch_failure_and_is_not_changed(
    place: tuple[str, ...], value: Any, data: st.DataObject
) -> None:
    config = docker_config(["true"])
    inner = config
    for key in place:
        inner = inner[key]
    inner[data.draw(st.sampled_from(sorted(inner)))] = value
    before = copy.deepcopy(config)
    with contextlib.suppress(LaunchFailure):
        plan.plan_container(config)
    assert config == before
