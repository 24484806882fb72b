"""Carries out a plan, step by step, in the forked child; the last step is execve(2), so it returns only by an error."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from windlass.kernel import namespaces, process
from windlass.kernel.mounts import new_filesystem
from windlass.kernel.paths import open_beneath
from windlass.runtime import hooks, plan
from windlass.runtime.init import filesystem, identity
from windlass.runtime.init.context import Context
from windlass.runtime.wire import LaunchFailure


def join_namespace(step: plan.JoinNamespace, context: Context) -> None:
    """setns(2) by path; the kernel checks that it is a namespace of that kind."""
    try:
        fd = os.open(step.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise LaunchFailure(
            "namespace", f"open {step.kind} namespace {step.path}: {reason}", error.errno or 0
        ) from None
    try:
        namespaces.setns(fd, namespaces.FLAGS[step.kind], about=step.path)
    finally:
        os.close(fd)


def unshare(step: plan.Unshare, context: Context) -> None:
    """unshare(2)."""
    flags = 0
    for kind in step.kinds:
        flags |= namespaces.FLAGS[kind]
    namespaces.unshare(flags)


def set_time_offsets(step: plan.SetTimeOffsets, context: Context) -> None:
    """Before the first process enters the namespace (time_namespaces(7))."""
    text = "".join(f"{clock} {seconds} {nanoseconds}\n" for clock, seconds, nanoseconds in step.offsets)
    context.write_proc(f"{os.readlink('self', dir_fd=context.proc)}/timens_offsets", text)


def enter_cgroup(step: plan.EnterCgroup, context: Context) -> None:
    """From here on what we use counts as the container's."""
    if context.cgroup is not None:
        if context.born_in_cgroup:
            context.cgroup.enter_rest()
        else:
            context.cgroup.enter()


def set_hostname(step: plan.SetHostname, context: Context) -> None:
    """Names of the UTS namespace."""
    if step.hostname is not None:
        process.set_hostname(step.hostname)
    if step.domainname is not None:
        process.set_domainname(step.domainname)


def write_sysctls(step: plan.WriteSysctls, context: Context) -> None:
    """Through the host's procfs, which shows our own namespaces; through one of our own where that is read-only."""
    for name, value in step.values:
        path = "sys/" + (name if "/" in name.split(".")[0] else name.replace(".", "/"))
        try:
            try:
                context.write_proc(path, value)
            except OSError as error:
                if error.errno != errno.EROFS:
                    raise
                _write_own(path, value)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise LaunchFailure(
                "sysctl",
                f"open /proc/{path}: {reason}" if error.errno == errno.ENOENT else f"write sysctl key {name}: {reason}",
                error.errno or 0,
            ) from None


def _write_own(path: str, value: str) -> None:
    proc = new_filesystem("proc", "proc")
    try:
        fd = open_beneath(proc, path, os.O_WRONLY)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    finally:
        os.close(proc)


def run_hooks(step: plan.RunHooks, context: Context) -> None:
    """Hooks of the container's namespaces run here; for the others the parent is asked."""
    if step.by_parent:
        context.tell(hooks=step.kind)
        context.await_go()
    else:
        state = context.state | {
            "pid": os.getpid(),
            "status": "creating" if step.kind == "createContainer" else "created",
        }
        hooks.run(context.hooks.get(step.kind) or (), state, kind=step.kind)


def wait_for_start(step: plan.WaitForStart, context: Context) -> None:
    """The container is created; it starts when a byte comes through the gate."""
    context.tell(created=True)
    if context.gate is not None:
        while not os.read(context.gate, 1):
            pass
        os.close(context.gate)


_SIMPLE: dict[type, Callable[[Any, Context], None]] = {
    plan.JoinNamespace: join_namespace,
    plan.Unshare: unshare,
    plan.SetTimeOffsets: set_time_offsets,
    plan.EnterCgroup: enter_cgroup,
    plan.SetHostname: set_hostname,
    plan.WriteSysctls: write_sysctls,
    plan.SetOomScore: identity.set_oom_score,
    plan.SetPropagation: filesystem.set_propagation,
    plan.AttachRoot: filesystem.attach_root,
    plan.MountFilesystem: filesystem.mount_filesystem,
    plan.MountCgroups: filesystem.mount_cgroups,
    plan.MakeDevice: filesystem.make_device,
    plan.MakeLink: filesystem.make_link,
    plan.OpenConsole: filesystem.open_console,
    plan.MaskPath: filesystem.mask_path,
    plan.MakeReadonly: filesystem.make_readonly,
    plan.MakeWorkingDirectory: filesystem.make_working_directory,
    plan.RunHooks: run_hooks,
    plan.PivotRoot: filesystem.pivot,
    plan.SetRootPropagation: filesystem.set_root_propagation,
    plan.MakeRootReadonly: filesystem.make_root_readonly,
    plan.OutliveParent: identity.outlive_parent,
    plan.SetRlimit: identity.set_rlimit,
    plan.NewSessionKeyring: identity.new_session_keyring,
    plan.SetPersonality: lambda step, context: process.set_personality(step.domain),
    plan.SetScheduler: lambda step, context: process.set_scheduler(step.attributes),
    plan.SetIoPriority: lambda step, context: process.set_io_priority(step.klass, step.priority),
    plan.WaitForStart: wait_for_start,
    plan.SetExecLabel: identity.set_exec_label,
    plan.SetNoNewPrivileges: identity.set_no_new_privileges,
    plan.LoadSeccomp: identity.load_seccomp,
    plan.DropBounding: identity.drop_bounding,
    plan.SetUser: identity.set_user,
    plan.SetCapabilities: identity.set_capabilities,
    plan.ChangeDirectory: identity.change_directory,
    plan.CloseDescriptors: identity.close_descriptors,
    plan.Execute: identity.execute,
}


def carry_out(steps: Sequence[Any], context: Context, *, done: frozenset[int] = frozenset()) -> None:
    """Do the steps in their order, but for those in `done` (positions), which the parent has seen to.

    Raises LaunchFailure; anything that is not one becomes one with the step's name, so that the parent learns which.
    """
    for position, step in enumerate(steps):
        if position in done:
            continue
        try:
            if isinstance(step, plan.BindMount):
                filesystem.bind_mount(step, context, position)
            else:
                _SIMPLE[type(step)](step, context)
        except OSError as error:
            raise LaunchFailure(_stage(step), _explain(step, error), error.errno or 0) from None


def _stage(step: Any) -> str:
    return {"MountFilesystem": "mount", "BindMount": "mount", "MountCgroups": "mount", "AttachRoot": "rootfs"}.get(
        type(step).__name__, type(step).__name__
    )


def _explain(step: Any, error: OSError) -> str:
    what = f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
    if isinstance(step, plan.MountFilesystem):
        return f'error mounting "{step.source}" to rootfs at "{step.target}": {what}'
    if isinstance(step, plan.BindMount):
        return f'error mounting "{step.source}" to rootfs at "{step.target}": {what}'
    return f"{type(step).__name__}: {what}"


def prepare(context: Context, *, session: bool = True) -> None:
    """What every child does first: it is nobody's copy any more."""
    # The parent catches some signals and blocks others; a program starts with the defaults (execve keeps ignored ones).
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if session:
        os.setsid()
    # Nobody inside may look into this process before the exec (CVE-2016-9962).
    if context.stdio is not None:
        for standard, fd in enumerate(context.stdio):
            os.dup2(fd, standard)
