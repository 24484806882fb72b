"""What a process asks of the kernel for itself: namespaces, capabilities, terminals, pidfds, attributes."""

from __future__ import annotations

import errno
import os
import resource
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kernel import capabilities, namespaces, pidfd, process, pty
from windlass.kernel.idmap import make_table
from windlass.kernel.syscalls import attempt, call, number_of, text


def child(test: Callable[[], None], flags: int = 0) -> None:
    """Run in a clone of this process, in new namespaces."""
    reading, writing = os.pipe()
    made = namespaces.clone3(flags)
    if made.pid == 0:
        code = 1
        try:
            test()
            code = 0
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        words = pipe.read()
    code = pidfd.reap(made.pidfd)
    os.close(made.pidfd)
    assert code == 0, words


# --- system calls


def test_a_failing_call_names_itself_and_its_object() -> None:
    with pytest.raises(OSError, match="umount2: ") as caught:
        call("umount2", number_of("umount2"), text("/no/such/place"), 0, about="/no/such/place")
    assert caught.value.errno in {errno.ENOENT, errno.EPERM}
    assert caught.value.filename == "/no/such/place"
    assert attempt(number_of("umount2"), text("/no/such/place")) == -(caught.value.errno or 0)


def test_a_string_with_a_nul_is_refused_and_an_unknown_call_is_not_guessed() -> None:
    with pytest.raises(OSError, match="NUL"):
        text("a\0b")
    assert text("/x") == b"/x"
    with pytest.raises(OSError, match="no_such_call") as caught:
        number_of("no_such_call")
    assert caught.value.errno == errno.ENOSYS


# --- clone3 and namespaces


def test_a_clone_is_a_copy_with_a_pidfd_that_is_closed_on_exec() -> None:
    made = namespaces.clone3()
    if made.pid == 0:
        os._exit(made.pidfd + 43)
    assert not os.get_inheritable(made.pidfd)
    assert pidfd.wait_end(made.pidfd, 10)
    assert pidfd.has_ended(made.pidfd)
    assert pidfd.reap(made.pidfd) == 42
    with pytest.raises(ProcessLookupError):
        pidfd.send_signal(made.pidfd, signal.SIGTERM)
    os.close(made.pidfd)


@pytest.mark.root
def test_a_clone_in_new_namespaces() -> None:
    own = {kind: namespaces.identity(kind) for kind in namespaces.FLAGS}

    def test() -> None:
        assert os.getpid() == 1
        for kind in ("mount", "uts", "ipc", "network", "cgroup"):
            assert namespaces.identity(kind) != own[kind]
        assert namespaces.identity("time") == own["time"]

    flags = 0
    for kind in ("mount", "uts", "ipc", "network", "cgroup", "pid"):
        flags |= namespaces.FLAGS[kind]
    child(test, flags)


@pytest.mark.root
def test_a_sibling_is_our_parent_s_child() -> None:
    reading, writing = os.pipe()
    made = namespaces.clone3()
    if made.pid == 0:
        again = namespaces.clone3(pidfd=False, parent_is_ours=True)
        if again.pid == 0:
            os._exit(7)
        os.write(writing, struct.pack("=i", again.pid))
        os._exit(0)
    (pid,) = struct.unpack("=i", os.read(reading, 4))
    assert pidfd.reap(made.pidfd) == 0
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    for fd in (made.pidfd, reading, writing):
        os.close(fd)


@pytest.mark.root
def test_a_namespace_of_another_process_is_joined() -> None:
    def test() -> None:
        namespaces.unshare(namespaces.CLONE_NEWUTS)
        process.set_hostname("other")
        process.set_domainname("domain")
        fd = namespaces.open_namespace("uts")
        namespaces.setns(namespaces.open_namespace("uts", os.getppid()), namespaces.CLONE_NEWUTS)
        assert os.uname().nodename != "other"
        namespaces.setns(fd, namespaces.CLONE_NEWUTS)
        assert os.uname().nodename == "other"
        with pytest.raises(OSError, match="setns"):
            namespaces.setns(fd, namespaces.CLONE_NEWNET)

    child(test)


