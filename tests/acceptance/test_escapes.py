"""Known escapes from the containers of other runtimes, tried on ours. Each must fail to escape.

The containers are made directly by the runtime, as a monitor does. The order of steps that prevents each escape is an
invariant of the plan, too: tests/unit/runtime/test_plan.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.containers import Workshop, docker_config, temporary_image, temporary_workshop
from windlass.kernel.mounts import mountinfo
from windlass.kernel.process import open_read_only_executable
from windlass.runtime.client import Launcher
from windlass.runtime.wire import LaunchFailure

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    with temporary_image() as path:
        yield path


@pytest.fixture
def workshop(image: Path) -> Iterator[Workshop]:
    with temporary_workshop(image) as made:
        yield made


@pytest.fixture
def host_file(workshop: Workshop) -> Path:
    """Something of the host that an escape would change."""
    path = workshop.folder / "host" / "file"
    path.parent.mkdir()
    path.write_text("the host's\n")
    return path


def untouched(path: Path) -> bool:
    return path.read_text() == "the host's\n" and os.listdir(path.parent) == [path.name]


def mount_entry(target: str, source: Path | str, *options: str, kind: str = "bind") -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": str(source), "options": list(options)}


# --- CVE-2019-5736, CVE-2016-9962: the runtime's own executable, memory and descriptors


def test_a_program_from_a_read_only_mount_cannot_be_written_through_proc_even_when_it_has_ended(
    workshop: Workshop,
) -> None:
    program = workshop.folder / "runtime"
    shutil.copy("/bin/busybox", program)
    os.chmod(program, 0o755)

    def overwrite(executable: str, *descriptors: int) -> int:
        """What comes of opening the executable of a process for writing after its end, by what /proc showed of it."""
        running = subprocess.Popen(["sleep", "60"], executable=executable, pass_fds=descriptors)
        link = os.open(f"/proc/{running.pid}/exe", os.O_PATH)
        running.kill()
        running.wait()
        deadline = time.monotonic() + 5
        try:
            while True:
                try:
                    os.close(os.open(f"/proc/self/fd/{link}", os.O_WRONLY))
                except OSError as error:
                    if error.errno == errno.ETXTBSY and time.monotonic() < deadline:
                        time.sleep(0.01)  # the kernel lets go of a dead process's memory a little later
                        continue
                    return error.errno or -1
                return 0
        finally:
            os.close(link)

    held = open_read_only_executable(str(program))
    assert overwrite(f"/proc/self/fd/{held}", held) == errno.EROFS
    os.close(held)
    assert overwrite(str(program)) == 0  # so it would be without


async def test_the_launcher_runs_from_such_a_mount(tmp_path: Path) -> None:
    launcher = await Launcher.start(tmp_path)
    link = os.open(f"/proc/{launcher.pid}/exe", os.O_PATH)
    try:
        assert os.fstatvfs(link).f_flag & os.ST_RDONLY
    finally:
        os.close(link)
        await launcher.close()


def test_a_container_sees_nothing_of_the_processes_that_enter_it(workshop: Workshop) -> None:
    spy = """
    echo up
    while :; do
        for p in /proc/[0-9]*; do
            case $p in /proc/1|/proc/$$) continue;; esac
            for f in exe cwd root fd/3 fd/4 fd/5; do
                t=$(readlink $p/$f 2>/dev/null)
                case "$t" in *python*|*memfd*|*windlass*) echo "$p/$f $t";; esac
            done
        done
        [ -e /stop ] && exit
    done
    """
    rootfs = workshop.rootfs()
    upper = workshop.upper
    first = workshop.start(docker_config(["/bin/sh", "-c", spy]), rootfs=rootfs)
    first.read_until("up")
    for _ in range(15):
        assert first.execute(["true"]).finish().code == 0
    (Path(f"/proc/{first.pid}/root") / "stop").touch()
    result = first.finish()
    assert result.stdout == ""
    assert upper.exists()


def test_an_interpreter_that_is_the_runtime_itself_gets_no_writable_program(workshop: Workshop) -> None:
    rootfs = workshop.rootfs()
    (workshop.upper / "evil").write_text("#!/proc/self/exe\n")
    (workshop.upper / "evil").chmod(0o755)
    before = os.stat(sys.executable)
    with contextlib.suppress(LaunchFailure):
        workshop.run(["/evil"], rootfs=rootfs)
    after = os.stat(sys.executable)
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


# --- CVE-2019-14271: code of the image, loaded by our process after it has entered the image


def test_no_module_of_the_image_is_imported(workshop: Workshop) -> None:
    rootfs = workshop.rootfs()
    marker = workshop.folder / "imported"
    evil = f"import os\nos.open({str(marker)!r}, os.O_CREAT)\nos.open('/imported', os.O_CREAT)\n"
    names = ("encodings/ascii.py", "encodings/idna.py", "encodings/latin_1.py", "array.py", "traceback.py", "pwd.py",
             "_posixsubprocess.py", "errno.py", "encodings/__init__.py", "shutil.py", "linecache.py")  # fmt: skip
    for folder in {*filter(None, sys.path), os.path.dirname(os.__file__)}:
        for name in names:
            path = workshop.upper / folder.lstrip("/") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(evil)
    config = docker_config(["/bin/sh", "-c", "echo up; sleep 30"])
    first = workshop.start(config, rootfs=rootfs)
    first.read_until("up")
    assert first.execute(["true"]).finish().code == 0
    with pytest.raises(LaunchFailure):
        first.execute(["no-such-program"])
    with pytest.raises(LaunchFailure):
        first.execute(["true"], lambda document: document.update(args=["\udcff\0"]))
    first.signal(signal.SIGKILL)
    first.finish()
    assert not marker.exists()
    assert not (workshop.upper / "imported").exists()


# --- CVE-2024-21626: a working directory behind a leaked descriptor


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20])
def test_no_leaked_descriptor_serves_as_working_directory(workshop: Workshop, number: int) -> None:
    leaked = os.open("/", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        for path in (f"/proc/self/fd/{number}", f"/proc/self/fd/{leaked}"):
            config = docker_config(["/bin/sh", "-c", "pwd; cat ../../../etc/os-release"])
            config["process"]["cwd"] = path
            with contextlib.suppress(LaunchFailure):
                assert "PRETTY_NAME" not in workshop.start(config).finish().stdout
    finally:
        os.close(leaked)


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 9, 10, 12])
def test_neither_does_it_for_a_further_process(workshop: Workshop, number: int) -> None:
    first = workshop.start(docker_config(["/bin/sh", "-c", "echo up; sleep 30"]))
    first.read_until("up")
    with contextlib.suppress(LaunchFailure):
        again = first.execute(
            ["/bin/sh", "-c", "cat ../../../etc/os-release"], lambda d: d.update(cwd=f"/proc/self/fd/{number}")
        )
        assert "PRETTY_NAME" not in again.finish().stdout
    first.signal(signal.SIGKILL)
    first.finish()


# --- CVE-2019-19921, CVE-2023-28642, CVE-2019-16884, CVE-2023-27561, CVE-2025-52881: a /proc that is not procfs


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("target", ["/tmp", "tmp", "/../../../../tmp", "/nowhere", "./proc2"])
def test_proc_and_sys_are_not_mounted_over_a_link_of_the_image(workshop: Workshop, name: str, target: str) -> None:
    rootfs = workshop.rootfs()
    (workshop.upper / "proc2").mkdir()
    (workshop.upper / name).symlink_to(target)
    with pytest.raises(LaunchFailure, match="ordinary directory"):
        workshop.run("true", rootfs=rootfs)


@pytest.mark.parametrize("target", ["/proc", "/proc/self", "/proc/self/attr", "/proc/sys", "/proc/1/../self/attr/exec"])
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_no_volume_covers_what_the_runtime_and_the_kernel_say_there(
    workshop: Workshop, host_file: Path, target: str, kind: str
) -> None:
    entry = mount_entry(target, host_file.parent, *(["rbind"] if kind == "bind" else []), kind=kind)
    with pytest.raises(LaunchFailure, match=r"inside /proc|not of type proc"):
        workshop.run("true", lambda config: config["mounts"].append(entry))


def test_kernel_parameters_are_written_to_the_kernel_whatever_the_image_has_there(workshop: Workshop) -> None:
    rootfs = workshop.rootfs()
    (workshop.upper / "proc/sys/kernel").mkdir(parents=True)
    (workshop.upper / "proc/sys/kernel/shmmni").symlink_to("/dev/null")

    def change(config: dict[str, Any]) -> None:
        config["linux"]["sysctl"] = {"kernel.shmmni": "55"}

    assert workshop.run("cat /proc/sys/kernel/shmmni", change, rootfs=rootfs).stdout == "55\n"


# --- CVE-2021-30465, CVE-2024-45310, CVE-2026-41579, CVE-2026-47766, CVE-2019-18837: links in the way of mounts

LINKS: list[Callable[[Path], str]] = [
    str,  # absolute
    lambda host: "../../../../../../../../.." + str(host),
    lambda host: "/proc/self/root" + str(host),
    lambda host: "/proc/1/cwd/../../.." + str(host),
]


@pytest.mark.parametrize("link", LINKS)
def test_directories_for_mounts_are_made_inside(
    workshop: Workshop, host_file: Path, link: Callable[[Path], str]
) -> None:
    rootfs = workshop.rootfs()
    (workshop.upper / "way").symlink_to(link(host_file.parent))
    volume = workshop.folder / "volume"
    volume.mkdir()
    entries = [
        mount_entry("/way/made", volume, "rbind"),
        mount_entry("/way/tmp", "tmpfs", kind="tmpfs"),
    ]
    with contextlib.suppress(LaunchFailure):
        workshop.run("touch /way/made/x", lambda config: config["mounts"].extend(entries), rootfs=rootfs)
    assert untouched(host_file)


@pytest.mark.parametrize("link", LINKS)
def test_a_file_is_bound_inside(workshop: Workshop, host_file: Path, link: Callable[[Path], str]) -> None:
    rootfs = workshop.rootfs()
    (workshop.upper / "etc").mkdir()
    (workshop.upper / "etc/resolv.conf").symlink_to(link(host_file))
    source = workshop.folder / "resolv.conf"
    source.write_text("nameserver 127.0.0.1\n")
    entry = mount_entry("/etc/resolv.conf", source, "bind")
    with contextlib.suppress(LaunchFailure):
        result = workshop.run("echo evil >> /etc/resolv.conf", lambda c: c["mounts"].append(entry), rootfs=rootfs)
        assert result.code == 0
    assert untouched(host_file)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("mounted", [True, False])
def test_devices_are_made_inside(
    workshop: Workshop, host_file: Path, link: Callable[[Path], str], mounted: bool
) -> None:
    rootfs = workshop.rootfs()
    (workshop.upper / "dev").symlink_to(link(host_file.parent))

    def change(config: dict[str, Any]) -> None:
        if not mounted:
            config["mounts"] = [m for m in config["mounts"] if not m["destination"].startswith("/dev")]

    with contextlib.suppress(LaunchFailure):
        workshop.run("true", change, rootfs=rootfs)
    assert untouched(host_file)


@pytest.mark.parametrize("link", LINKS)
def test_the_working_directory_is_made_inside(workshop: Workshop, host_file: Path, link: Callable[[Path], str]) -> None:
    rootfs = workshop.rootfs()
    (workshop.upper / "way").symlink_to(link(host_file.parent))
    with contextlib.suppress(LaunchFailure):
        workshop.run("true", lambda c: c["process"].update(cwd="/way/there"), rootfs=rootfs)
    assert untouched(host_file)


def test_a_link_that_is_exchanged_all_the_time_leads_nowhere(workshop: Workshop, host_file: Path) -> None:
    volume = workshop.folder / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "b").symlink_to("../../../../../../../../../.." + str(host_file.parent))
    process = os.fork()
    if process == 0:  # exchanges as fast as it can, like a container that shares the volume
        library = ctypes.CDLL(None)
        first, second = os.fsencode(volume / "a"), os.fsencode(volume / "b")
        while True:
            library.renameat2(-100, first, -100, second, 2)
    try:
        entries = [
            mount_entry("/volume", volume, "rbind"),
            mount_entry("/volume/a/made", "tmpfs", kind="tmpfs"),
            mount_entry("/volume/a/made2", volume, "rbind"),
        ]
        for _ in range(40):
            with contextlib.suppress(LaunchFailure):
                workshop.run("true", lambda config: config["mounts"].extend(entries))
            assert untouched(host_file)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


# --- CVE-2025-31133, CVE-2025-52565: what covers a masked path, and what the console is


def test_masked_files_are_covered_by_the_real_null_device(workshop: Workshop) -> None:
    result = workshop.run("for f in /proc/keys /proc/timer_list /proc/interrupts; do stat -c %t:%T $f; done")
    assert result.stdout.split() == ["1:3"] * 3


@pytest.mark.parametrize("kind", ["link", "file", "other device"])
def test_a_null_device_of_the_image_s_own_making_is_refused(workshop: Workshop, kind: str) -> None:
    rootfs = workshop.rootfs()
    (workshop.upper / "dev").mkdir()
    null = workshop.upper / "dev/null"
    if kind == "link":
        null.symlink_to("/proc/sysrq-trigger")
    elif kind == "file":
        null.write_text("")
    else:
        os.mknod(null, 0o20666, os.makedev(1, 1))

    def without_dev(config: dict[str, Any]) -> None:
        config["mounts"] = [m for m in config["mounts"] if not m["destination"].startswith("/dev")]

    with pytest.raises(LaunchFailure, match="not the device"):
        workshop.run("true", without_dev, rootfs=rootfs)


def test_a_console_needs_a_devpts_of_the_kernel(workshop: Workshop, host_file: Path) -> None:
    rootfs = workshop.rootfs()
    (workshop.upper / "dev/pts").mkdir(parents=True)
    (workshop.upper / "dev/pts/ptmx").symlink_to(host_file)
    config = docker_config(["/bin/true"], terminal=True)
    config["mounts"] = [m for m in config["mounts"] if not m["destination"].startswith("/dev")]
    with pytest.raises(LaunchFailure) as caught:
        workshop.start(config, rootfs=rootfs)
    assert caught.value.stage == "console"
    assert untouched(host_file)


def test_the_console_is_put_inside_whatever_stands_in_its_place(workshop: Workshop, host_file: Path) -> None:
    rootfs = workshop.rootfs()
    (workshop.upper / "dev").mkdir()
    (workshop.upper / "dev/console").symlink_to("../../../../../../.." + str(host_file))
    config = docker_config(["/bin/sh", "-c", "echo evil > /dev/console; tty"], terminal=True)
    config["mounts"] = [m for m in config["mounts"] if m["destination"] != "/dev"]
    running = workshop.start(config, rootfs=rootfs)
    assert running.read_until("/dev/pts/0\r\n").split() == ["evil", "/dev/pts/0"]
    assert running.finish().code == 0
    assert untouched(host_file)


# --- CVE-2023-25809: control groups


def test_control_groups_are_read_only_and_the_container_s_own(workshop: Workshop) -> None:
    script = """
    for f in $(find /sys/fs/cgroup -name release_agent -o -name cgroup.procs -o -name tasks); do
        echo 1 2>/dev/null > $f && echo written $f
    done
    mkdir /sys/fs/cgroup/*/evil 2>/dev/null && echo made
    mount -o remount,rw /sys/fs/cgroup 2>/dev/null && echo remounted
    cat /proc/self/cgroup
    """
    result = workshop.run(script, cgroup=workshop.cgroup())
    assert all(line.endswith(":/") for line in result.stdout.splitlines()), result


# --- CVE-2022-29162, CVE-2022-27650, CVE-2022-24769; CVE-2024-40635, CVE-2026-30892


def test_inheritable_capabilities_are_empty_also_where_the_configuration_has_some(workshop: Workshop) -> None:
    def change(document: dict[str, Any]) -> None:
        sets = (document.get("process") or document)["capabilities"]
        sets["inheritable"] = list(sets["permitted"])

    assert "CapInh:\t0000000000000000" in workshop.run(["/bin/cat", "/proc/self/status"], change).stdout
    first = workshop.start(docker_config(["/bin/sh", "-c", "echo up; sleep 30"]))
    first.read_until("up")
    again = first.execute(["/bin/cat", "/proc/self/status"], change).finish()
    assert "CapInh:\t0000000000000000" in again.stdout
    first.signal(signal.SIGKILL)
    first.finish()


@pytest.mark.parametrize("identity", [2**32 - 1, 2**32, 2**31 + 2**32, -1])
def test_an_identity_beyond_the_range_does_not_become_root(workshop: Workshop, identity: int) -> None:
    with pytest.raises(LaunchFailure, match="range"):
        workshop.run("id", lambda config: config["process"]["user"].update(uid=identity))
    first = workshop.start(docker_config(["/bin/sh", "-c", "echo up; sleep 30"]))
    first.read_until("up")
    with pytest.raises(LaunchFailure, match="range"):
        first.execute(["id"], lambda document: document["user"].update(uid=identity))
    first.signal(signal.SIGKILL)
    first.finish()


# --- nothing of a container is on the host


def test_no_mount_of_a_container_appears_on_the_host(workshop: Workshop) -> None:
    first = workshop.start(docker_config(["/bin/sh", "-c", "echo up; sleep 30"]))
    first.read_until("up")
    ours = str(workshop.folder)
    assert not [mount for mount in mountinfo() if ours in mount.super_options or ours in mount.target]
    assert [mount for mount in mountinfo(first.pid) if ours in mount.super_options]
    first.signal(signal.SIGKILL)
    first.finish()


def test_the_host_s_tree_cannot_be_had_again(workshop: Workshop, host_file: Path) -> None:
    script = f"""
    cat {host_file} /proc/1/root{host_file} /proc/self/root{host_file} /../../..{host_file} 2>/dev/null
    umount / 2>/dev/null; umount -l / 2>/dev/null
    cat {host_file} 2>/dev/null
    mkdir /x && chroot /x /bin/true 2>/dev/null
    nsenter -t 1 -m cat {host_file} 2>/dev/null
    true
    """
    assert "the host's" not in workshop.run(script).stdout
