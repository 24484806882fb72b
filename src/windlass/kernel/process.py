"""The calling process's own attributes, and what /proc says of others."""

from __future__ import annotations

import errno
import os
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from windlass.kernel import capabilities
from windlass.kernel.mount_options import MOUNT_ATTR_RDONLY
from windlass.kernel.mounts import open_tree_clone, set_attributes
from windlass.kernel.syscalls import CLOSE_RANGE, attempt, call, number_of

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME = 1, 4, 15
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_CLOSE_RANGE_CLOEXEC: Final = 4
_ALL_FDS: Final = 0xFFFFFFFF
_KEYCTL_JOIN_SESSION_KEYRING: Final = 1
_SIG_SETMASK: Final = 2
_SIGNAL_SET: Final = 8
_LAST_SIGNAL: Final = 64
_WHO_PROCESS: Final = 1
_IO_CLASSES: Final = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_SCHEDULER_FLAGS: Final = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
_POLICIES: Final = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
_PERSONALITIES: Final = {"LINUX": 0x0000, "LINUX32": 0x0008}
RLIM_INFINITY: Final = 2**64 - 1


def _prctl(name: str, option: int, a: int = 0) -> None:
    call(f"prctl({name})", number_of("prctl"), option, a)


def set_no_new_privs() -> None:
    """From now on execve grants nothing (PR_SET_NO_NEW_PRIVS). Irrevocable."""
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def set_child_subreaper() -> None:
    """Orphans below this process become its children."""
    _prctl("PR_SET_CHILD_SUBREAPER", _PR_SET_CHILD_SUBREAPER, 1)


def set_parent_death_signal(number: int) -> None:
    """The signal that this process gets when its parent ends; 0 for none. The kernel clears it at a change of uid."""
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, number)


def set_dumpable(dumpable: bool) -> None:
    """Whether processes of the same user may look into this one (ptrace, /proc/PID/{exe,fd,mem}). execve sets it."""
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, int(dumpable))


def reset_signals() -> None:
    """All signals get their default action, and none is blocked: execve(2) would keep what is ignored or blocked.

    By system calls of our own: asking Python for each of them touches a few hundred pages of a forked process.
    """
    number, default = number_of("rt_sigaction"), bytes(32)  # struct sigaction: SIG_DFL, no flags, an empty mask
    for signum in range(1, _LAST_SIGNAL + 1):
        attempt(number, signum, default, 0, _SIGNAL_SET)  # SIGKILL and SIGSTOP are refused
    call("rt_sigprocmask", number_of("rt_sigprocmask"), _SIG_SETMASK, bytes(_SIGNAL_SET), 0, _SIGNAL_SET)


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from `first` on, whoever opened it, to be closed by execve."""
    call("close_range", CLOSE_RANGE, first, _ALL_FDS, _CLOSE_RANGE_CLOEXEC)


def close_range(first: int, last: int) -> None:
    """Close the descriptors `first` to `last`, both included."""
    if first <= last:
        call("close_range", CLOSE_RANGE, first, last, 0)


def join_new_session_keyring(name: str) -> None:
    """A new session keyring (keyrings(7)), so that keys of the caller cannot be used. A kernel without keyrings, or
    one whose quota is used up, leaves the process with the old one: ENOSYS, EDQUOT are the caller's to judge."""
    encoded = name.encode() + b"\0"
    call("keyctl", number_of("keyctl"), _KEYCTL_JOIN_SESSION_KEYRING, encoded)


@contextmanager
def filesystem_identity(uid: int, gid: int) -> Iterator[None]:
    """Make files as this user for the length of the block (setfsuid(2)), with all capabilities kept."""
    before = capabilities.get_sets()
    call("setfsgid", number_of("setfsgid"), gid)
    call("setfsuid", number_of("setfsuid"), uid)
    try:
        # Going from 0 to another takes the capabilities that concern files away.
        capabilities.set_sets(effective=before.effective, permitted=before.permitted, inheritable=before.inheritable)
        yield
    finally:
        call("setfsuid", number_of("setfsuid"), os.geteuid())
        call("setfsgid", number_of("setfsgid"), os.getegid())


def set_personality(domain: str) -> None:
    """personality(2); `LINUX` or `LINUX32`."""
    if domain not in _PERSONALITIES:
        raise OSError(errno.EINVAL, "unknown personality", domain)
    call("personality", number_of("personality"), _PERSONALITIES[domain])


def set_hostname(name: str) -> None:
    """The UTS namespace's host name."""
    encoded = os.fsencode(name)
    call("sethostname", number_of("sethostname"), encoded, len(encoded), about=name)


