"""The steps that decide what the program may do: limits, keys, labels, filter, user, capabilities."""

from __future__ import annotations

import errno
import os

from windlass.kernel import capabilities, lsm, process
from windlass.runtime.init.context import Context
from windlass.runtime.plan import steps as plan
from windlass.runtime.wire import LaunchFailure


def set_oom_score(step: plan.SetOomScore, context: Context) -> None:
    """oom_score_adj."""
    try:
        process.write_oom_score_adj(step.value)  # the host's /proc is still at its place
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise LaunchFailure("oom", f"write oom_score_adj {step.value}: {reason}", error.errno or 0) from None


def outlive_parent(step: plan.OutliveParent, context: Context) -> None:
    """The container is complete; from here on our parent's death is not ours."""
    context.mark_ready()
    process.set_parent_death_signal(0)


def new_session_keyring(step: plan.NewSessionKeyring, context: Context) -> None:
    """Keys of the host cannot be found from here; a kernel without keyrings has none to hide."""
    try:
        process.join_new_session_keyring(step.name)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise


def set_exec_label(step: plan.SetExecLabel, context: Context) -> None:
    """What the kernel's security module gives to the program at its execve(2); through the host's procfs."""
    try:
        if step.module == "apparmor":
            lsm.set_apparmor_exec(step.label, proc=context.proc)
        else:
            lsm.set_selinux_exec(step.label, proc=context.proc, enabled=True)
    except OSError as error:
        message = f"unable to apply {step.module} profile: {error.strerror}"
        raise LaunchFailure("label", message, error.errno or 0) from None


def set_rlimit(step: plan.SetRlimit, context: Context) -> None:
    """setrlimit(2). A hard limit over the host's needs CAP_SYS_RESOURCE; a default gives way."""
    try:
        process.set_rlimit(step.number, step.soft, step.hard)
    except (OSError, ValueError) as error:
        # Python says ValueError for EPERM and EINVAL alike.
        number = getattr(error, "errno", None) or errno.EPERM
        if not step.optional or number != errno.EPERM:
            reason = os.strerror(number).lower()
            message = f"error setting rlimit type {step.number} ({step.name}={step.soft}:{step.hard}): {reason}"
            raise LaunchFailure("rlimit", message, number) from None
        hard = process.get_rlimit(step.number)[1]
        soft = min(process.unsigned(step.soft), hard)
        process.set_rlimit(step.number, soft, hard)
        context.tell(warning=f"{step.name}: the host grants {hard}, not {step.hard}")


def set_no_new_privileges(step: plan.SetNoNewPrivileges, context: Context) -> None:
    """execve(2) gives nothing from now on."""
    process.set_no_new_privs()


def load_seccomp(step: plan.LoadSeccomp, context: Context) -> None:
    """Install the filter that was compiled beforehand.

    With a listener, the parent takes the descriptor of the notifications out of this process by its number: after the
    filter is in force, not even a write may be possible.
    """
    if context.filter is None:
        raise LaunchFailure("seccomp", "the filter has not been compiled", errno.EINVAL)
    if not step.listener:
        context.filter.install(flags=step.flags)
        return
    free = os.dup(0)
    os.close(free)
    context.tell(listener=free)
    context.filter.install(flags=step.flags, listener=True)
    context.await_go()


def drop_bounding(step: plan.DropBounding, context: Context) -> None:
    """No program can ever have what is dropped here."""
    capabilities.drop_bounding(step.keep, context.last_capability)


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
    os.umask(0o022 if step.umask is None else step.umask)


def set_capabilities(step: plan.SetCapabilities, context: Context) -> None:
    """The thread's sets; what we have not ourselves cannot be given, and is an error."""
    try:
        capabilities.set_sets(effective=step.effective, permitted=step.permitted, inheritable=step.inheritable)
    except PermissionError:
        lacking = ", ".join(capabilities.names_of(step.permitted & ~_permitted()))
        message = f"unable to apply caps: operation not permitted (this host cannot grant {lacking})"
        raise LaunchFailure("capabilities", message, errno.EPERM) from None
    if step.ambient:
        capabilities.set_ambient(step.ambient)


def _permitted() -> int:
    return capabilities.get_sets().permitted
