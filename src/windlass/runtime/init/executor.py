"""Carries out a plan, step by step, in the forked child; the last step is execve(2), so it returns only by an error."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

from windlass.kernel import namespaces, process
from windlass.kernel.mounts import new_filesystem
from windlass.kernel.paths import open_beneath
from windlass.runtime import hooks
from windlass.runtime.init import devices, filesystem, identity, program, restrictions
from windlass.runtime.init.context import Context
from windlass.runtime.plan import steps as plan
from windlass.runtime.wire import LaunchFailure


def forget_imports() -> None:
    """From here on this process can import nothing.

    After the pivot, the interpreter's search path would name files of the image: one careless import of a codec, and
    the image's code would run with our rights (CVE-2019-14271 was just that, in another language).
    """
    # Without finders there is nothing to ask. What they remember is left alone: to free it costs a millisecond.
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path.clear()


def prepare(context: Context) -> None:
    """What every child does first: it is nobody's copy any more."""
    forget_imports()
    gc.disable()
    # Python ignores SIGPIPE, the monitor some more, and a shell SIGINT and SIGQUIT of what runs in the background.
    process.reset_signals()
    os.setsid()
    # Modes are given in full below; the program's own comes with the user.
    os.umask(0)
    if context.stdio is not None:
        for standard, fd in enumerate(context.stdio):
            os.dup2(fd, standard)


def hide() -> None:
    """Nobody inside may look into this process before the exec: not at its memory, not at its descriptors
    (CVE-2016-9962), and its executable is not to be had (CVE-2019-5736)."""
    process.set_dumpable(False)


def join_namespace(step: plan.JoinNamespace, context: Context) -> None:
    """setns(2) by path; the kernel checks that it is a namespace of that kind."""
    fd = open_namespace(step)
    try:
        namespaces.setns(fd, namespaces.FLAGS[step.kind], about=step.path)
    finally:
        os.close(fd)


