"""Filters in the kernel: in a child process of the test, which tries calls and tells what came of them."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import signal
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from windlass.kernel import process
from windlass.kernel.seccomp import compile_filter, default_profile, install
from windlass.kernel.seccomp.install import flag_bits
from windlass.kernel.syscalls import CLONE3

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="call numbers of x86_64")

LIBRARY = ctypes.CDLL(None, use_errno=True)
GETPPID, PERSONALITY, SOCKET, UNSHARE = 110, 135, 41, 272


def call(number: int, *arguments: int) -> int:
    """The call's errno, 0 for success."""
    words = [ctypes.c_ulong(argument % 2**64) for argument in arguments]
    return ctypes.get_errno() if LIBRARY.syscall(ctypes.c_long(number), *words) == -1 else 0


def under(profile: dict[str, Any], attempt: Callable[[], list[int]], flags: int = 0) -> list[int] | int:
    """What `attempt` returns below the filter, or the signal that ended the child."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            process.set_no_new_privs()
            install(compile_filter(profile), flags=flags)
            os.write(writing, struct.pack("=16i", *(attempt() + [-1] * 16)[:16]))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    return [value for value in struct.unpack("=16i", told) if value != -1]


def rule(name: str, action: str, **more: Any) -> dict[str, Any]:
    return {"names": [name], "action": action, **more}


def test_the_default_profile_does_what_docker_s_does() -> None:
    profile = default_profile(["CAP_CHOWN"])
    af_alg, af_vsock, af_inet = 38, 40, 2

    def attempt() -> list[int]:
        return [
            call(GETPPID),
            call(UNSHARE, 0x10000000),
            call(CLONE3, 0, 0),
            call(SOCKET, af_inet, 1, 0),
            call(SOCKET, af_alg, 5, 0),
            call(SOCKET, af_vsock, 1, 0),
            call(SOCKET, 2**32 + af_alg, 5, 0),
            call(PERSONALITY, 0xFFFFFFFF),
            call(PERSONALITY, 0x40000),
            call(600),
            call(0x40000000 + 110),
        ]

    assert under(profile, attempt) == [
        0, errno.EPERM, errno.ENOSYS, 0, errno.EPERM, errno.EPERM, errno.EPERM, 0, errno.EPERM, errno.ENOSYS,
        errno.ENOSYS,
    ]  # fmt: skip


def test_arguments_are_compared_as_64_bits() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            rule("getppid", "SCMP_ACT_ERRNO", errnoRet=77, args=[{"index": 3, "op": "SCMP_CMP_GT", "value": 2**33}])
        ],
    }
    attempts = (0, 2**33, 2**33 + 1, 2**32 + 5, 2**63)
    assert under(profile, lambda: [call(GETPPID, 0, 0, 0, value) for value in attempts]) == [0, 0, 77, 0, 77]


@pytest.mark.parametrize(
    ("action", "number"),
    [
        ("SCMP_ACT_KILL", signal.SIGSYS),
        ("SCMP_ACT_KILL_PROCESS", signal.SIGSYS),
        ("SCMP_ACT_TRAP", signal.SIGSYS),
    ],
)
def test_actions_that_end_the_process(action: str, number: int) -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("getppid", action)]}
    assert under(profile, lambda: [call(GETPPID)]) == number


@pytest.mark.parametrize(("action", "result"), [("SCMP_ACT_LOG", 0), ("SCMP_ACT_TRACE", errno.ENOSYS)])
def test_actions_that_somebody_else_looks_at(action: str, result: int) -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("getppid", action)]}
    assert under(profile, lambda: [call(GETPPID)]) == [result]


def test_flags_are_taken_by_the_kernel() -> None:
    names = ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("getppid", "SCMP_ACT_ERRNO", errnoRet=5)]}
    assert under(profile, lambda: [call(GETPPID)], flag_bits(names)) == [5]
    with pytest.raises(ValueError, match="NO_SUCH"):
        flag_bits(["NO_SUCH"])


def test_a_listener_answers_in_place_of_the_kernel() -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("getppid", "SCMP_ACT_NOTIFY")]}
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            process.set_no_new_privs()
            listener = install(compile_filter(profile), listener=True)
            socket.send_fds(theirs, [b"x"], [listener])
            os._exit(call(GETPPID))
        finally:
            os._exit(255)
    theirs.close()
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    import fcntl

    notification = array.array("B", bytes(80))
    fcntl.ioctl(fds[0], 0xC0502100, notification)  # SECCOMP_IOCTL_NOTIF_RECV
    identifier, asking, _, number = struct.unpack_from("=QIIi", notification)
    assert (asking, number) == (pid, GETPPID)
    fcntl.ioctl(fds[0], 0xC0182101, struct.pack("=QqiI", identifier, 0, -42, 0))  # SECCOMP_IOCTL_NOTIF_SEND
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    os.close(fds[0])
    ours.close()
