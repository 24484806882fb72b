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
import json
import os
import signal
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from windlass.kernel import capabilities, idmap, namespaces, process, pty, seccomp
from windlass.kernel.mounts import Mount, new_filesystem
from windlass.runtime import hooks, plan
from windlass.runtime.init.context import Context
from windlass.runtime.init.devices import use_terminal
from windlass.runtime.init.executor import carry_out, clone_flags, hide, join_namespace, open_namespace, prepare
from windlass.runtime.listener import hand_over_listener
from windlass.runtime.plan import steps as step_types
from windlass.runtime.trees import Trees, add_mapped_trees, open_trees
from windlass.runtime.wire import LaunchFailure

if TYPE_CHECKING:
    from windlass.kernel.cgroups import Cgroup, Hierarchy

_LARGEST_MESSAGE = 1 << 16


class Process(NamedTuple):
    """A process that was made: its pid, a pidfd, the master of its terminal (None without one), and what of the
    defaults this host could not grant."""

    pid: int
    pidfd: int
    master: int | None
    warnings: tuple[str, ...] = ()


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
                _intermediate(steps, kinds, context, parent, rootfs, mapping)
        else:
            made = _clone_init(steps, context, parent)
        child.close()
        return _follow(parent, made, config=config, context=context, mapping=mapping)


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
            _init(steps, context, parent, done=frozenset(done))
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


def _init(steps: plan.Plan, context: Context, parent: socket.socket, *, done: frozenset[int]) -> NoReturn:
    """The child that becomes the container."""
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


def _intermediate(
    steps: plan.Plan,
    kinds: Mapping[str, str | None],
    context: Context,
    parent: socket.socket,
    rootfs: Sequence[Mount] | None,
    mapping: step_types.IdMapping | None,
) -> NoReturn:
    """The child that makes what clone3 cannot, and then the init as its sibling."""
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
            _init(steps, context, parent, done=frozenset(done))
        context.tell(pid=made.pid)
        os._exit(0)
    os._exit(1)


def _with_host_rights(steps: plan.Plan, kinds: Mapping[str, str | None], context: Context) -> set[int]:
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


def _enter_user_namespace(steps: plan.Plan, kinds: Mapping[str, str | None], context: Context, done: set[int]) -> None:
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


class _Follower:
    """The parent's side of the channel: serves the child until its program runs."""

    def __init__(
        self,
        parent: socket.socket,
        made: namespaces.Clone,
        config: Mapping[str, Any],
        context: Context,
        mapping: step_types.IdMapping | None,
    ) -> None:
        self._parent = parent
        self._config = config
        self._context = context
        self._mapping = mapping
        self.pid = made.pid
        self.pidfd = made.pidfd
        self.master: int | None = None
        self.warnings: list[str] = []
        self.failure: LaunchFailure | None = None

    def run(self) -> None:
        """Returns when the program runs, or waits for its start. A failure is raised at the end of the channel: an
        init may fail before the intermediate that has made it could tell its pid."""
        while True:
            try:
                data, descriptors, _flags, _address = socket.recv_fds(
                    self._parent, _LARGEST_MESSAGE, 1, socket.MSG_CMSG_CLOEXEC
                )
            except ConnectionResetError:  # it ended with something unread
                break
            if not data:
                break
            message = json.loads(data)
            if "created" in message:
                return
            self._serve(message, descriptors)
        if self.failure is not None:
            raise self.failure
        if not self._context.is_ready():
            raise LaunchFailure("init", "the process ended while it was made (out of memory?)")

    def _serve(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "error" in message:
            self.failure = LaunchFailure(**message["error"])
        elif "warning" in message:
            self.warnings.append(str(message["warning"]))
        elif "terminal" in message:
            self.master = descriptors[0]
        elif "pid" in message:
            self._adopt(int(message["pid"]))
        elif "table" in message:
            self._send_table()
        else:
            if "user" in message:
                self._write_maps()
            elif "hooks" in message:
                self._run_hooks()
            elif "cgroup" in message:
                assert self._context.cgroup is not None
                self._context.cgroup.add(self.pid, beside=message["cgroup"] or None)
            elif "listener" in message:
                self._hand_over(int(message["listener"]))
            with contextlib.suppress(BrokenPipeError):  # it has ended meanwhile, as the end of the channel will tell
                self._parent.send(b"1", socket.MSG_NOSIGNAL)

    def _adopt(self, pid: int) -> None:
        """The intermediate has made the init, and ends."""
        os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        self.pid, self.pidfd = pid, os.pidfd_open(pid)

    def _send_table(self) -> None:
        assert self._mapping is not None
        try:
            table = idmap.make_table(self._mapping.users, self._mapping.groups)
        except OSError as error:
            raise _map_failure(error) from None
        try:
            socket.send_fds(self._parent, [b"1"], [table])
        finally:
            os.close(table)

    def _write_maps(self) -> None:
        assert self._mapping is not None
        try:
            idmap.write_maps(self.pid, self._mapping.users, self._mapping.groups)
        except OSError as error:
            raise _map_failure(error) from None

    def _run_hooks(self) -> None:
        entries = self._config.get("hooks") or {}
        state = self._context.state | {"pid": self.pid, "status": "creating"}
        hooks.run(entries.get("prestart") or (), state, kind="prestart")
        hooks.run(entries.get("createRuntime") or (), state, kind="createRuntime")

    def _hand_over(self, number: int) -> None:
        profile = (self._config.get("linux") or {}).get("seccomp") or {}
        state = self._context.state | {"pid": self.pid, "status": "creating"}
        hand_over_listener(self.pid, self.pidfd, number, profile, state)

    def destroy(self) -> None:
        """End and reap what was made."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        if self.master is not None:
            os.close(self.master)


def _map_failure(error: OSError) -> LaunchFailure:
    reason = os.strerror(error.errno or 0).lower()
    return LaunchFailure("namespace", f"write {error.filename}: {reason}", error.errno or 0)


def _follow(
    parent: socket.socket,
    made: namespaces.Clone,
    *,
    config: Mapping[str, Any],
    context: Context,
    mapping: step_types.IdMapping | None = None,
) -> Process:
    follower = _Follower(parent, made, config, context, mapping)
    try:
        follower.run()
    except BaseException:
        follower.destroy()
        raise
    finally:
        context.close()
    return Process(follower.pid, follower.pidfd, follower.master, tuple(follower.warnings))


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
                _exec_child(outside, inside, context, parent, target, init, kinds)
            child.close()
            return _follow(parent, made, config=config, context=context)
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


def _exec_child(
    outside: plan.Plan,
    inside: plan.Plan,
    context: Context,
    parent: socket.socket,
    target: int,
    init: int,
    kinds: Mapping[str, str | None],
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