def open_namespace(step: plan.JoinNamespace) -> int:
    """A descriptor of the namespace at the step's path."""
    try:
        return os.open(step.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        message = f"open {step.kind} namespace {step.path}: {reason}"
        raise LaunchFailure("namespace", message, error.errno or 0) from None


def unshare(step: plan.Unshare, context: Context) -> None:
    """unshare(2)."""
    namespaces.unshare(clone_flags(step.kinds))


def clone_flags(kinds: Iterable[str]) -> int:
    """The kinds of namespaces as flags of clone(2)."""
    flags = 0
    for kind in kinds:
        flags |= namespaces.FLAGS[kind]
    return flags


def set_time_offsets(step: plan.SetTimeOffsets, context: Context) -> None:
    """Before the first process enters the namespace (time_namespaces(7))."""
    text = "".join(f"{clock} {seconds} {nanoseconds}\n" for clock, seconds, nanoseconds in step.offsets)
    context.write_proc(f"{context.own_directory()}/timens_offsets", text)


def enter_cgroup(step: plan.EnterCgroup, context: Context) -> None:
    """From here on what we use counts as the container's."""
    if context.cgroup is not None and not context.in_cgroup:
        if context.born_in_cgroup:
            context.cgroup.enter_rest()
        else:
            context.cgroup.enter()
        context.in_cgroup = True


def set_hostname(step: plan.SetHostname, context: Context) -> None:
    """Names of the UTS namespace."""
    if step.hostname is not None:
        process.set_hostname(step.hostname)
    if step.domainname is not None:
        process.set_domainname(step.domainname)


def write_sysctls(step: plan.WriteSysctls, context: Context) -> None:
    """Through the host's procfs, which shows our own namespaces; through one of our own where that is read-only."""
    for name, value in step.values:
        if name in context.written_sysctls:
            continue
        path = f"sys/{name}"
        try:
            try:
                context.write_proc(path, value)
            except OSError as error:
                if error.errno != errno.EROFS:
                    raise
                _write_own(path, value)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            missing = error.errno == errno.ENOENT
            message = f"open /proc/{path}: {reason}" if missing else f"write sysctl key {name}: {reason}"
            raise LaunchFailure("sysctl", message, error.errno or 0) from None


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
        status = "creating" if step.kind == "createContainer" else "created"
        state = context.state | {"pid": os.getpid(), "status": status}
        hooks.run(context.hooks.get(step.kind) or (), state, kind=step.kind)


def wait_for_start(step: plan.WaitForStart, context: Context) -> None:
    """The container is created; it starts when a byte comes through the gate."""
    context.tell(created=True)
    if context.gate is not None:
        while not os.read(context.gate, 1):
            pass
        os.close(context.gate)


_ACTIONS: Final[dict[type, Callable[[Any, Context], None]]] = {
    plan.SetOomScore: identity.set_oom_score,
    plan.JoinNamespace: join_namespace,
    plan.Unshare: unshare,
    plan.SetTimeOffsets: set_time_offsets,
    plan.EnterCgroup: enter_cgroup,
    plan.SetHostname: set_hostname,
    plan.WriteSysctls: write_sysctls,
    plan.SetPropagation: filesystem.set_propagation,
    plan.AttachRoot: filesystem.attach_root,
    plan.MountFilesystem: filesystem.mount_filesystem,
    plan.BindMount: filesystem.bind_mount,
    plan.Remount: filesystem.remount,
    plan.MountCgroups: filesystem.mount_cgroups,
    plan.MakeDevices: devices.make_devices,
    plan.MakeLinks: devices.make_links,
    plan.OpenConsole: devices.open_console,
    plan.MakeReadonly: restrictions.make_readonly,
    plan.MaskPath: restrictions.mask_path,
    plan.MakeWorkingDirectory: filesystem.make_working_directory,
    plan.RunHooks: run_hooks,
    plan.PivotRoot: filesystem.pivot,
    plan.SetRootPropagation: filesystem.set_root_propagation,
    plan.MakeRootReadonly: restrictions.make_root_readonly,
    plan.OutliveParent: identity.outlive_parent,
    plan.NewSessionKeyring: identity.new_session_keyring,
    plan.SetPersonality: lambda step, context: process.set_personality(step.domain),
    plan.SetScheduler: lambda step, context: process.set_scheduler(step.attributes),
    plan.SetIoPriority: lambda step, context: process.set_io_priority(step.io_class, step.priority),
    plan.SetAffinity: lambda step, context: os.sched_setaffinity(0, step.cpus),
    plan.WaitForStart: wait_for_start,
    plan.SetExecLabel: identity.set_exec_label,
    plan.EnterDirectory: program.enter_directory,
    plan.SetRlimit: identity.set_rlimit,
    plan.SetNoNewPrivileges: identity.set_no_new_privileges,
    plan.LoadSeccomp: identity.load_seccomp,
    plan.DropBounding: identity.drop_bounding,
    plan.SetUser: identity.set_user,
    plan.SetCapabilities: identity.set_capabilities,
    plan.CheckDirectory: program.check_directory,
    plan.FindProgram: program.find,
    plan.CloseDescriptors: program.close_descriptors,
    plan.Execute: program.execute,
}
_STAGES: Final = {
    plan.AttachRoot: "rootfs",
    plan.MountFilesystem: "mount",
    plan.BindMount: "mount",
    plan.Remount: "mount",
    plan.MountCgroups: "mount",
    plan.MaskPath: "mount",
    plan.MakeReadonly: "mount",
    plan.MakeDevices: "device",
    plan.MakeLinks: "device",
    plan.OpenConsole: "console",
    plan.EnterCgroup: "cgroup",
    plan.JoinNamespace: "namespace",
    plan.Unshare: "namespace",
    plan.LoadSeccomp: "seccomp",
    plan.SetUser: "user",
    plan.SetCapabilities: "capabilities",
    plan.DropBounding: "capabilities",
}


def carry_out(steps: plan.Plan, context: Context, *, done: frozenset[int] = frozenset()) -> None:
    """Do the steps in their order, but for those in `done` (positions), which somebody has seen to.

    Raises LaunchFailure; the kernel's errors become one that says in which step.
    """
    for position, step in enumerate(steps):
        if position in done:
            continue
        try:
            _ACTIONS[type(step)](step, context)
        except OSError as error:
            name = type(step).__name__
            raise LaunchFailure(_STAGES.get(type(step), name), _explain(step, name, error), error.errno or 0) from None


def _explain(step: plan.Step, name: str, error: OSError) -> str:
    what = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    if isinstance(step, plan.MountFilesystem | plan.BindMount):
        return f'error mounting "{step.source}" to rootfs at "{step.target}": {what}'
    if isinstance(step, plan.MountCgroups):
        return f'error mounting "cgroup" to rootfs at "{step.target}": {what}'
    return f"{name}: {what}"