def test_known_namespaces_are_known() -> None:
    assert namespaces.supported("mount")
    assert set(namespaces.FLAGS) == set(namespaces.FILES)


@pytest.mark.root
def test_a_table_of_identities_is_an_empty_user_namespace() -> None:
    before = len(os.listdir("/proc/self/fd"))
    fd = make_table([(0, 100000, 65536)], [(0, 100000, 65536)])
    assert os.readlink(f"/proc/self/fd/{fd}").startswith("user:[")
    os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(OSError, match="Invalid argument: 'uid_map'"):
        make_table([(0, 100000, 65536), (5, 1, 1)], [(0, 1, 1)])
    assert len(os.listdir("/proc/self/fd")) == before


# --- capabilities


@pytest.mark.parametrize(
    ("name", "number"), [("CAP_CHOWN", 0), ("chown", 0), ("cap_sys_admin", 21), ("CHECKPOINT_RESTORE", 40)]
)
def test_names_of_capabilities(name: str, number: int) -> None:
    assert capabilities.parse_caps([name]) == 1 << number


@pytest.mark.parametrize("name", ["", "CAP_", "CAP_FLY", "ALL", "CAP_CAP_CHOWN", "0"])
def test_what_is_no_capability(name: str) -> None:
    with pytest.raises(ValueError, match="unknown capability"):
        capabilities.parse_caps([name])


@given(st.sets(st.sampled_from(capabilities.NAMES)))
def test_masks_and_names_are_the_same_thing(names: set[str]) -> None:
    assert set(capabilities.names_of(capabilities.parse_caps(names))) == names
    assert capabilities.names_of(1 << 60) == ["CAP_60"]


@pytest.mark.root
def test_what_is_given_up_is_gone() -> None:
    def test() -> None:
        keep = capabilities.parse_caps(["CAP_CHOWN", "CAP_KILL"])
        capabilities.drop_bounding(keep, capabilities.last_capability())
        capabilities.keep_over_setuid(True)
        os.setresuid(1000, 1000, 1000)
        assert capabilities.get_sets().effective == 0
        assert capabilities.get_sets().permitted & keep == keep
        kill = capabilities.parse_caps(["CAP_KILL"])
        capabilities.set_sets(effective=kill, permitted=keep, inheritable=kill)
        capabilities.set_ambient(kill)
        assert capabilities.of_process() == capabilities.Sets(kill, keep, kill, keep, kill)
        with pytest.raises(PermissionError):
            capabilities.set_sets(effective=kill, permitted=1 << 21, inheritable=0)

    child(test)


# --- terminals


def test_a_terminal_and_its_size() -> None:
    pair = pty.open_pty()
    try:
        assert os.isatty(pair.slave)
        assert pty.is_slave(os.fstat(pair.slave))
        assert os.ttyname(pair.slave).endswith(f"/{pair.number}")
        pty.set_size(pair.master, 33, 70000)
        assert pty.get_size(pair.slave) == (33, 65535)
        os.write(pair.slave, b"out")
        assert os.read(pair.master, 10) == b"out"
    finally:
        os.close(pair.master)
        os.close(pair.slave)


def test_a_directory_that_is_no_devpts_gives_no_terminal() -> None:
    for path in ("/tmp", "/dev"):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        before = len(os.listdir("/proc/self/fd"))
        try:
            pair = pty.open_pty(fd)
        except OSError:
            assert len(os.listdir("/proc/self/fd")) == before
        else:  # the kernel finds the devpts beside a /dev/ptmx that is a device of its own
            assert path == "/dev"
            os.close(pair.master)
            os.close(pair.slave)
        finally:
            os.close(fd)


def test_a_terminal_becomes_the_controlling_one() -> None:
    def test() -> None:
        os.setsid()
        pair = pty.open_pty()
        pty.make_controlling(pair.slave)
        assert os.tcgetpgrp(pair.slave) == os.getpgid(0)
        assert os.path.samestat(os.stat(os.ttyname(pair.slave)), os.fstat(pair.slave))
        os.close(os.open("/dev/tty", os.O_RDWR))

    child(test)


# --- attributes


