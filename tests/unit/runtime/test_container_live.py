"""Containers in the kernel: what a program finds when it looks around in one."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.containers import CAPABILITIES, Result, Workshop, docker_config, temporary_image, temporary_workshop
from windlass.kernel import capabilities, lsm, process
from windlass.kernel.idmap import make_table
from windlass.kernel.mount_options import MS_SHARED
from windlass.kernel.mounts import Mount, map_identities, mount_all, open_tree_clone, set_attributes, unmount_all
from windlass.runtime.container import create_process
from windlass.runtime.wire import LaunchFailure

pytestmark = pytest.mark.root

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    with temporary_image() as path:
        yield path


@pytest.fixture
def workshop(image: Path) -> Iterator[Workshop]:
    with temporary_workshop(image) as made:
        yield made


def ok(result: Result) -> str:
    assert (result.code, result.stderr) == (0, ""), result
    return result.stdout


def status(text: str) -> dict[str, str]:
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


# --- what is there


def test_it_is_alone_in_its_namespaces_and_sees_its_own_root(workshop: Workshop) -> None:
    out = ok(workshop.run("echo $$; hostname; pwd; ls /; ls /proc | grep -c '^[0-9]'; readlink /proc/self/ns/mnt"))
    pid, host, place, *names, count, namespace = out.splitlines()
    assert (pid, host, place) == ("1", "box", "/")
    assert names == ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"]
    assert int(count) <= 4  # sh, ls, grep
    assert namespace != os.readlink("/proc/self/ns/mnt")


def test_every_namespace_asked_for_is_a_new_one_and_the_others_are_the_host_s(workshop: Workshop) -> None:
    names = ("mnt", "uts", "pid", "ipc", "cgroup", "net", "time", "user")
    script = "; ".join(f"readlink /proc/self/ns/{name}" for name in names)
    found = dict(zip(names, ok(workshop.run(script)).split(), strict=True))
    for name in names:
        assert (found[name] == os.readlink(f"/proc/self/ns/{name}")) == (name in {"net", "time", "user"})


def test_dev_has_exactly_docker_s_nodes_and_links(workshop: Workshop) -> None:
    out = ok(workshop.run("cd /dev; for f in *; do stat -c '%n %F %t:%T %a' $f; readlink $f; done; true"))
    expected = """fd symbolic link 0:0 777
        /proc/self/fd
        full character special file 1:7 666
        mqueue directory 0:0 1777
        null character special file 1:3 666
        ptmx symbolic link 0:0 777
        pts/ptmx
        pts directory 0:0 755
        random character special file 1:8 666
        shm directory 0:0 1777
        stderr symbolic link 0:0 777
        /proc/self/fd/2
        stdin symbolic link 0:0 777
        /proc/self/fd/0
        stdout symbolic link 0:0 777
        /proc/self/fd/1
        tty character special file 5:0 666
        urandom character special file 1:9 666
        zero character special file 1:5 666"""
    if os.path.exists("/proc/kcore"):
        expected += "\ncore symbolic link 0:0 777\n/proc/kcore"
    assert sorted(out.splitlines()) == sorted(line.strip() for line in expected.splitlines())


def test_the_program_has_docker_s_capabilities_filter_and_nothing_else(workshop: Workshop) -> None:
    found = status(ok(workshop.run(["/bin/cat", "/proc/self/status"])))
    mask = f"{capabilities.parse_caps(CAPABILITIES):016x}"
    assert (found["CapPrm"], found["CapEff"], found["CapBnd"]) == (mask, mask, mask)
    assert (found["CapInh"], found["CapAmb"]) == ("0" * 16, "0" * 16)
    assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "0")
    assert found["SigBlk"] == found["SigIgn"] == "0" * 16
    assert found["Umask"] == "0022"


def test_no_descriptor_but_the_standard_ones_is_open(workshop: Workshop) -> None:
    keep = os.open("/", os.O_RDONLY)  # inheritable for a child that is not careful
    os.set_inheritable(keep, True)
    try:
        out = ok(workshop.run(["/bin/ls", "/proc/self/fd"]))
    finally:
        os.close(keep)
    assert out.split() == ["0", "1", "2", "3"]  # 3 is ls's own, of the directory


def test_the_host_s_root_is_gone(workshop: Workshop) -> None:
    out = ok(workshop.run("cat /proc/self/mountinfo"))
    targets = [line.split()[4] for line in out.splitlines()]
    assert targets[0] == "/"
    assert len(targets) == len(set(targets))
    assert not [line for line in out.splitlines() if " - ext4 " in line]


def test_masked_paths_are_empty_and_read_only_paths_refuse(workshop: Workshop) -> None:
    script = """
    for f in /proc/keys /proc/timer_list /proc/interrupts; do [ -e $f ] && wc -c < $f; done
    ls /sys/firmware | wc -l
    echo 1 > /proc/sys/kernel/shmmni || echo refused
    echo b > /proc/sysrq-trigger || echo refused
    mkdir /sys/firmware/x || echo refused
    """
    result = workshop.run(script)
    assert set(result.stdout.split()) == {"0", "refused"}
    assert result.stdout.count("refused") == 3


def test_a_read_only_root_with_writable_mounts_on_it(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["root"]["readonly"] = True
        config["process"]["cwd"] = "/made/for/it"
        config["mounts"].append({"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]})

    result = workshop.run("pwd; touch /x; touch /run/x /dev/shm/x && echo written", change)
    assert result.stdout.split() == ["/made/for/it", "written"]
    assert "Read-only file system" in result.stderr


def test_what_it_writes_is_in_the_upper_directory(workshop: Workshop) -> None:
    ok(workshop.run("echo hello > /etc/new; rm /etc/group"))
    assert (workshop.upper / "etc/new").read_text() == "hello\n"
    assert (workshop.upper / "etc/group").stat().st_rdev == 0


def test_an_existing_directory_serves_as_root(workshop: Workshop, image: Path) -> None:
    config = docker_config(["/bin/cat", "/etc/passwd"])
    config["root"] = {"path": str(image), "readonly": True}
    reading, writing = os.pipe()
    made = create_process(config, rootfs=None, stdio=(0, writing, writing), hierarchy=workshop.hierarchy)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read().startswith("root:x:0:0")
    assert os.waitstatus_to_exitcode(os.waitpid(made.pid, 0)[1]) == 0
    os.close(made.pidfd)


# --- who it is


def test_user_groups_umask_and_directory(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o27}
        config["process"]["cwd"] = "/tmp"

    found = status(ok(workshop.run("cat /proc/self/status; pwd; touch x; stat -c %a x", change)))
    assert found["Uid"].split() == ["1000"] * 4
    assert found["Gid"].split() == ["1001"] * 4
    assert found["Groups"] == "5 6"
    assert found["CapEff"] == found["CapPrm"] == "0" * 16  # another user keeps none over the exec
    assert found["Umask"] == "0027"


def test_ambient_capabilities_stay_with_another_user(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["user"] = {"uid": 1000, "gid": 1000}
        sets = config["process"]["capabilities"]
        sets["inheritable"] = ["CAP_KILL", "CAP_CHOWN"]
        sets["ambient"] = ["CAP_KILL"]

    found = status(ok(workshop.run("cat /proc/self/status", change)))
    kill = f"{1 << capabilities.NUMBERS['CAP_KILL']:016x}"
    assert [found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [kill] * 4


def test_a_directory_that_only_root_may_enter_serves_another_user(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"] |= {"cwd": "/secret", "user": {"uid": 1000, "gid": 1000}}
        config["process"]["capabilities"] = {}

    rootfs = workshop.rootfs()
    (workshop.upper / "secret").mkdir(mode=0o700)
    assert workshop.run("true", change, rootfs=rootfs).code == 0


def test_capabilities_that_the_host_has_not_are_an_error(workshop: Workshop) -> None:
    lacking = capabilities.names_of(~capabilities.get_sets().permitted & (1 << 41) - 1)
    if not lacking:
        pytest.skip("this process has all capabilities")
    with pytest.raises(LaunchFailure, match=lacking[0]) as caught:
        workshop.run("true", lambda config: config["process"]["capabilities"]["permitted"].append(lacking[0]))
    assert caught.value.stage == "capabilities"


def test_no_new_privs_with_a_filter(workshop: Workshop) -> None:
    found = status(ok(workshop.run("cat /proc/self/status", lambda c: c["process"].update(noNewPrivileges=True))))
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


def test_a_filter_that_forbids_to_speak_does_not_hide_that_the_program_is_missing(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["noNewPrivileges"] = True
        config["process"]["args"] = ["no-such-program"]
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_KILL_PROCESS",
            "syscalls": [{"names": ["execve", "exit_group"], "action": "SCMP_ACT_ALLOW"}],
        }

    with pytest.raises(LaunchFailure, match="executable file not found"):
        workshop.run("", change)


def test_limits_are_set_and_an_address_space_too_small_for_us_is_the_program_s(workshop: Workshop) -> None:
    limits = [
        {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128},
        {"type": "RLIMIT_AS", "soft": 20 << 20, "hard": 20 << 20},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]
    out = ok(workshop.run("ulimit -n; ulimit -Hn; ulimit -v; ulimit -c", lambda c: c["process"].update(rlimits=limits)))
    assert out.split() == ["64", "128", str(20 << 10), "0"]


@pytest.mark.skipif(
    bool(os.geteuid()) or bool(capabilities.get_sets().permitted >> 24 & 1), reason="CAP_SYS_RESOURCE may raise limits"
)
def test_a_default_limit_gives_way_with_a_warning_where_one_asked_for_is_an_error(workshop: Workshop) -> None:
    hard = process.get_rlimit(7)[1]
    limits = [{"type": "RLIMIT_NOFILE", "soft": hard + 1000, "hard": hard + 1000}]

    def change(config: dict[str, Any]) -> None:
        config["process"]["rlimits"] = limits

    with pytest.raises(LaunchFailure, match="rlimit type 7") as caught:
        workshop.run("ulimit -n", change)
    assert (caught.value.stage, caught.value.errno) == ("rlimit", errno.EPERM)
    config = docker_config(["/bin/sh", "-c", "ulimit -n"])
    change(config)
    running = workshop.start(config, optional_rlimits={"RLIMIT_NOFILE"})
    assert ok(running.finish()).strip() == str(hard)
    assert "RLIMIT_NOFILE" in running.process.warnings[0]


def test_oom_score_keyring_personality_and_priorities(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["oomScoreAdj"] = 123
        config["linux"]["personality"] = {"domain": "LINUX32"}
        config["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 3}
        config["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}

    out = ok(workshop.run("cat /proc/self/oom_score_adj; uname -m; ionice; cat /proc/self/stat", change)).splitlines()
    assert out[0] == "123"
    assert out[1] in {"i686", "armv8l", "armv7l"}
    assert out[2].startswith("idle")
    fields = out[3].rpartition(") ")[2].split()
    assert (fields[16], fields[38]) == ("3", "3")  # nice; policy SCHED_BATCH


# --- mounts


def bind(source: Path, target: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": "bind", "source": str(source), "options": list(options)}


def test_binds_of_files_and_directories_read_only_and_not(workshop: Workshop) -> None:
    shared = workshop.folder / "shared"
    (shared / "below").mkdir(parents=True)
    (shared / "file").write_text("from the host")

    def change(config: dict[str, Any]) -> None:
        config["mounts"] += [
            bind(shared, "/data/rw", "rbind", "rprivate"),
            bind(shared, "/data/ro", "rbind", "ro", "rprivate"),
            bind(shared / "file", "/data/deep/er/file", "bind", "nosuid", "nodev", "noexec"),
        ]

    script = """
    echo more > /data/rw/new && cat /data/ro/new /data/deep/er/file
    echo no > /data/ro/new || echo refused
    grep /data/deep /proc/self/mountinfo
    """
    result = workshop.run(script, change)
    assert result.stdout.startswith("more\nfrom the hostrefused\n")
    assert "nosuid,nodev,noexec" in result.stdout
    assert (shared / "new").read_text() == "more\n"


@pytest.fixture
def host_mount(workshop: Workshop) -> Iterator[Path]:
    """A shared mount on the host, with a directory `inner` in it."""
    place = workshop.folder / "mount"
    place.mkdir()
    mount_all([Mount("tmpfs", "tmpfs", ())], str(place))
    root = os.open(place, os.O_PATH)
    set_attributes(root, propagation=MS_SHARED)
    os.close(root)
    (place / "inner").mkdir()
    yield place
    unmount_all(str(place / "inner"))
    unmount_all(str(place))


@pytest.mark.parametrize(("option", "written"), [("ro", True), ("rro", False)])
def test_a_mount_below_a_read_only_bind_is_read_only_if_that_is_recursive(
    workshop: Workshop, host_mount: Path, option: str, written: bool
) -> None:
    mount_all([Mount("tmpfs", "tmpfs", ())], str(host_mount / "inner"))
    entry = bind(host_mount, "/v", "rbind", option)
    result = workshop.run("touch /v/x; touch /v/inner/x && echo written", lambda c: c["mounts"].append(entry))
    assert result.stdout == ("written\n" if written else "")
    assert not (host_mount / "x").exists()


@pytest.mark.parametrize(("option", "seen"), [("rshared", True), ("rslave", True), ("rprivate", False)])
def test_a_later_mount_of_the_host_arrives_as_the_propagation_says(
    workshop: Workshop, host_mount: Path, option: str, seen: bool
) -> None:
    config = docker_config(["/bin/sh", "-c", "echo up; read x < /fifo; ls /v/inner"])
    config["mounts"].append(bind(host_mount, "/v", "rbind", option))
    rootfs = workshop.rootfs()
    os.mkfifo(workshop.upper / "fifo")
    running = workshop.start(config, rootfs=rootfs)
    running.read_until("up")
    mount_all([Mount("tmpfs", "tmpfs", ())], str(host_mount / "inner"))
    (host_mount / "inner" / "later").write_text("")
    with open(f"/proc/{running.pid}/root/fifo", "w") as fifo:
        fifo.write("go\n")
    assert ("later" in running.finish().stdout) == seen


def test_a_mount_made_in_a_shared_bind_is_seen_on_the_host(workshop: Workshop, host_mount: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["mounts"].append(bind(host_mount, "/v", "rbind", "rshared"))
        for name in ("bounding", "effective", "permitted"):
            config["process"]["capabilities"][name].append("CAP_SYS_ADMIN")
        del config["linux"]["seccomp"]

    ok(workshop.run("mount -t tmpfs x /v/inner && touch /v/inner/made", change))
    assert (host_mount / "inner" / "made").exists()


def test_a_missing_source_is_told_before_anything_is_made(workshop: Workshop) -> None:
    with pytest.raises(LaunchFailure, match="no such file") as caught:
        workshop.run("true", lambda c: c["mounts"].append(bind(workshop.folder / "nope", "/x", "rbind")))
    assert (caught.value.stage, caught.value.errno) == ("mount", errno.ENOENT)


def test_a_tmpfs_may_begin_with_what_the_image_has(workshop: Workshop) -> None:
    entry = {"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m"]}
    out = ok(workshop.run("cat /etc/group; touch /etc/x; ls /etc", lambda c: c["mounts"].append(entry)))
    assert out.split() == ["root:x:0:", "web:x:1000:", "group", "passwd", "x"]
    assert not (workshop.upper / "etc/x").exists()


@pytest.mark.usefixtures("idmapped")
def test_an_idmapped_bind_shows_other_owners(workshop: Workshop) -> None:
    shared = workshop.folder / "owned"
    shared.mkdir()
    os.chown(shared, 4000, 4001)
    lines = [{"containerID": 4000, "hostID": 77, "size": 2}]
    entry = bind(shared, "/v", "bind") | {"uidMappings": lines, "gidMappings": lines}
    assert ok(workshop.run("stat -c %u:%g /v", lambda c: c["mounts"].append(entry))).strip() == "77:78"


def test_devices_asked_for(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["devices"] = [
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4},
            {"path": "/dev/sub/pipe", "type": "p", "fileMode": 0o600},
            {"path": "/dev/sub/block", "type": "b", "major": 7, "minor": 9},
        ]

    out = ok(workshop.run("stat -c '%n %F %t:%T %a %u:%g' /dev/fuse /dev/sub/*", change))
    assert out.splitlines() == [
        "/dev/fuse character special file a:e5 640 3:4",
        "/dev/sub/block block special file 7:9 666 0:0",
        "/dev/sub/pipe fifo 0:0 600 0:0",
    ]


def test_kernel_parameters_of_its_own_namespaces(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "network"})
        config["linux"]["sysctl"] = {"kernel.shmmni": "77", "net.ipv4.ip_forward": "1", "fs.mqueue.msg_max": "12"}
        config["domainname"] = "example"

    before = Path("/proc/sys/kernel/shmmni").read_text()
    names = "kernel/shmmni net/ipv4/ip_forward fs/mqueue/msg_max kernel/domainname"
    assert ok(workshop.run(f"cd /proc/sys; cat {names}", change)).split() == ["77", "1", "12", "example"]
    assert Path("/proc/sys/kernel/shmmni").read_text() == before


def test_parameters_of_a_joined_namespace_that_is_the_host_s_are_refused(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "network", "path": "/proc/self/ns/net"})
        config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}

    with pytest.raises(LaunchFailure, match="not allowed in host network"):
        workshop.run("true", change)


def test_a_time_namespace_with_an_offset(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "time"})
        config["linux"]["timeOffsets"] = {"boottime": {"secs": 10_000_000}}

    assert float(ok(workshop.run("cat /proc/uptime", change)).split()[0]) > 10_000_000


def test_namespaces_of_another_container_are_joined_by_path(workshop: Workshop) -> None:
    first = workshop.start(docker_config(["/bin/sh", "-c", "echo up; sleep 30"]))
    first.read_until("up")

    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"] = [
            {"type": "mount"},
            *({"type": kind, "path": f"/proc/{first.pid}/ns/{kind}"} for kind in ("pid", "ipc", "uts", "cgroup")),
        ]
        del config["hostname"]

    out = ok(
        workshop.run("hostname; ps | grep -c 'sleep 30$'; cd /proc; readlink 1/ns/ipc; readlink self/ns/ipc", change)
    )
    host, sleeping, *ipc = out.split()
    assert (host, sleeping) == ("box", "1")
    assert ipc[0] == ipc[1]
    first.signal(signal.SIGKILL)
    assert first.finish().code == -signal.SIGKILL


def test_a_namespace_file_of_another_kind_is_refused(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"][1]["path"] = "/proc/self/ns/net"

    with pytest.raises(LaunchFailure) as caught:
        workshop.run("true", change)
    assert caught.value.stage == "namespace"


# --- user namespaces


@pytest.fixture
def idmapped(workshop: Workshop) -> None:
    """Skips where the file system that holds the images cannot be mapped (a tmpfs before Linux 6.3)."""
    table = make_table([(0, 100000, 65536)], [(0, 100000, 65536)])
    tree = open_tree_clone(str(workshop.image))
    try:
        map_identities(tree, table)
    except OSError as error:
        pytest.skip(f"no idmapped mounts here: {error}")
    finally:
        os.close(tree)
        os.close(table)


def remap(config: dict[str, Any]) -> None:
    config["linux"]["namespaces"] += [{"type": "user"}, {"type": "network"}]
    for key in ("uidMappings", "gidMappings"):
        config["linux"][key] = [{"containerID": 0, "hostID": 100000, "size": 65536}]


@pytest.mark.usefixtures("idmapped")
def test_root_of_a_user_namespace_is_nobody_on_the_host_and_owns_its_files(workshop: Workshop) -> None:
    script = """
    id -u; cat /proc/self/uid_map; stat -c '%u %a' / /etc/passwd /dev/null /dev/shm
    touch /made; chown 1000 /made; echo hello > /dev/null; stat -c %u /made
    ls /sys/class/net; stat -c %F /dev/tty
    """
    out = ok(workshop.run(script, remap)).splitlines()
    assert out[0] == "0"
    assert out[1].split() == ["0", "100000", "65536"]
    assert out[2:6] == ["0 755", "0 644", "0 666", "0 1777"]
    assert out[6:] == ["1000", "lo", "character special file"]
    assert (workshop.upper / "made").stat().st_uid == 1000  # on disk as without a map


@pytest.mark.usefixtures("idmapped")
def test_a_further_process_in_a_user_namespace(workshop: Workshop) -> None:
    config = docker_config(["/bin/sh", "-c", "echo up; sleep 30"])
    remap(config)
    first = workshop.start(config)
    first.read_until("up")
    out = ok(first.execute(["/bin/sh", "-c", "id -u; cat /proc/self/uid_map; touch /y && stat -c %u /y"]).finish())
    assert out.split() == ["0", "0", "100000", "65536", "0"]
    first.signal(signal.SIGKILL)
    first.finish()


@pytest.mark.usefixtures("idmapped")
def test_a_user_namespace_that_exists_is_joined(workshop: Workshop) -> None:
    config = docker_config(["/bin/sh", "-c", "echo up; sleep 30"])
    remap(config)
    first = workshop.start(config)
    first.read_until("up")

    def change(config: dict[str, Any]) -> None:
        remap(config)
        config["linux"]["namespaces"] = [
            entry | ({"path": f"/proc/{first.pid}/ns/user"} if entry["type"] == "user" else {})
            for entry in config["linux"]["namespaces"]
        ]

    out = ok(workshop.run("readlink /proc/self/ns/user; touch /z; stat -c %u /z", change)).split()
    assert out == [os.readlink(f"/proc/{first.pid}/ns/user"), "0"]
    first.signal(signal.SIGKILL)
    first.finish()


@pytest.mark.usefixtures("idmapped")
def test_a_network_of_the_host_s_making_in_a_user_namespace(workshop: Workshop) -> None:
    owner = docker_config(["/bin/sh", "-c", "ip link set lo up; echo up; sleep 30"])
    owner["linux"]["namespaces"].append({"type": "network"})
    first = workshop.start(owner)
    first.read_until("up")

    def change(config: dict[str, Any]) -> None:
        remap(config)
        config["linux"]["namespaces"][-1]["path"] = f"/proc/{first.pid}/ns/net"
        config["linux"]["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shmmni": "99"}

    script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni; ls /sys/class/net"
    assert ok(workshop.run(script, change)).split() == ["0", "99", "lo"]
    first.signal(signal.SIGKILL)
    first.finish()


# --- terminals


def test_a_terminal_is_the_container_s_own(workshop: Workshop) -> None:
    script = "tty; ls -l /dev/console | cut -c1; stty size; echo there > /dev/tty; stat -c %u $(tty)"
    config = docker_config(["/bin/sh", "-c", script], terminal=True)
    config["process"]["user"] = {"uid": 1000, "gid": 1000}
    running = workshop.start(config, console_size=(33, 44))
    text = running.read_until("1000\r\n")
    assert text.split() == ["/dev/pts/0", "c", "33", "44", "there", "1000"]
    assert running.finish().code == 0


def test_ctrl_c_reaches_the_program(workshop: Workshop) -> None:
    config = docker_config(["/bin/sh", "-c", "trap 'echo caught; exit 7' INT; echo up; while :; do sleep 1; done"])
    config["process"]["terminal"] = True
    running = workshop.start(config)
    running.read_until("up")
    assert running.process.master is not None
    os.write(running.process.master, b"\x03")
    running.read_until("caught")
    assert running.finish().code == 7


# --- errors


@pytest.mark.parametrize(
    ("args", "number", "message"),
    [
        (["foo"], errno.ENOENT, 'exec: "foo": executable file not found in $PATH'),
        ([""], errno.ENOENT, 'exec: "": executable file not found in $PATH'),
        (["/foo"], errno.ENOENT, 'exec: "/foo": stat /foo: no such file or directory'),
        (["/etc/passwd"], errno.EACCES, 'exec: "/etc/passwd": permission denied'),
        (["/etc/passwd/x"], errno.ENOTDIR, 'exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory'),
        (["/tmp"], errno.EACCES, 'exec: "/tmp": is a directory'),
    ],
)
def test_a_program_that_cannot_run(workshop: Workshop, args: list[str], number: int, message: str) -> None:
    with pytest.raises(LaunchFailure) as caught:
        workshop.run(args)
    assert (caught.value.stage, caught.value.errno, caught.value.message) == ("exec", number, message)


def test_a_file_that_is_no_program(workshop: Workshop) -> None:
    rootfs = workshop.rootfs()
    (workshop.upper / "junk").write_bytes(b"\x7fjunk")
    (workshop.upper / "junk").chmod(0o755)
    with pytest.raises(LaunchFailure, match="exec format error") as caught:
        workshop.run(["/junk"], rootfs=rootfs)
    assert (caught.value.stage, caught.value.errno) == ("exec", errno.ENOEXEC)


@pytest.mark.parametrize(("key", "label"), [("apparmorProfile", "no-such"), ("selinuxLabel", "a:b:c:s0")])
def test_a_label_without_its_security_module_is_an_error(workshop: Workshop, key: str, label: str) -> None:
    if lsm.apparmor_enabled() if key == "apparmorProfile" else lsm.selinux_enabled():
        pytest.skip("this kernel has it")
    with pytest.raises(LaunchFailure, match=label) as caught:
        workshop.run("true", lambda config: config["process"].update({key: label}))
    assert caught.value.stage == "label"


def test_a_working_directory_that_is_a_file(workshop: Workshop) -> None:
    with pytest.raises(LaunchFailure, match=r'chdir to cwd \("/etc/passwd"\)') as caught:
        workshop.run("true", lambda config: config["process"].update(cwd="/etc/passwd"))
    assert caught.value.stage == "cwd"


def test_a_layer_that_is_missing(workshop: Workshop) -> None:
    with pytest.raises(LaunchFailure) as caught:
        workshop.run("true", rootfs=[Mount("overlay", "overlay", (), ("/no/such/layer", "/etc"))])
    assert caught.value.stage == "rootfs"


def test_a_failure_leaves_neither_process_nor_descriptor(workshop: Workshop) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for change in (lambda c: c["process"].update(args=["nope"]), remap_and_fail, lambda c: c.update(mounts=[{}])):
        with pytest.raises(LaunchFailure):
            workshop.run("", change)
    assert count() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def remap_and_fail(config: dict[str, Any]) -> None:
    remap(config)
    config["process"]["args"] = ["nope"]


# --- exec


def test_a_further_process_has_its_own_user_environment_and_directory(workshop: Workshop) -> None:
    first = workshop.start(docker_config(["/bin/sh", "-c", "echo up; sleep 30"]), cgroup=workshop.cgroup())
    first.read_until("up")

    def change(document: dict[str, Any]) -> None:
        document |= {"cwd": "/tmp", "env": ["A=b", "PATH=/bin"], "user": {"uid": 1000, "gid": 1000}}

    out = ok(first.execute(["sh", "-c", "id -u; pwd; echo $A; hostname; cat /proc/1/cmdline"], change).finish())
    assert out.split() == ["1000", "/tmp", "b", "box", "sleep\x0030\0"]
    first.signal(signal.SIGKILL)
    first.finish()


def test_a_further_process_on_a_terminal(workshop: Workshop) -> None:
    first = workshop.start(docker_config(["/bin/sh", "-c", "echo up; sleep 30"]))
    first.read_until("up")
    again = first.execute(["/bin/sh", "-c", "tty; stty size"], lambda d: d.update(terminal=True), console_size=(5, 6))
    assert again.read_until("6\r\n").split() == ["/dev/pts/0", "5", "6"]
    again.finish()
    first.signal(signal.SIGKILL)
    first.finish()


def test_a_further_process_joins_the_container_s_cgroup(workshop: Workshop) -> None:
    group = workshop.cgroup()
    first = workshop.start(docker_config(["/bin/sh", "-c", "echo up; sleep 30"]), cgroup=group)
    first.read_until("up")
    again = first.execute(["/bin/sh", "-c", "echo up; sleep 30"], cgroup=group)
    again.read_until("up")
    assert {first.pid, again.pid} <= set(group.pids())
    for running in (again, first):
        running.signal(signal.SIGKILL)
        running.finish()


def test_a_further_process_that_cannot_run(workshop: Workshop) -> None:
    first = workshop.start(docker_config(["/bin/sh", "-c", "echo up; sleep 30"]))
    first.read_until("up")
    with pytest.raises(LaunchFailure, match="executable file not found"):
        first.execute(["nope"])
    first.signal(signal.SIGKILL)
    first.finish()


def test_a_container_that_has_ended_takes_no_further_process(workshop: Workshop) -> None:
    first = workshop.start(docker_config(["/bin/true"]))
    os.waitid(os.P_PIDFD, first.process.pidfd, os.WEXITED | os.WNOWAIT)
    with pytest.raises(LaunchFailure):
        first.execute(["true"])
    first.finish()


# --- start, hooks, seccomp's listener


def test_a_gate_holds_the_program_back(workshop: Workshop) -> None:
    reading, writing = os.pipe()
    rootfs = workshop.rootfs()
    running = workshop.start(docker_config(["/bin/touch", "/began"]), rootfs=rootfs, gate=reading)
    assert not (workshop.upper / "began").exists()
    os.write(writing, b"1")
    assert running.finish().code == 0
    assert (workshop.upper / "began").exists()
    os.close(reading)
    os.close(writing)


def test_a_program_that_vanishes_before_the_start_is_told_by_exit_code_and_words(workshop: Workshop) -> None:
    reading, writing = os.pipe()
    rootfs = workshop.rootfs()
    shutil.copy("/bin/busybox", workshop.upper / "soon-gone")
    running = workshop.start(docker_config(["/soon-gone"]), rootfs=rootfs, gate=reading)
    (Path(f"/proc/{running.pid}/root") / "soon-gone").unlink()
    os.write(writing, b"1")
    result = running.finish()
    assert result.code == 127
    assert result.stderr == 'exec: "/soon-gone": stat /soon-gone: no such file or directory\n'
    os.close(reading)
    os.close(writing)


def test_a_program_that_is_missing_is_an_error_of_the_creation_already(workshop: Workshop) -> None:
    reading, writing = os.pipe()
    with pytest.raises(LaunchFailure, match="executable file not found"):
        workshop.start(docker_config(["nope"]), gate=reading)
    os.close(reading)
    os.close(writing)


def test_hooks_run_where_they_should_and_get_the_state(workshop: Workshop) -> None:
    log = workshop.folder / "log"

    def hook(name: str, path: str = "/bin/busybox") -> dict[str, Any]:
        script = f"echo {name} $(hostname) $(cat | tr -d ' ') >> {log if name != 'start' else '/log'}"
        return {"path": path, "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}

    def change(config: dict[str, Any]) -> None:
        config["hooks"] = {
            "prestart": [hook("prestart")],
            "createRuntime": [hook("runtime")],
            "createContainer": [hook("container")],
            "startContainer": [hook("start", "/bin/busybox")],
        }

    ok(workshop.run("true", change, state={"id": "x", "ociVersion": "1.2.0"}))
    lines = log.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["prestart", "runtime", "container"]
    host = os.uname().nodename
    assert [line.split()[1] for line in lines] == [host, host, "box"]
    assert all('"status":"creating"' in line and '"id":"x"' in line for line in lines)
    assert (workshop.upper / "log").read_text().startswith("start box ")


def test_a_hook_that_fails_undoes_the_container(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["hooks"] = {"createRuntime": [{"path": "/bin/busybox", "args": ["false"]}]}

    with pytest.raises(LaunchFailure, match="createRuntime hook #0: exit status 1") as caught:
        workshop.run("true", change)
    assert caught.value.stage == "hook"


def test_calls_can_be_answered_by_an_agent(workshop: Workshop) -> None:
    path = workshop.folder / "agent.sock"
    agent = socket.socket(socket.AF_UNIX)
    agent.bind(str(path))
    agent.listen()
    received: list[bytes] = []

    def answer() -> None:
        connection, _ = agent.accept()
        data, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 1)
        received.append(data)
        asked = bytearray(80)
        fcntl.ioctl(descriptors[0], 0xC0502100, asked)
        (identifier,) = struct.unpack_from("=Q", asked)
        fcntl.ioctl(descriptors[0], 0xC0182101, struct.pack("=QqiI", identifier, 0, -errno.ENOMEDIUM, 0))
        os.close(descriptors[0])
        connection.close()

    def change(config: dict[str, Any]) -> None:
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": str(path),
            "listenerMetadata": "hello",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        }

    thread = threading.Thread(target=answer)
    thread.start()
    result = workshop.run("mkdir /x", change, state={"id": "x", "ociVersion": "1.2.0"})
    thread.join()
    agent.close()
    assert "No medium found" in result.stderr
    assert b'"metadata": "hello"' in received[0]


def test_preserved_descriptors_stay_open(workshop: Workshop) -> None:
    pid = os.fork()  # descriptors 3 and 4 of this process are pytest's
    if pid == 0:
        code = 1
        try:
            reading, writing = os.pipe()
            channels = [os.dup(fd) for fd in (reading, writing)]
            os.dup2(channels[0], 3)
            os.dup2(channels[1], 4)
            os.write(4, b"through\n")
            result = workshop.run("read x <&3; echo got $x; ls /proc/self/fd | wc -l", preserve=2)
            code = 0 if result.stdout.split() == ["got", "through", "6"] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
