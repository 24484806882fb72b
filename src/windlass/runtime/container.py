"""Making a container's processes: the parent's side of it.

    create_process   plan ─ open the trees ─ clone3 into the new namespaces ─ the child carries out the plan ─ execve
    exec_process     clone3 ─ the child enters the container's namespaces ─ carries out its plan ─ execve

Both return when the program runs (or, with a gate, stands before its start), and raise LaunchFailure, leaving no
process, when it cannot. The caller is single-threaded and reaps no children meanwhile.

A PID namespace that exists is entered by the parent for the moment of the clone: it concerns children only. User and
time namespaces cannot be had by clone3 alone: an intermediate child prepares them and makes the init as its sibling
(CLONE_PARENT), so that the init is the caller's child either way.
"""

from __future__ import annotations

import array  # noqa: F401 - socket.send_fds imports it, and a child of ours imports nothing
import contextlib
import errno
import os
import socket
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from windlass.kernel import capabilities, lsm, namespaces, seccomp
from windlass.kernel.mounts import Mount
from windlass.runtime import plan
from windlass.runtime.follow import Process, follow
from windlass.runtime.init.children import become_exec, become_init, make_init
from windlass.runtime.init.context import Context
from windlass.runtime.init.executor import clone_flags, open_namespace
from windlass.runtime.plan import steps as step_types
from windlass.runtime.trees import Trees, open_trees
from windlass.runtime.wire import LaunchFailure

if TYPE_CHECKING:
    from windlass.kernel.cgroups import Cgroup, Hierarchy

__all__ = ["Process", "create_process", "exec_process"]


def create_process(
    config: Mapping[str, Any],
    *,
    rootfs: Sequence[Mount] | None,
    stdio: tuple[int, int, int] | None,
    console_size: tuple[int, int] | None = None,
    seccomp: bytes | None = None,
    cgroup: Cgroup | None = None,
    hierarchy: Hierarchy | None = None,
    gate: int | None = None,
    state: Mapping[str, Any] | None = None,
    preserve: int = 0,
    pivot: bool = True,
    optional_rlimits: Collection[str] = (),
    new_keyring: bool = True,
) -> Process:
    """Make the init of a container.

    Args:
        config: the OCI runtime configuration, `root.path` absolute.
        rootfs: mounts that make the root, in the container's mount namespace only; None for `root.path`. With a user
            namespace they are seen through its maps.
        stdio: descriptors for 0, 1 and 2; None for a terminal from the container's devpts.
        console_size: rows and columns of that terminal.
        seccomp: the compiled filter; None: that of the configuration, if it has one.
        cgroup: exists, with its limits set; the init enters it.
        hierarchy: the host's control groups, for the mounts of them.
        gate: a descriptor from which the init reads a byte before it starts the program; then this returns when it
            waits there.
        state: the OCI state document for hooks.
        preserve: how many descriptors from 3 on the program keeps.
        pivot: False where the host's root is a ramfs.
        optional_rlimits: types of limits that are defaults, and give way to what the host can grant.
        new_keyring: a session keyring of its own, instead of the caller's.

    Raises:
        LaunchFailure: with the stage that failed and runc's words where it has some.
    """
    seccomp, config = _with_filter(seccomp, config)
    steps = plan.plan_container(
        config,
        gate=gate is not None,
        pivot=pivot,
        preserve=preserve,
        optional_rlimits=optional_rlimits,
        new_keyring=new_keyring,
    )
    kinds = plan.namespaces(config)
    _check_labels(steps)
    _refuse_host_sysctls(steps, kinds)
    linux = config.get("linux") or {}
    mapping = None
    if linux.get("uidMappings"):
        mapping = plan.id_mapping(linux["uidMappings"], linux["gidMappings"])
    parent, child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with parent, child, contextlib.ExitStack() as stack:
        trees = open_trees(steps, rootfs, (config.get("root") or {}).get("path") or "", mapping)
        stack.callback(trees.close)
        context = Context(
            channel=child,
            trees=trees,
            stdio=stdio,
            console_size=console_size,
            seccomp=seccomp,
            cgroup=cgroup,
            hierarchy=hierarchy,
            gate=gate,
            state=state,
            hooks=config.get("hooks"),
            uid=int(((config.get("process") or {}).get("user") or {}).get("uid") or 0),
            last_capability=capabilities.last_capability(),
        )
        if "user" in kinds or "time" in kinds:
            made = namespaces.clone3()
            if made.pid == 0:
                make_init(steps, kinds, context, parent, rootfs, mapping)
        else:
            made = _clone_init(steps, context, parent)
        child.close()
        return follow(parent, made, config=config, context=context, mapping=mapping)


def _with_filter(compiled: bytes | None, config: Mapping[str, Any]) -> tuple[bytes | None, Mapping[str, Any]]:
    """The filter to be installed, and a configuration that says that there is one."""
    linux = config.get("linux") or {}
    if compiled is None and linux.get("seccomp"):
        try:
            compiled = seccomp.compile_filter(linux["seccomp"])
        except ValueError as error:
            raise LaunchFailure("seccomp", f"error compiling the seccomp filter: {error}", errno.EINVAL) from None
    elif compiled is not None and not linux.get("seccomp"):
        config = {**config, "linux": {**linux, "seccomp": {"defaultAction": ""}}}
    return compiled, config