def test_signals_get_their_defaults_for_a_program() -> None:
    def test() -> None:
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        process.reset_signals()
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
        status = subprocess_status()
        assert (status["SigIgn"], status["SigBlk"]) == ("0" * 16, "0" * 16)

    child(test)


def subprocess_status() -> dict[str, str]:
    """The state of signals that a program begins with when this process executes one."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 1)
        os.execv("/bin/cat", ["cat", "/proc/self/status"])
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found = dict(line.split(":", 1) for line in pipe.read().splitlines())
    os.waitpid(pid, 0)
    return {key: value.strip() for key, value in found.items()}


def test_descriptors_are_closed_by_the_exec() -> None:
    def test() -> None:
        for fd in (10, 20):
            os.dup2(0, fd)
        process.close_on_exec_from(15)
        assert os.get_inheritable(10)
        assert not os.get_inheritable(20)
        process.close_range(10, 30)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(10)
        process.close_range(5, 4)

    child(test)


def test_limits_and_names_of_unlimited() -> None:
    def test() -> None:
        process.set_rlimit(resource.RLIMIT_CORE, 100, 200)
        assert process.get_rlimit(resource.RLIMIT_CORE) == (100, 200)
        hard = process.get_rlimit(resource.RLIMIT_CPU)[1]
        if hard == process.RLIM_INFINITY:
            process.set_rlimit(resource.RLIMIT_CPU, 2**64 - 1, 2**64 + 5)
            assert process.get_rlimit(resource.RLIMIT_CPU) == (process.RLIM_INFINITY,) * 2

    child(test)


def test_parameters_out_of_their_range_are_refused() -> None:
    with pytest.raises(OSError, match="personality"):
        process.set_personality("PLAN9")
    with pytest.raises(OSError, match="I/O priority"):
        process.set_io_priority("IOPRIO_CLASS_BE", 8)
    with pytest.raises(ValueError, match="SCHED_X"):
        process.pack_scheduler({"policy": "SCHED_X"})
    with pytest.raises(ValueError, match="FLAG_X"):
        process.pack_scheduler({"policy": "SCHED_OTHER", "flags": ["FLAG_X"]})


def test_a_process_is_known_by_its_start() -> None:
    stat = process.read_stat(os.getpid())
    assert (stat.pid, stat.parent) == (os.getpid(), os.getppid())
    assert process.is_process(os.getpid(), stat.start_time)
    assert not process.is_process(os.getpid(), stat.start_time + 1)
    ended = subprocess.Popen([sys.executable, "-c", "import ctypes; ctypes.CDLL(None).prctl(15, b') Z (', 0, 0, 0)"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    zombie = process.read_stat(ended.pid)
    assert zombie.state == "Z"
    assert not process.is_process(ended.pid, zombie.start_time)
    ended.wait()
    with pytest.raises(ProcessLookupError):
        process.read_stat(ended.pid)


@pytest.mark.root
def test_a_process_hides_and_shows_itself() -> None:
    def test() -> None:
        os.setresuid(1000, 1000, 1000)
        process.set_dumpable(True)
        assert Path("/proc/self/environ").stat().st_uid == 1000
        process.set_dumpable(False)
        assert Path("/proc/self/environ").stat().st_uid == 0

    child(test)


@pytest.mark.root
def test_oom_score() -> None:
    def test() -> None:
        process.write_oom_score_adj(321)
        assert Path("/proc/self/oom_score_adj").read_text() == "321\n"

    child(test)


def test_a_descriptor_of_another_process() -> None:
    reading, writing = os.pipe()
    ready, tell = os.pipe()
    made = namespaces.clone3()
    if made.pid == 0:
        os.dup2(writing, 77)
        os.write(tell, b"1")
        signal.pause()
    os.read(ready, 1)
    copy = pidfd.get_fd(made.pidfd, 77)
    os.write(copy, b"x")
    assert os.read(reading, 1) == b"x"
    assert not os.get_inheritable(copy)
    pidfd.send_signal(made.pidfd, signal.SIGKILL)
    assert pidfd.reap(made.pidfd) == -signal.SIGKILL
    for fd in (reading, writing, ready, tell, copy, made.pidfd):
        os.close(fd)
