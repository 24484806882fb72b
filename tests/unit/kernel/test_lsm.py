"""Labels for processes: what this host has, what it has not, and that no image decides where a label is written."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from windlass.kernel import apparmor, lsm, mounts
from windlass.kernel.mount_options import MS_PRIVATE
from windlass.kernel.namespaces import CLONE_NEWNS, unshare

HAS_APPARMOR = lsm.apparmor_enabled() and os.geteuid() == 0
needs_apparmor = pytest.mark.skipif(not HAS_APPARMOR, reason="this kernel has no AppArmor")
PROFILE = f"windlass-test-{os.getpid()}"


# --- the text of the default profile


def pattern(glob: str) -> re.Pattern[str]:
    """apparmor.d(5), "Globbing (AARE)": `**` all, `*` and `?` all but a slash, so too a negated bracket expression."""
    parts = re.split(r"(\*\*|\*|\?|\[\^[^\]]*\])", glob)
    known = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile(
        "".join(
            known.get(part) or (f"[^/{part[2:-1]}]" if part.startswith("[^") else re.escape(part)) for part in parts
        )
    )


def denied(path: str, access: str) -> bool:
    rules = re.findall(r"deny (/\S*) (\w+),", apparmor.default_profile("x"))
    return any(access in letters and pattern(glob).fullmatch(path) for glob, letters in rules)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/proc/sysrq-trigger",
            "/proc/kcore",
            "/proc/uptime",
            "/proc/irq/1/smp_affinity",
            "/proc/sys/kernel/core_pattern",
        ),
        *(
            "/proc/sys/kernel/hostname",
            "/proc/sys/vm/swappiness",
            "/proc/sys/fs/file-max",
            "/proc/scsi/scsi",
            "/proc/s/x",
        ),
        *("/proc/sys/kernel/sched_rt_runtime_us", "/proc/sysvipc/shm", "/proc/sys/user/max_user_namespaces"),
        *(
            "/sys/kernel/uevent_helper",
            "/sys/fs/selinux/load",
            "/sys/fs/bpf/x",
            "/sys/module/x/parameters/y",
            "/sys/f/x",
        ),
        *("/sys/firmware/efi/efivars/x", "/sys/fs/cgroups/x", "/sys/class/leds/x/trigger", "/sys/fs/cgro/x"),
    ],
)
def test_the_default_profile_keeps_what_is_the_hosts(path: str) -> None:
    assert denied(path, "w")


@pytest.mark.parametrize(
    "path",
    [
        *("/proc/1/attr/exec", "/proc/12/oom_score_adj", "/proc/sys/kernel/shmmax", "/proc/sys/net/ipv4/ip_forward"),
        *("/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/cgroup.procs", "/etc/passwd", "/dev/null", "/tmp/x", "/system/x"),
    ],
)
def test_the_default_profile_leaves_what_is_the_containers(path: str) -> None:
    assert not denied(path, "w")


def test_the_default_profile_lets_proc_and_sys_be_read_but_for_secrets() -> None:
    assert not denied("/proc/meminfo", "r")
    assert not denied("/sys/class/net/eth0/address", "r")
    assert denied("/proc/kcore", "r")
    assert denied("/sys/firmware/dmi/tables/DMI", "r")
    assert denied("/sys/devices/virtual/powercap/intel-rapl/enabled", "r")


@pytest.mark.parametrize("name", ["", "a b", "a{", "x,\n}", "*", "a" * 256])
def test_a_profile_name_cannot_carry_rules(name: str) -> None:
    with pytest.raises(OSError, match="invalid apparmor profile name") as caught:
        apparmor.default_profile(name)
    assert caught.value.errno == errno.EINVAL


# --- reading labels


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("unconfined\n", lsm.Label("unconfined")),
        ("docker-default (enforce)\n", lsm.Label("docker-default", "enforce")),
        ("/usr/bin/man (complain)", lsm.Label("/usr/bin/man", "complain")),
        ("odd name (x) (kill)\0", lsm.Label("odd name (x)", "kill")),
    ],
)
def test_labels_as_the_kernel_shows_them(text: str, label: lsm.Label) -> None:
    assert lsm.parse_label(text) == label


@pytest.mark.parametrize("label", ["", "user", "u:r", "u:r:t:s0 x", 'u:r:t:s0"', "u:r:t:s0\n"])
def test_other_selinux_labels_are_refused(label: str) -> None:
    with pytest.raises(OSError, match="invalid SELinux label"):
        lsm.check_context(label)


def test_a_mount_has_its_label_among_its_options() -> None:
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    assert lsm.mount_context("", label) == f'context="{label}"'
    assert lsm.mount_context("size=1m", label) == f'size=1m,context="{label}"'


# --- what is asked for and absent


@pytest.mark.skipif(lsm.apparmor_enabled(), reason="this kernel has AppArmor")
def test_without_apparmor_a_profile_is_an_error() -> None:
    with pytest.raises(OSError, match="AppArmor is not enabled here") as caught:
        lsm.require_apparmor("docker-default")
    assert caught.value.errno == errno.EOPNOTSUPP
    assert lsm.apparmor_profiles() == {}
    with pytest.raises(OSError, match="AppArmor is not enabled here"):
        apparmor.load_profile(b"")


@pytest.mark.skipif(lsm.selinux_enabled(), reason="this kernel has SELinux")
def test_without_selinux_a_label_is_an_error() -> None:
    with pytest.raises(OSError, match="SELinux is not enabled here") as caught:
        lsm.set_selinux_exec("system_u:system_r:container_t:s0")
    assert caught.value.errno == errno.EOPNOTSUPP
    assert not lsm.selinux_enforcing()


# --- an image's own /proc


def test_a_directory_that_is_not_procfs_takes_no_label(tmp_path: Path) -> None:
    attributes = tmp_path / "thread-self" / "attr"
    attributes.mkdir(parents=True)
    (attributes / "exec").write_text("")
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match="not a file of a proc file system") as caught:
            lsm.set_apparmor_exec("x", proc=fd)
        assert caught.value.errno == errno.EPERM
        assert (attributes / "exec").read_text() == ""
    finally:
        os.close(fd)


def in_a_child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 255)
        finally:
            os._exit(254)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.root
def test_a_mount_over_the_attribute_files_is_not_followed(tmp_path: Path) -> None:
    def work() -> None:
        unshare(CLONE_NEWNS)
        root = os.open("/", os.O_PATH | os.O_DIRECTORY)
        mounts.set_attributes(root, propagation=MS_PRIVATE, recursive=True)
        place = os.open(f"/proc/{os.getpid()}/attr", os.O_PATH | os.O_DIRECTORY)
        mounts.move_mount(mounts.open_tree_clone(str(tmp_path)), place)
        assert os.listdir(f"/proc/{os.getpid()}/attr") == ["exec"]
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        lsm._attribute(os.getpid(), proc, ("exec",), os.O_WRONLY)

    (tmp_path / "exec").write_text("")
    assert in_a_child(work) == errno.EXDEV


# --- a kernel with AppArmor (in the virtual machine)


@pytest.fixture
def profile() -> str:
    apparmor.load_profile(apparmor.compile_profile(apparmor.default_profile(PROFILE)))
    return PROFILE


def confined(profile: str, program: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program under a profile."""
    return subprocess.run(
        [sys.executable, "-IS", "-c", program],
        preexec_fn=lambda: lsm.set_apparmor_exec(profile),
        capture_output=True,
        text=True,
        check=False,
    )


