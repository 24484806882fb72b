"""The steps that turn a process inside the container into the container's program."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import stat
import struct
from typing import Final

from windlass.kernel import capabilities, process
from windlass.kernel.syscalls import call, number_of
from windlass.runtime import plan
from windlass.runtime.init.context import Context
from windlass.runtime.wire import LaunchFailure

_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_FLAGS: Final = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}


def outlive_parent(step: plan.OutliveParent, context: Context) -> None:
    """The file system is complete; from here on our parent's death is not ours."""
    context.tell(ready=True)
    process.set_parent_death_signal(0)


def set_rlimit(step: plan.SetRlimit, context: Context) -> None:
    """setrlimit(2). A hard limit over the host's needs CAP_SYS_RESOURCE."""
    kind = getattr(resource, step.name, _MORE_LIMITS.get(step.name))
    if kind is None:
        raise LaunchFailure("rlimit", f"invalid rlimit type: {step.name}", errno.EINVAL)
    try:
        process.set_rlimit(kind, step.soft, step.hard)
    except (OSError, ValueError) as error:
        # Python says ValueError for EPERM and EINVAL alike.
        number = getattr(error, "errno", None) or errno.EPERM
        message = (
            f"error setting rlimit type {kind} ({step.name} {step.soft}:{step.hard}): {os.strerror(number).lower()}"
        )
        raise LaunchFailure("rlimit", message, number) from None


# Those that Python's module does not name (getrlimit(2)).
_MORE_LIMITS: Final = {
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}


def set_oom_score(step: plan.SetOomScore, context: Context) -> None:
    """oom_score_adj; a value that the process has already needs no right to be set."""
    try:
        context.write_proc(
            "self/oom_score_adj" if context.proc < 0 else f"{_own(context)}/oom_score_adj", str(step.value)
        )
    except OSError as error:
        raise LaunchFailure(
            "oom", f"write oom_score_adj {step.value}: {os.strerror(error.errno or 0)}", error.errno or 0
        ) from None


def _own(context: Context) -> str:
    """Our directory in the host's procfs. `self` is a link, and links are not followed there."""
    return os.readlink("self", dir_fd=context.proc)


def new_session_keyring(step: plan.NewSessionKeyring, context: Context) -> None:
    """Keys of the host cannot be found from here; a kernel without keyrings has none to hide."""
    try:
        process.join_new_session_keyring(step.name)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise


def set_exec_label(step: plan.SetExecLabel, context: Context) -> None:
    """What the kernel's security module gives to the program at its execve(2)."""
    own = _own(context)
    text = f"exec {step.label}" if step.module == "apparmor" else step.label
    names = ("attr/apparmor/exec", "attr/exec") if step.module == "apparmor" else ("attr/exec",)
    for name in names:
        try:
            context.write_proc(f"{own}/{name}", text)
        except FileNotFoundError:
            continue
        except OSError as error:
            break_on = os.strerror(error.errno or 0).lower()
            raise LaunchFailure(
                "label", f"unable to apply {step.module} profile: {step.label}: {break_on}", error.errno or 0
            ) from None
        return
    raise LaunchFailure(
        "label", f"{step.module} is not available on this host, but {step.label!r} is asked for", errno.ENOTSUP
    )


def set_no_new_privileges(step: plan.SetNoNewPrivileges, context: Context) -> None:
    """execve(2) gives nothing from now on."""
    process.set_no_new_privs()


