"""The ways of the children: what each process that the parent clones does, from its first moment to execve(2).

    become_init     the container's init, born in its new namespaces
    make_init       an intermediate, for what clone3 cannot make (user and time namespaces): prepares them, and makes
                    the init as its sibling
    become_exec     a further process: enters the namespaces of a container that runs

None of them returns.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

from windlass.kernel import namespaces, process, pty
from windlass.kernel.mounts import Mount, new_filesystem
from windlass.runtime import plan
from windlass.runtime.init.context import Context
from windlass.runtime.init.devices import use_terminal
from windlass.runtime.init.executor import carry_out, clone_flags, hide, join_namespace, open_namespace, prepare
from windlass.runtime.plan import steps as step_types
from windlass.runtime.trees import add_mapped_trees
from windlass.runtime.wire import LaunchFailure

Kinds = Mapping[str, str | None]


@contextlib.contextmanager
def _dying(context: Context, parent: socket.socket) -> Iterator[None]:
    """Whatever goes wrong in a child is told to the parent; a child never returns into the parent's code."""
    code = 1
    try:
        parent.close()
        yield
    except LaunchFailure as failure:
        # With a gate nobody may listen any more: then the exit code and the standard error say it.
        code = {errno.ENOENT: 127, errno.EACCES: 126}.get(failure.errno, 1) if failure.stage == "exec" else 1
        with contextlib.suppress(OSError):
            context.tell(error=failure.to_json())
        if context.gate is not None:
            with contextlib.suppress(OSError):
                os.write(2, f"{failure.message}\n".encode())
    except BaseException as error:
        defect = LaunchFailure("init", f"{type(error).__name__}: {error}", getattr(error, "errno", 0) or 0)
        with contextlib.suppress(OSError):
            context.tell(error=defect.to_json())
    finally:
        os._exit(code)


def become_init(steps: plan.Plan, context: Context, parent: socket.socket, *, done: frozenset[int]) -> NoReturn:
    """The child that becomes the container. `done`: positions of steps that somebody has seen to."""
    with _dying(context, parent):
        if context.gate is None:
            process.set_parent_death_signal(signal.SIGKILL)
        prepare(context)
        if context.proc < 0:
            context.open_proc()
        context.open_null()
        hide()
        carry_out(steps, context, done=done)
    os._exit(1)


def make_init(
    steps: plan.Plan,
    kinds: Kinds,
    context: Context,
    parent: socket.socket,
    rootfs: Sequence[Mount] | None,
    mapping: step_types.IdMapping | None,
) -> NoReturn:
    """The intermediate."""
    with _dying(context, parent):
        process.set_parent_death_signal(signal.SIGKILL)
        context.open_proc()
        done = _with_host_rights(steps, kinds, context)
        if mapping is not None:
            _add_mapped_trees(steps, rootfs, mapping, kinds["user"], context)
        if "user" in kinds:
            _enter_user_namespace(steps, kinds, context, done)
        for position, step in enumerate(steps):
            if isinstance(step, step_types.Unshare) and step.kinds != ("cgroup",):
                namespaces.unshare(clone_flags(kind for kind in step.kinds if kind != "user"))
                done.add(position)
            elif isinstance(step, step_types.SetTimeOffsets):
                carry_out((step,), context)
                done.add(position)
        made = namespaces.clone3(pidfd=False, parent_is_ours=True)
        if made.pid == 0:
            become_init(steps, context, parent, done=frozenset(done))
        context.tell(pid=made.pid)
        os._exit(0)
    os._exit(1)


def _with_host_rights(steps: plan.Plan, kinds: Kinds, context: Context) -> set[int]:
    """What is done before the rights on the host are given up: what exists belongs to whoever made it."""
    done: set[int] = set()
    new_user = "user" in kinds
    for position, step in enumerate(steps):
        if isinstance(step, step_types.SetOomScore) or (
            isinstance(step, step_types.JoinNamespace) and step.kind != "user"
        ):
            carry_out((step,), context)
            done.add(position)
    if new_user:
        for position, step in enumerate(steps):
            if isinstance(step, step_types.EnterCgroup):
                carry_out((step,), context)
                done.add(position)
            elif isinstance(step, step_types.WriteSysctls):
                # Those of namespaces that we have joined; those of new ones can be written when there are such.
                joined = tuple(value for value in step.values if kinds[plan.sysctl_namespace(value[0])] is not None)
                carry_out((step_types.WriteSysctls(joined),), context)
                context.written_sysctls.update(name for name, _ in joined)
        # These show namespaces, and only who owns one may mount them.
        if kinds.get("network") is not None:
            context.trees.filesystems["sysfs"] = new_filesystem("sysfs", "sysfs")
        if kinds.get("ipc") is not None:
            context.trees.filesystems["mqueue"] = new_filesystem("mqueue", "mqueue")
    return done


def _add_mapped_trees(
    steps: plan.Plan,
    rootfs: Sequence[Mount] | None,
    mapping: step_types.IdMapping,
    path: str | None,
    context: Context,
) -> None:
    """Of a user namespace that is still to be made, the parent makes a table of equal maps."""
    if path is not None:
        table = open_namespace(step_types.JoinNamespace("user", path))
    else:
        context.tell(table=True)
        _, descriptors, _, _ = socket.recv_fds(context.channel, 16, 1, socket.MSG_CMSG_CLOEXEC)
        if not descriptors:
            raise LaunchFailure("parent", "the parent has gone")
        table = descriptors[0]
    try:
        add_mapped_trees(context.trees, steps, rootfs, mapping, table)
    finally:
        os.close(table)


def _enter_user_namespace(steps: plan.Plan, kinds: Kinds, context: Context, done: set[int]) -> None:
    """From here on we are root of the container only."""
    if kinds["user"] is None:
        namespaces.unshare(namespaces.CLONE_NEWUSER)
        context.tell(user=True)
        context.await_go()
    else:
        for position, step in enumerate(steps):
            if isinstance(step, step_types.JoinNamespace) and step.kind == "user":
                join_namespace(step, context)
                done.add(position)
    os.setgroups(())
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # A change of user hides a process's files in /proc from itself; the init hides itself again.
    process.set_dumpable(True)


def become_exec(
    outside: plan.Plan,
    inside: plan.Plan,
    context: Context,
    parent: socket.socket,
    target: int,
    init: int,
    kinds: Kinds,
) -> NoReturn:
    with _dying(context, parent):
        hide()
        process.set_parent_death_signal(signal.SIGKILL)
        prepare(context)
        context.open_proc()
        if context.cgroup is not None and context.cgroup.hierarchy.version == "v2" and not context.born_in_cgroup:
            # In v2 the init may have moved itself below the group; then we belong beside it.
            context.tell(cgroup=init)
            context.await_go()
            context.in_cgroup = True
        carry_out(outside, context)
        if flags := clone_flags(kind for kind in kinds if kind != "pid"):
            namespaces.setns(target, flags)
        if "user" in kinds:
            os.setgroups(())
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            hide()
        os.chdir("/")
        if context.stdio is None:
            _open_terminal(context)
        carry_out(inside, context)
    os._exit(1)


def _open_terminal(context: Context) -> None:
    """A terminal from the devpts of the container that we are in; `open_pty` checks that the kernel made it."""
    try:
        devpts = os.open("/dev/pts", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            pair = pty.open_pty(devpts)
        finally:
            os.close(devpts)
    except OSError as error:
        raise LaunchFailure("console", f"open /dev/pts/ptmx: {error.strerror}", error.errno or 0) from None
    use_terminal(pair, context)