@needs_apparmor
def test_profiles_are_loaded_listed_and_removed(profile: str) -> None:
    assert lsm.apparmor_profiles()[profile] == "enforce"
    lsm.require_apparmor(profile)
    apparmor.ensure_default_profile(profile)
    apparmor.remove_profile(profile)
    assert profile not in lsm.apparmor_profiles()
    with pytest.raises(OSError, match="no such file") as caught:
        apparmor.remove_profile(profile)
    assert caught.value.errno == errno.ENOENT
    apparmor.ensure_default_profile(profile)
    assert profile in lsm.apparmor_profiles()


@needs_apparmor
def test_a_program_runs_under_its_profile(profile: str) -> None:
    done = confined(profile, "print(open('/proc/self/attr/current').read(), end='')")
    assert (done.returncode, done.stdout) == (0, f"{profile} (enforce)\n"), done.stderr
    assert lsm.apparmor_label() == lsm.Label("unconfined")


@needs_apparmor
def test_the_label_of_another_process_is_read(profile: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-IS", "-c", "print(1, flush=True); input()"],
        preexec_fn=lambda: lsm.set_apparmor_exec(profile),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert lsm.apparmor_label(process.pid) == lsm.Label(profile, "enforce")
        process.kill()


@needs_apparmor
@pytest.mark.parametrize(
    "program",
    [
        "open('/proc/sys/kernel/core_pattern', 'w')",
        "open('/proc/sysrq-trigger', 'w')",
        "open('/proc/kcore', 'rb')",
        "open('/sys/kernel/uevent_seqnum', 'r+')",
        "open('/sys/kernel/security/apparmor/profiles')",
        "import ctypes, os; c = ctypes.CDLL(None, use_errno=True); r = c.mount(b'x', b'/mnt', b'tmpfs', 0, None);"
        "raise PermissionError if r and ctypes.get_errno() == 13 else SystemExit(3)",
    ],
)
def test_the_profile_refuses_even_root(profile: str, program: str) -> None:
    done = confined(profile, program)
    assert done.returncode == 1
    assert "PermissionError" in done.stderr


@needs_apparmor
@pytest.mark.parametrize(
    "program",
    [
        "open('/tmp/allowed', 'w').write('x')",
        "open('/proc/sys/kernel/shmmni', 'r+')",
        "open('/proc/sys/net/ipv4/ip_forward', 'r+')",
        "open('/proc/meminfo').read()",
        "import os, signal; pid = os.fork() or signal.pause(); os.kill(pid, 9); os.waitpid(pid, 0)",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(('127.0.0.1', 0)); socket.socketpair()",
    ],
)
def test_the_profile_leaves_the_usual_things(profile: str, program: str) -> None:
    done = confined(profile, program)
    assert done.returncode == 0, done.stderr


@needs_apparmor
def test_a_profile_that_is_not_loaded_is_an_error() -> None:
    with pytest.raises(OSError, match="apparmor profile 'windlass-missing' is not loaded") as caught:
        lsm.require_apparmor("windlass-missing")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(OSError, match="is not loaded") as caught:
        lsm.set_apparmor_exec("windlass-missing")
    assert caught.value.errno == errno.ENOENT


@needs_apparmor
def test_a_profile_with_an_error_is_refused_with_the_parsers_words() -> None:
    with pytest.raises(OSError, match=r"apparmor_parser refused the profile: .*syntax error"):
        apparmor.compile_profile("profile x { nonsense }")


@needs_apparmor
def test_unconfined_is_a_label_too() -> None:
    done = confined("unconfined", "print(open('/proc/self/attr/current').read(), end='')")
    assert done.stdout == "unconfined\n", done.stderr