def set_domainname(name: str) -> None:
    """The UTS namespace's NIS domain name."""
    encoded = os.fsencode(name)
    call("setdomainname", number_of("setdomainname"), encoded, len(encoded), about=name)


def set_io_priority(io_class: str, priority: int) -> None:
    """ioprio_set(2); class `IOPRIO_CLASS_RT`, `_BE` or `_IDLE`, priority 0 to 7."""
    if io_class not in _IO_CLASSES or not 0 <= priority <= 7:
        raise OSError(errno.EINVAL, "invalid I/O priority", f"{io_class} {priority}")
    call("ioprio_set", number_of("ioprio_set"), _WHO_PROCESS, 0, _IO_CLASSES[io_class] << 13 | priority)


def pack_scheduler(scheduler: dict[str, object]) -> bytes:
    """An OCI `process.scheduler` as struct sched_attr (sched_setattr(2)). `ValueError` for an unknown name."""
    policy, names = scheduler.get("policy"), scheduler.get("flags") or []
    assert isinstance(names, list)
    if policy not in _POLICIES:
        raise ValueError(f"unknown scheduling policy: {policy!r}")
    flags = 0
    for name in names:
        if name not in _SCHEDULER_FLAGS:
            raise ValueError(f"unknown scheduler flag: {name!r}")
        flags |= _SCHEDULER_FLAGS[name]
    values = [int(str(scheduler.get(key) or 0)) for key in ("nice", "priority", "runtime", "deadline", "period")]
    return struct.pack("=IIQiIQQQ", 48, _POLICIES[policy], flags, *values)


def set_scheduler(attributes: bytes) -> None:
    """sched_setattr(2) on this process, with what `pack_scheduler` made."""
    call("sched_setattr", number_of("sched_setattr"), 0, attributes, 0)


def set_rlimit(kind: int, soft: int, hard: int) -> None:
    """setrlimit(2); `RLIM_INFINITY`, or any larger number, is unlimited."""
    resource.setrlimit(kind, (_python_limit(soft), _python_limit(hard)))


def get_rlimit(kind: int) -> tuple[int, int]:
    """Soft and hard limit of this process, as unsigned numbers."""
    soft, hard = resource.getrlimit(kind)
    return unsigned(soft), unsigned(hard)


def unsigned(value: int) -> int:
    """A limit as the kernel counts: unlimited is the largest number, not -1."""
    return RLIM_INFINITY if value < 0 else min(value, RLIM_INFINITY)


def _python_limit(value: int) -> int:
    return resource.RLIM_INFINITY if unsigned(value) == RLIM_INFINITY else value


class ProcessStat(NamedTuple):
    """Fields of /proc/PID/stat. `start_time` in clock ticks since boot names, with the pid, a process for ever."""

    pid: int
    name: str
    state: str
    parent: int
    start_time: int


def read_stat(pid: int) -> ProcessStat:
    """`ProcessLookupError` if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(pid)) from None
    before, _, after = content.rpartition(b")")  # the name may contain anything, also parentheses
    fields = after.split()
    name = before.partition(b"(")[2].decode(errors="replace")
    return ProcessStat(pid, name, fields[0].decode(), int(fields[1]), int(fields[19]))


def is_process(pid: int, start_time: int) -> bool:
    """Is `pid` still the process that began at `start_time`, and not ended?"""
    try:
        stat = read_stat(pid)
    except ProcessLookupError:
        return False
    return stat.start_time == start_time and stat.state not in {"Z", "X"}


def write_oom_score_adj(value: int) -> None:
    """oom_score_adj of this process, through the procfs at /proc. Lowering it needs CAP_SYS_RESOURCE (EACCES)."""
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"%d" % value)
    finally:
        os.close(fd)


def runs_from_read_only() -> bool:
    """Is this process's executable on a read-only mount, so that nobody can write it through /proc/PID/exe?"""
    fd = os.open("/proc/self/exe", os.O_PATH | os.O_CLOEXEC)
    try:
        return bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY)
    finally:
        os.close(fd)


def open_read_only_executable(path: str) -> int:
    """A descriptor of a program for `os.execve(fd, …)` or `/proc/self/fd/N`, by a read-only mount of its own.

    Whoever runs from it cannot be the way to overwrite the program: a container that gets hold of /proc/PID/exe of a
    runtime process (CVE-2019-5736) finds a file on a read-only mount that is in no mount namespace, so nobody can
    remount it. It shares the page cache with the program itself, where a copy in memory would not.
    """
    fd = open_tree_clone(path)
    try:
        set_attributes(fd, set_=MOUNT_ATTR_RDONLY)
    except BaseException:
        os.close(fd)
        raise
    return fd