def load_seccomp(step: plan.LoadSeccomp, context: Context) -> None:
    """Install the filter that was compiled beforehand."""
    if not context.seccomp:
        return
    flags = 0
    for name in step.flags:
        if name not in _SECCOMP_FLAGS:
            raise LaunchFailure("seccomp", f"unknown seccomp flag: {name}", errno.EINVAL)
        flags |= _SECCOMP_FLAGS[name]
    instructions = ctypes.create_string_buffer(context.seccomp, len(context.seccomp))
    program = struct.pack("=HxxxxxxQ", len(context.seccomp) // 8, ctypes.addressof(instructions))
    call("seccomp", number_of("seccomp"), _SECCOMP_SET_MODE_FILTER, flags, program)


def drop_bounding(step: plan.DropBounding, context: Context) -> None:
    """No program can ever have what is dropped here."""
    capabilities.drop_bounding(capabilities.parse_caps(step.keep), context.last_capability)


def set_user(step: plan.SetUser, context: Context) -> None:
    """Become the user; groups first, while we may."""
    capabilities.keep_over_setuid(True)
    try:
        os.setgroups(step.groups)
    except PermissionError:
        # A user namespace that was made without privilege denies it (user_namespaces(7)).
        if step.groups:
            raise
    os.setresgid(step.gid, step.gid, step.gid)
    os.setresuid(step.uid, step.uid, step.uid)
    if step.umask is not None:
        os.umask(step.umask)


def set_capabilities(step: plan.SetCapabilities, context: Context) -> None:
    """The thread's sets. Ambient ones must be inheritable too, so those and only those that the document names are."""
    wanted = {name: capabilities.parse_caps(getattr(step, name)) for name in ("effective", "permitted", "inheritable")}
    # What the host itself has not cannot be given (a container in a container): the rest is.
    available = capabilities.of_process().permitted
    capabilities.set_sets(
        effective=wanted["effective"] & available,
        permitted=wanted["permitted"] & available,
        inheritable=wanted["inheritable"] & available,
    )
    if step.ambient:
        capabilities.set_ambient(capabilities.parse_caps(step.ambient) & available)


def change_directory(step: plan.ChangeDirectory, context: Context) -> None:
    """chdir(2), then proof that it is inside: a descriptor that leaked would lead out (CVE-2024-21626)."""
    try:
        os.chdir(step.path)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        message = f'chdir to cwd ("{step.path}") set in config.json failed: {reason}'
        raise LaunchFailure("cwd", message, error.errno or 0) from None
    try:
        inside = os.getcwd().startswith("/")
    except FileNotFoundError:
        inside = False
    if not inside:
        raise LaunchFailure(
            "cwd", "current working directory is outside of container mount namespace root", errno.EXDEV
        )


def close_descriptors(step: plan.CloseDescriptors, context: Context) -> None:
    """Whatever was opened by whomever, execve(2) closes it."""
    process.close_on_exec_from(step.first + context.preserve)


def execute(step: plan.Execute, context: Context) -> None:
    """Find the program and become it. Raises LaunchFailure with runc's words."""
    environment = dict(entry.partition("=")[::2] for entry in step.env if "=" in entry)
    program = find_program(step.args[0], environment.get("PATH", ""))
    try:
        os.execve(program, list(step.args), environment)  # noqa: S606 - the very purpose
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise LaunchFailure("exec", f"exec {program}: {reason}", error.errno or 0) from None


def find_program(name: str, path: str) -> str:
    """The program that execvp(3) would find. Raises LaunchFailure: ENOENT (127) or EACCES (126)."""
    if "/" in name:
        try:
            status = os.stat(name)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise LaunchFailure("exec", f'exec: "{name}": stat {name}: {reason}', error.errno or 0) from None
        if stat.S_ISDIR(status.st_mode):
            raise LaunchFailure("exec", f'exec: "{name}": is a directory', errno.EACCES)
        if not os.access(name, os.X_OK):
            raise LaunchFailure("exec", f'exec: "{name}": permission denied', errno.EACCES)
        return name
    refused = False
    for directory in path.split(":"):
        candidate = f"{directory or '.'}/{name}"
        try:
            if not stat.S_ISREG(os.stat(candidate).st_mode):
                continue
        except OSError:
            continue
        if os.access(candidate, os.X_OK):
            return candidate
        refused = True
    if refused:
        raise LaunchFailure("exec", f'exec: "{name}": permission denied', errno.EACCES)
    raise LaunchFailure("exec", f'exec: "{name}": executable file not found in $PATH', errno.ENOENT)
