"""Making a container's processes: the parent's side of it.

    create_process   plan ─ clone3 into the new namespaces ─ the child carries out the plan ─ execve
    exec_process     clone3 ─ the child enters the container's namespaces ─ plan_exec ─ execve

Both return when the program runs (or, with a gate, stands before its start), and raise LaunchFailure, leaving no
process, when it cannot. The caller is single-threaded and reaps no children meanwhile.

A new user namespace, a PID namespace to join and a time namespace cannot be had by clone3 alone: an intermediate
child prepares them and makes the init as its sibling (CLONE_PARENT), so that the init is the caller's child either way.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from windlass.kernel import capabilities, namespaces, process, pty
from windlass.kernel.mounts import Mount, detached, detached_bind, map_identities, new_filesystem
from windlass.runtime import hooks, plan
from windlass.runtime.init.context import Context
from windlass.runtime.init.executor import carry_out, join_namespace, prepare
from windlass.runtime.init.filesystem import use_terminal
from windlass.runtime.wire import LaunchFailure

if TYPE_CHECKING:
    from windlass.kernel.cgroups import Cgroup, Hierarchy


class Process(NamedTuple):
    """A process that was made: its pid, a pidfd, and the master of its terminal (None without one)."""

    pid: int
    pidfd: int
    master: int | None


def create_process(
    config: Mapping[str, Any],
    *,
    rootfs: Sequence[Mount] | None,
    stage: str,
    stdio: tuple[int, int, int] | None,
    console_size: tuple[int, int] | None = None,
    seccomp: bytes | None = None,
    cgroup: Cgroup | None = None,
    hierarchy: Hierarchy | None = None,
    gate: int | None = None,
    state: Mapping[str, Any] | None = None,
    preserve: int = 0,
    pivot: bool = True,
) -> Process:
    """Make the init of a container.

    Args:
        config: the OCI runtime configuration.
        rootfs: mounts that make the root, in the container's mount namespace only; None for `root.path`.
        stage: a directory of the host to mount the root on (in that namespace, too); nothing in it is touched.
        stdio: descriptors for 0, 1 and 2; None for a terminal from the container's devpts.
        console_size: rows and columns of that terminal.
        seccomp: the compiled filter.
        cgroup: exists, with its limits set; the init enters it.
        gate: a descriptor from which the init reads a byte before it starts the program; then this returns when it
            waits there.
        state: the OCI state document for hooks.
        preserve: how many descriptors from 3 on the program keeps.

    Raises:
        LaunchFailure: with the stage that failed and runc's words where it has some.
    """
    steps = plan.plan_container(config, rootfs=rootfs, gate=gate is not None, pivot=pivot)
    kinds = plan.namespaces(config)
    parent, child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    context = Context(
        channel=child,
        stage=stage,
        stdio=stdio,
        console_size=console_size,
        seccomp=seccomp,
        cgroup=cgroup,
        hierarchy=hierarchy,
        gate=gate,
        state=state,
        hooks=config.get("hooks"),
        uid=int(((config.get("process") or {}).get("user") or {}).get("uid") or 0),
        preserve=preserve,
        last_capability=capabilities.last_capability(),
    )
    place = cgroup.clone_fd() if cgroup is not None else None
    context.born_in_cgroup = place is not None
    with parent, child, _closing(place):
        if "user" in kinds or "time" in kinds or kinds.get("pid"):
            if "user" in kinds:
                _open_trees(steps, context)
            made = namespaces.clone3(cgroup=place)
            if made.pid == 0:
                _intermediate(steps, kinds, context, parent)
        else:
            early = next((i for i, step in enumerate(steps) if isinstance(step, plan.Unshare)), None)
            flags = 0
            if early is not None and steps[early].kinds != ("cgroup",):
                for kind in steps[early].kinds:
                    flags |= namespaces.FLAGS[kind]
            else:
                early = None
            made = namespaces.clone3(flags, cgroup=place)
            if made.pid == 0:
                _init(steps, context, parent, done=frozenset(() if early is None else (early,)))
        child.close()
        try:
            return _follow(parent, made, config=config, context=context)
        finally:
            for tree in context.trees.values():
                os.close(tree)


def _init(steps: plan.Plan, context: Context, parent: socket.socket, *, done: frozenset[int]) -> NoReturn:
    """The child that becomes the container."""
    with _dying(context, parent):
        prepare(context)
        if context.gate is None:
            process.set_parent_death_signal(signal.SIGKILL)
        process.set_dumpable(False)
        if context.proc < 0:
            context.open_host()
        carry_out(steps, context, done=done)
    os._exit(1)


@contextlib.contextmanager
def _closing(descriptor: int | None) -> Iterator[None]:
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextlib.contextmanager
def _dying(context: Context, parent: socket.socket) -> Iterator[None]:
    """Whatever goes wrong in a child is told to the parent; a child never returns into the parent's code."""
    try:
        parent.close()
        yield
    except LaunchFailure as failure:
        context.tell(error=failure.to_json())
    except BaseException as error:
        context.tell(
            error=LaunchFailure("init", f"{type(error).__name__}: {error}", getattr(error, "errno", 0) or 0).to_json()
        )
    finally:
        os._exit(1)