def _check_labels(steps: plan.Plan) -> None:
    """Whether the kernel has the security module is to be seen in the host's /sys, so it is asked here."""
    for step in steps:
        if isinstance(step, step_types.SetExecLabel):
            try:
                if step.module == "selinux":
                    lsm.require_selinux(step.label)
                else:
                    lsm.require_apparmor(step.label)
            except OSError as error:
                raise LaunchFailure("label", str(error.strerror), error.errno or 0) from None


def _refuse_host_sysctls(steps: plan.Plan, kinds: Mapping[str, str | None]) -> None:
    """A namespace that is joined by its path may be the host's after all: its parameters are not the container's."""
    for step in steps:
        if not isinstance(step, step_types.WriteSysctls):
            continue
        for name, _ in step.values:
            kind = plan.sysctl_namespace(name)
            path = kinds.get(kind)
            if path is None:
                continue
            try:
                same = os.path.samestat(os.stat(path), os.stat(f"/proc/self/ns/{namespaces.FILES[kind]}"))
            except OSError as error:
                reason = os.strerror(error.errno or 0).lower()
                raise LaunchFailure("namespace", f"{kind} namespace {path}: {reason}", error.errno or 0) from None
            if same:
                raise LaunchFailure("config", f"sysctl {name!r} not allowed in host {kind} namespace")


def _clone_init(steps: plan.Plan, context: Context, parent: socket.socket) -> namespaces.Clone:
    """The init, in as many of its namespaces as clone3 makes; the child does not return."""
    flags, done, pid_namespace = 0, set(), None
    for position, step in enumerate(steps):
        if isinstance(step, step_types.Unshare) and step.kinds != ("cgroup",):
            flags |= clone_flags(step.kinds)
            done.add(position)
        elif isinstance(step, step_types.JoinNamespace) and step.kind == "pid":
            pid_namespace = open_namespace(step)
            done.add(position)
    group = context.cgroup.clone_fd() if context.cgroup is not None else None
    context.born_in_cgroup = group is not None
    try:
        try:
            made = _clone(flags, pid_namespace=pid_namespace, cgroup=group)
        except OSError as error:
            raise LaunchFailure("namespace", f"cannot make the process: {error.strerror}", error.errno or 0) from None
        if made.pid == 0:
            become_init(steps, context, parent, done=frozenset(done))
        return made
    finally:
        for fd in (pid_namespace, group):
            if fd is not None:
                os.close(fd)


def _clone(flags: int = 0, *, pid_namespace: int | None = None, cgroup: int | None = None) -> namespaces.Clone:
    """clone3 with the child in a PID namespace that exists (a namespace's descriptor, or a pidfd)."""
    if pid_namespace is None:
        return namespaces.clone3(flags, cgroup=cgroup)
    own = namespaces.open_namespace("pid")
    made = namespaces.Clone(-1, -1)
    try:
        namespaces.setns(pid_namespace, namespaces.CLONE_NEWPID)
        try:
            made = namespaces.clone3(flags, cgroup=cgroup)
        finally:
            if made.pid != 0:
                namespaces.setns(own, namespaces.CLONE_NEWPID)
        return made
    finally:
        os.close(own)


def exec_process(
    init: int,
    process_document: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    stdio: tuple[int, int, int] | None,
    console_size: tuple[int, int] | None = None,
    seccomp: bytes | None = None,
    cgroup: Cgroup | None = None,
    preserve: int = 0,
    optional_rlimits: Collection[str] = (),
) -> Process:
    """Make a further process in the container whose init has the pid `init`.

    Args:
        process_document: OCI `process` of the new program.
        config: the container's configuration: its namespaces say which ones to enter.
        stdio: as for create_process; None for a terminal from the container's devpts.

    Raises:
        LaunchFailure: as create_process.
    """
    seccomp, config = _with_filter(seccomp, config)
    outside, inside = plan.plan_exec(
        process_document, config.get("linux") or {}, preserve=preserve, optional_rlimits=optional_rlimits
    )
    _check_labels(inside)
    kinds = plan.namespaces(config)
    try:
        target = os.pidfd_open(init)
    except OSError as error:
        raise LaunchFailure("exec", "the container is not running", error.errno or 0) from None
    parent, child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    context = Context(
        channel=child,
        trees=Trees(),
        stdio=stdio,
        console_size=console_size,
        seccomp=seccomp,
        cgroup=cgroup,
        uid=int((process_document.get("user") or {}).get("uid") or 0),
        last_capability=capabilities.last_capability(),
    )
    try:
        with parent, child:
            try:
                made = _clone_beside(target if "pid" in kinds else None, context)
            except OSError as error:
                raise LaunchFailure("exec", "the container is not running", error.errno or 0) from None
            if made.pid == 0:
                become_exec(outside, inside, context, parent, target, init, kinds)
            child.close()
            return follow(parent, made, config=config, context=context)
    finally:
        os.close(target)


def _clone_beside(pid_namespace: int | None, context: Context) -> namespaces.Clone:
    """A child, born in the container's v2 group if it can be."""
    group = context.cgroup.clone_fd() if context.cgroup is not None else None
    if group is None:
        return _clone(pid_namespace=pid_namespace)
    context.born_in_cgroup = True
    try:
        return _clone(pid_namespace=pid_namespace, cgroup=group)
    except OSError as error:
        # v2: the init has moved itself to a group below, so that its own can hold no process any more.
        if error.errno != errno.EBUSY:
            raise
        context.born_in_cgroup = False
        return _clone(pid_namespace=pid_namespace)
    finally:
        os.close(group)
