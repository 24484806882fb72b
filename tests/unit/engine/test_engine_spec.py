"""The runtime configuration of dockerd's defaults, and of each option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from windlass.engine.merge import command_of, merge_config, replace_or_append
from windlass.engine.security import DEFAULT_CAPABILITIES, parse_security_options, tweak_capabilities
from windlass.engine.spec import SpecRequest, UserMount, build, default_masked_paths, default_readonly_paths
from windlass.engine.spec.build import Device
from windlass.engine.spec.mounts import merge_tmpfs_options, parents_first
from windlass.engine.spec.resources import linux_resources, parse_device_rules
from windlass.engine.users import Account
from windlass.errors import InvalidParameter

ROOT = Account(0, 0, (0,), "/root")
SYSCTLS = frozenset({"net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start"})


@pytest.fixture
def spec(checked: Any) -> Any:
    """The configuration of a create request, with the defaults that creation fills in."""

    def make(body: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        request = checked(dict(body or {}))
        host_config = request.host_config
        host_config["ShmSize"] = host_config["ShmSize"] or 64 << 20
        host_config["IpcMode"] = host_config["IpcMode"] or "private"
        host_config["CgroupnsMode"] = host_config["CgroupnsMode"] or "private"
        if not host_config["Privileged"]:
            if host_config["MaskedPaths"] is None:
                host_config["MaskedPaths"] = default_masked_paths()
            if host_config["ReadonlyPaths"] is None:
                host_config["ReadonlyPaths"] = default_readonly_paths()
        request.config["Hostname"] = request.config["Hostname"] or "0123456789ab"
        path, args = command_of(request.config)
        fields: dict[str, Any] = {
            "container_id": "0123456789ab" + "c" * 52,
            "path": path,
            "args": args,
            "config": request.config,
            "host_config": host_config,
            "root": "/rootfs",
            "cgroups_path": "/windlass/x",
            "account": ROOT,
            "capabilities": DEFAULT_CAPABILITIES,
            "security": parse_security_options(host_config["SecurityOpt"] or ()),
            "known_sysctls": SYSCTLS,
        }
        return build(SpecRequest(**(fields | changes)))

    return make


def destinations(spec: Mapping[str, Any]) -> list[str]:
    return [mount["destination"] for mount in spec["mounts"]]


def options(spec: Mapping[str, Any], destination: str) -> list[str]:
    return next(mount["options"] for mount in spec["mounts"] if mount["destination"] == destination)


def namespaces(spec: Mapping[str, Any]) -> dict[str, str]:
    return {entry["type"]: entry.get("path", "") for entry in spec["linux"]["namespaces"]}


def test_no_options_give_dockerds_defaults(spec: Any) -> None:
    made = spec()
    process, linux = made["process"], made["linux"]
    assert process["args"] == ["true"]
    assert process["env"] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME=0123456789ab",
        "HOME=/root",
    ]
    assert process["cwd"] == "/"
    assert process["user"] == {"uid": 0, "gid": 0, "additionalGids": [0]}
    assert process["oomScoreAdj"] == 0 and process["noNewPrivileges"] is False and process["rlimits"] == []
    sets = process["capabilities"]
    assert sorted(sets) == ["bounding", "effective", "permitted"]
    assert all(names == list(DEFAULT_CAPABILITIES) for names in sets.values())
    assert made["root"] == {"path": "/rootfs", "readonly": False}
    assert made["hostname"] == "0123456789ab"
    assert destinations(made) == [
        "/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm",
    ]  # fmt: skip
    assert options(made, "/dev/shm") == ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]
    assert "ro" in options(made, "/sys") and "ro" in options(made, "/sys/fs/cgroup")
    assert namespaces(made) == dict.fromkeys(("mount", "network", "uts", "pid", "ipc", "cgroup"), "")
    assert linux["maskedPaths"] == default_masked_paths()
    assert linux["readonlyPaths"] == ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
    assert linux["sysctl"] == {
        "net.ipv4.ping_group_range": "0 2147483647",
        "net.ipv4.ip_unprivileged_port_start": "0",
    }
    assert linux["cgroupsPath"] == "/windlass/x"
    assert linux["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert len(linux["resources"]["devices"]) == 9
    assert linux["devices"] == []
    assert "seccomp" not in linux and "rootfsPropagation" not in linux


@pytest.mark.parametrize(
    ("host_config", "missing"),
    [
        ({"NetworkMode": "host"}, "network"),
        ({"UTSMode": "host"}, "uts"),
        ({"PidMode": "host"}, "pid"),
        ({"IpcMode": "host"}, "ipc"),
        ({"CgroupnsMode": "host"}, "cgroup"),
    ],
)
def test_the_hosts_namespaces(spec: Any, host_config: dict[str, Any], missing: str) -> None:
    made = spec({"HostConfig": host_config})
    assert missing not in namespaces(made)
    assert ("hostname" in made) is (missing != "uts")


def test_another_containers_namespaces(spec: Any) -> None:
    paths = {"network": "/run/netns/x", "pid": "/proc/7/ns/pid", "ipc": "/proc/7/ns/ipc"}
    made = spec({"HostConfig": {"NetworkMode": "container:x"}}, namespaces=paths)
    assert namespaces(made) == {"mount": "", "uts": "", "cgroup": "", **paths}
    assert "sysctl" not in made["linux"]


def test_host_networking_sets_no_network_sysctls(spec: Any) -> None:
    assert "sysctl" not in spec({"HostConfig": {"NetworkMode": "host"}})["linux"]
    own = spec({"Domainname": "d", "HostConfig": {"NetworkMode": "host", "Sysctls": {"net.core.somaxconn": "5"}}})
    assert own["linux"]["sysctl"] == {"kernel.domainname": "d", "net.core.somaxconn": "5"}


def test_a_privileged_container(spec: Any) -> None:
    device = Device(path="/dev/kvm", kind="c", major=10, minor=232, mode=0o666, uid=0, gid=0)
    made = spec({"HostConfig": {"Privileged": True}}, devices=[device], capabilities=["CAP_SYS_ADMIN"])
    assert "ro" not in options(made, "/sys") and "ro" not in options(made, "/sys/fs/cgroup")
    assert made["linux"]["maskedPaths"] == made["linux"]["readonlyPaths"] == []
    assert made["linux"]["resources"]["devices"][-1] == {"allow": True, "access": "rwm"}
    assert made["linux"]["devices"][0]["path"] == "/dev/kvm"


def test_a_read_only_root(spec: Any) -> None:
    made = spec({"HostConfig": {"ReadonlyRootfs": True}}, mounts=[UserMount(destination="/tmp", tmpfs_options=())])
    assert made["root"]["readonly"]
    assert "ro" not in options(made, "/tmp") and "ro" not in options(made, "/dev")


def test_unconfined_system_paths(spec: Any) -> None:
    made = spec({"HostConfig": {"SecurityOpt": ["systempaths=unconfined"]}})
    assert made["linux"]["maskedPaths"] == made["linux"]["readonlyPaths"] == []
    made = spec({"HostConfig": {"MaskedPaths": ["/proc/kcore"], "ReadonlyPaths": []}})
    assert (made["linux"]["maskedPaths"], made["linux"]["readonlyPaths"]) == (["/proc/kcore"], [])


def test_mounts_of_the_user_replace_the_defaults(spec: Any) -> None:
    made = spec(mounts=[UserMount(destination="/dev", source="/dev"), UserMount(destination="/a/b", source="/x")])
    assert destinations(made) == ["/proc", "/sys", "/sys/fs/cgroup", "/dev", "/a/b"]


def test_no_shared_memory_without_ipc(spec: Any) -> None:
    assert "/dev/shm" not in destinations(spec({"HostConfig": {"IpcMode": "none"}}))


def test_mounts_are_made_parents_first() -> None:
    mounts = [UserMount(destination=path, source="/x") for path in ("/a/b/c", "/z", "/a/b", "/etc/hosts")]
    assert [mount.destination for mount in parents_first(mounts)] == ["/z", "/a/b", "/etc/hosts", "/a/b/c"]


@pytest.mark.parametrize(
    ("mount", "expected"),
    [
        ({}, ["rbind"]),
        ({"writable": False}, ["rbind", "rro"]),
        ({"writable": False, "readonly_non_recursive": True}, ["rbind", "ro"]),
        ({"non_recursive": True, "propagation": "rprivate"}, ["bind", "rprivate"]),
    ],
)
def test_binds(spec: Any, mount: dict[str, Any], expected: Sequence[str]) -> None:
    made = spec(mounts=[UserMount(destination="/d", source="/s", **mount)])
    assert made["mounts"][-1] == {"destination": "/d", "type": "bind", "source": "/s", "options": expected}


def test_a_runtime_without_recursive_read_only_gets_the_plain_one(spec: Any) -> None:
    mount = UserMount(destination="/d", source="/s", writable=False)
    assert options(spec(mounts=[mount], recursive_readonly=False), "/d") == ["rbind", "ro"]
    forced = UserMount(destination="/d", source="/s", writable=False, readonly_force_recursive=True)
    with pytest.raises(InvalidParameter):
        spec(mounts=[forced], recursive_readonly=False)


@pytest.mark.parametrize(
    ("propagation", "root"), [("rprivate", None), ("rslave", "rslave"), ("shared", "shared"), ("rshared", "shared")]
)
def test_the_root_lets_propagation_through(spec: Any, propagation: str, root: str | None) -> None:
    made = spec(mounts=[UserMount(destination="/d", source="/s", propagation=propagation)])
    assert made["linux"].get("rootfsPropagation") == root


@pytest.mark.parametrize(
    ("given", "merged"),
    [
        ((), ["noexec", "nosuid", "nodev", "rprivate"]),
        (("exec", "size=1m"), ["nosuid", "nodev", "rprivate", "exec", "size=1m"]),
        (("size=1m", "size=2m", "shared"), ["noexec", "nosuid", "nodev", "size=2m", "shared"]),
        (("", "defaults"), ["noexec", "nosuid", "nodev", "rprivate"]),
    ],
)
def test_tmpfs_options(given: Sequence[str], merged: list[str]) -> None:
    assert merge_tmpfs_options(["noexec", "nosuid", "nodev", "rprivate", *given]) == merged


@pytest.mark.parametrize("option", ["what", "huge=always", "size"])
def test_tmpfs_options_that_are_refused(option: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid tmpfs option"):
        merge_tmpfs_options([option])


def test_an_init(spec: Any) -> None:
    made = spec(init="/usr/bin/docker-init")
    assert made["process"]["args"] == ["/sbin/docker-init", "--", "true"]
    assert made["mounts"][-1] == {
        "destination": "/sbin/docker-init",
        "type": "bind",
        "source": "/usr/bin/docker-init",
        "options": ["bind", "rro"],
    }
    assert spec({"HostConfig": {"PidMode": "host"}}, init="/i")["process"]["args"] == ["true"]


def test_a_terminal(spec: Any) -> None:
    made = spec({"Tty": True, "Env": ["A=1", "HOME=/h"]}, console_size=(24, 80))
    assert made["process"]["terminal"] and made["process"]["consoleSize"] == {"height": 24, "width": 80}
    assert made["process"]["env"][2:] == ["TERM=xterm", "A=1", "HOME=/h"]


def test_user_namespaces(spec: Any) -> None:
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    made = spec(id_mappings=(mapping, mapping))
    assert made["linux"]["namespaces"][0] == {"type": "user"}
    assert made["linux"]["uidMappings"] == mapping
    assert "ro" not in options(made, "/sys/fs/cgroup")
    assert "net.ipv4.ping_group_range" not in made["linux"]["sysctl"]


def test_limits(checked: Any) -> None:
    limits = checked(
        {
            "HostConfig": {
                "Memory": 64 << 20, "MemorySwap": 128 << 20, "MemoryReservation": 32 << 20, "MemorySwappiness": 0,
                "OomKillDisable": False, "NanoCpus": 500_000_000, "CpuShares": 512, "CpusetCpus": "0-1",
                "PidsLimit": 50, "BlkioWeight": 300, "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 1000}],
            }
        }
    ).host_config  # fmt: skip
    assert linux_resources(limits, lambda path: (8, 0)) == {
        "memory": {
            "limit": 64 << 20,
            "swap": 128 << 20,
            "reservation": 32 << 20,
            "swappiness": 0,
            "disableOOMKiller": False,
        },
        "cpu": {"period": 100_000, "quota": 50_000, "shares": 512, "cpus": "0-1"},
        "pids": {"limit": 50},
        "blockIO": {"weight": 300, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}]},
    }


def test_no_limits_are_no_limits(checked: Any) -> None:
    assert linux_resources(checked({}).host_config, lambda path: (0, 0)) == {}


def test_device_rules() -> None:
    assert parse_device_rules(["c 10:* rw", "a *:* rwm"]) == [
        {"allow": True, "type": "c", "major": 10, "minor": -1, "access": "rw"},
        {"allow": True, "type": "a", "major": -1, "minor": -1, "access": "rwm"},
    ]
    for rule in ("c 10 rw", "x 1:1 r", "c 1:1 rwmx", "c 1:1 r\n"):
        with pytest.raises(InvalidParameter, match="invalid device cgroup rule format"):
            parse_device_rules([rule])


ALL = ["CAP_CHOWN", "CAP_NET_RAW", "CAP_SYS_ADMIN"]


@pytest.mark.parametrize(
    ("add", "drop", "privileged", "names"),
    [
        ((), (), True, ALL),
        ((), (), False, ["CAP_CHOWN", "CAP_NET_RAW"]),
        (("CAP_SYS_ADMIN",), ("CAP_CHOWN",), False, ["CAP_NET_RAW", "CAP_SYS_ADMIN"]),
        (("CAP_CHOWN",), ("ALL",), False, ["CAP_CHOWN"]),
        ((), ("ALL",), False, []),
        (("ALL",), ("CAP_CHOWN",), False, ["CAP_NET_RAW", "CAP_SYS_ADMIN"]),
        (("ALL",), ("ALL",), False, ALL),
    ],
)
def test_capabilities(add: Sequence[str], drop: Sequence[str], privileged: bool, names: list[str]) -> None:
    assert tweak_capabilities(add=add, drop=drop, privileged=privileged, available=ALL) == names


def test_security_options() -> None:
    options = parse_security_options(
        ["no-new-privileges", "apparmor=unconfined", "seccomp=unconfined", "label:type:t", "writable-cgroups=false"]
    )
    assert options.no_new_privileges and options.writable_cgroups is False
    assert (options.apparmor, options.seccomp, options.labels) == ("unconfined", "unconfined", ("type:t",))
    assert not parse_security_options(["no-new-privileges=false"], no_new_privileges=True).no_new_privileges


def test_what_the_image_says_is_filled_in(checked: Any) -> None:
    config = checked({"Cmd": None, "Env": ["A=own"], "Labels": {"l": "own"}, "ExposedPorts": {"1/tcp": {}}}).config
    merge_config(
        config,
        {
            "Env": ["A=image", "B=image"],
            "Cmd": ["serve"],
            "Entrypoint": ["/entry"],
            "Labels": {"l": "image", "m": "image"},
            "ExposedPorts": {"2/tcp": {}},
            "WorkingDir": "/app",
            "User": "web",
            "Volumes": {"/data": {}},
            "Healthcheck": {"Test": ["CMD", "check"], "Retries": 5},
            "StopSignal": "SIGINT",
        },
    )
    assert config["Env"] == ["A=own", "B=image"]
    assert config["Labels"] == {"l": "own", "m": "image"}
    assert config["ExposedPorts"] == {"1/tcp": {}, "2/tcp": {}}
    assert config["Volumes"] == {"/data": {}}
    assert (config["WorkingDir"], config["User"], config["StopSignal"]) == ("/app", "web", "SIGINT")
    assert config["Healthcheck"] == {"Test": ["CMD", "check"], "Retries": 5}
    assert command_of(config) == ("/entry", ["serve"])


@pytest.mark.parametrize(
    ("own", "command"),
    [
        ({"Cmd": ["x"]}, ("/entry", ["x"])),
        ({"Cmd": None, "Entrypoint": ["e"]}, ("e", [])),
        ({"Cmd": ["x"], "Entrypoint": []}, ("x", [])),
        ({"Cmd": ["x"], "Entrypoint": [""]}, ("x", [])),
    ],
)
def test_entrypoint_and_command(checked: Any, own: dict[str, Any], command: tuple[str, list[str]]) -> None:
    config = checked(own).config
    merge_config(config, {"Cmd": ["serve"], "Entrypoint": ["/entry"]})
    assert command_of(config) == command


def test_no_command_at_all(checked: Any) -> None:
    with pytest.raises(InvalidParameter, match="no command specified"):
        command_of(checked({"Cmd": None}).config)


def test_a_variable_without_a_value_is_removed() -> None:
    assert replace_or_append(["A=1", "B=2"], ["A", "B=3", "C=4", "D"]) == ["B=3", "C=4"]