def _open_trees(steps: plan.Plan, context: Context) -> None:
    """Open what root of a user namespace could not: the root and the sources of binds, as detached mounts."""
    for position, step in enumerate(steps):
        if isinstance(step, plan.AttachRoot) and step.mounts is not None and len(step.mounts) == 1:
            context.trees[-1] = detached(step.mounts[0])
        elif isinstance(step, plan.BindMount):
            try:
                context.trees[position] = detached_bind(step.source, step.options)
            except FileNotFoundError:
                raise LaunchFailure("mount", f"bind source path does not exist: {step.source}", errno.ENOENT) from None


def _intermediate(
    steps: plan.Plan, kinds: Mapping[str, str | None], context: Context, parent: socket.socket
) -> NoReturn:
    """The child that makes what clone3 cannot, and then the init as its sibling."""
    done: set[int] = set()
    with _dying(context, parent):
        process.set_parent_death_signal(signal.SIGKILL)
        context.open_host()
        new_user = "user" in kinds and kinds["user"] is None
        joins = [(i, s) for i, s in enumerate(steps) if isinstance(s, plan.JoinNamespace) and s.kind != "mount"]
        # A namespace that exists belongs to whoever made it: it is entered with the host's rights, before we lose them.
        joins.sort(key=lambda item: (item[1].kind == "user") == new_user)
        for position, step in joins:
            join_namespace(step, context)
            done.add(position)
        early = next((i for i, s in enumerate(steps) if isinstance(s, plan.Unshare)), None)
        if new_user:
            if kinds.get("network"):
                # A sysfs shows the network namespace it was made in, and only its owner may make one.
                context.trees[-2] = new_filesystem("sysfs", "sysfs")
            namespaces.unshare(namespaces.FLAGS["user"])
            context.tell(user=True)
            context.await_go()
        if "user" in kinds:
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            process.set_dumpable(True)
        if early is not None and steps[early].kinds != ("cgroup",):
            flags = 0
            for kind in steps[early].kinds:
                flags |= namespaces.FLAGS[kind] if kind != "user" else 0
            namespaces.unshare(flags)
            done.add(early)
        for position, step in enumerate(steps):
            if isinstance(step, plan.SetTimeOffsets):
                carry_out([step], context)
                done.add(position)
        made = namespaces.clone3(pidfd=False, parent_is_ours=True)
        if made.pid == 0:
            _init(steps, context, parent, done=frozenset(done))
        context.tell(pid=made.pid)
        os._exit(0)
    os._exit(1)


def _follow(parent: socket.socket, made: namespaces.Clone, *, config: Mapping[str, Any], context: Context) -> Process:
    """Serve the child until its program runs. Raises LaunchFailure, with all that was made ended and reaped."""
    pid, pidfd, helper = made.pid, made.pidfd, None
    master: int | None = None
    ready = False
    try:
        while True:
            data, descriptors, _flags, _address = socket.recv_fds(parent, 1 << 16, 1, socket.MSG_CMSG_CLOEXEC)
            if not data:
                break
            message = json.loads(data)
            if "error" in message:
                raise LaunchFailure(**message["error"])
            if "terminal" in message:
                master = descriptors[0]
            elif "pid" in message:
                os.waitpid(pid, 0)
                os.close(pidfd)
                helper, pid = pid, int(message["pid"])
                pidfd = os.pidfd_open(pid)
            elif "user" in message:
                _map_users(pid, config, context)
                parent.send(b"1")
            elif "hooks" in message:
                entries = config.get("hooks") or {}
                state = context.state | {"pid": pid, "status": "creating"}
                hooks.run(entries.get("prestart") or (), state, kind="prestart")
                hooks.run(entries.get("createRuntime") or (), state, kind="createRuntime")
                parent.send(b"1")
            elif "cgroup" in message:
                assert context.cgroup is not None
                context.cgroup.add(pid, beside=message["cgroup"] or None)
                parent.send(b"1")
            elif "created" in message:
                return Process(pid, pidfd, master)
            else:
                ready = True
        if not ready:
            raise LaunchFailure("init", "the process ended while it was made (out of memory?)")
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        os.close(pidfd)
        if master is not None:
            os.close(master)
        raise
    del helper
    return Process(pid, pidfd, master)


def _map_users(pid: int, config: Mapping[str, Any], context: Context) -> None:
    """Write the maps of a child's new user namespace, and map the mounts that shall be seen through it."""
    linux = config.get("linux") or {}
    for name, key in (("uid_map", "uidMappings"), ("gid_map", "gidMappings")):
        text = "".join(f"{m['containerID']} {m['hostID']} {m['size']}\n" for m in linux.get(key) or ())
        try:
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(text)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise LaunchFailure("namespace", f"write {name}: {reason}", error.errno or 0) from None
    wanted = [context.trees[-1]] if -1 in context.trees else []
    for position, entry in enumerate(plan.plan_container(config, rootfs=()) if context.trees else ()):
        if isinstance(entry, plan.BindMount) and entry.options.idmap and position in context.trees:
            wanted.append(context.trees[position])
    if not wanted:
        return
    user = namespaces.open_namespace("user", pid)
    try:
        for tree in wanted:
            map_identities(tree, user)
    finally:
        os.close(user)


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
) -> Process:
    """Make a further process in the container whose init has the pid `init`.

    Args:
        process_document: OCI `process` of the new program.
        config: the container's configuration: its namespaces say which ones to enter.
        stdio: as for create_process; None for a terminal from the container's devpts.

    Raises:
        LaunchFailure: as create_process.
    """
    steps = plan.plan_exec(process_document, config.get("linux") or {})
    kinds = plan.namespaces(config)
    target = os.pidfd_open(init)
    parent, child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    context = Context(
        channel=child,
        stage="",
        stdio=stdio,
        console_size=console_size,
        seccomp=seccomp,
        cgroup=cgroup,
        uid=int((process_document.get("user") or {}).get("uid") or 0),
        preserve=preserve,
        last_capability=capabilities.last_capability(),
    )
    place = cgroup.clone_fd() if cgroup is not None else None
    try:
        with parent, child, _closing(place):
            made = _clone_for_exec(target if "pid" in kinds else None, place, context)
            if made.pid == 0:
                _exec_child(steps, context, parent, target, init, kinds)
            child.close()
            return _follow(parent, made, config=config, context=context)
    finally:
        os.close(target)


def _clone_for_exec(target: int | None, place: int | None, context: Context) -> namespaces.Clone:
    """A child, in the cgroup `place` if that can be, in the PID namespace of `target`; setns(2) concerns children only,
    and is taken back in the parent."""
    if target is None:
        return _clone_in_cgroup(place, context)
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(target, namespaces.FLAGS["pid"])
        made = namespaces.Clone(-1, -1)
        try:
            made = _clone_in_cgroup(place, context)
        finally:
            if made.pid != 0:
                namespaces.setns(own, namespaces.FLAGS["pid"])
        return made
    finally:
        os.close(own)


def _clone_in_cgroup(place: int | None, context: Context) -> namespaces.Clone:
    context.born_in_cgroup = place is not None
    try:
        return namespaces.clone3(cgroup=place)
    except OSError as error:
        # v2: the init has moved itself to a group below, so that its own can hold no process any more.
        if place is None or error.errno != errno.EBUSY:
            raise
    context.born_in_cgroup = False
    return namespaces.clone3()


def _exec_child(
    steps: plan.Plan,
    context: Context,
    parent: socket.socket,
    target: int,
    init: int,
    kinds: Mapping[str, str | None],
) -> NoReturn:
    with _dying(context, parent):
        prepare(context)
        process.set_parent_death_signal(signal.SIGKILL)
        process.set_dumpable(False)
        context.open_host()
        if context.cgroup is not None:
            if context.born_in_cgroup:
                context.cgroup.enter_rest()
            elif context.cgroup.hierarchy.version != "v2":
                context.cgroup.enter()
            else:
                # In v2 the init may have moved itself below the group; then we belong beside it.
                context.tell(cgroup=init)
                context.await_go()
        first = isinstance(steps[0], plan.SetOomScore)
        carry_out(steps[:first], context)
        flags = 0
        for kind in kinds:
            flags |= namespaces.FLAGS[kind] if kind != "pid" else 0
        if flags:
            namespaces.setns(target, flags)
        if "user" in kinds:
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        os.chdir("/")
        if context.stdio is None:
            _open_terminal(context)
        carry_out(steps[first:], context)
    os._exit(1)


def _open_terminal(context: Context) -> None:
    """A terminal from the devpts of the container that we are in."""
    devpts = os.open("/dev/pts", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        pair = pty.open_pty(devpts)
    finally:
        os.close(devpts)
    if context.console_size:
        pty.set_size(pair.slave, *context.console_size)
    os.fchown(pair.slave, context.uid, -1)
    context.send_terminal(pair.master)
    use_terminal(pair.slave)
