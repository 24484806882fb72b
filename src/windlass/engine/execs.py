"""Further processes in running containers: `docker exec`, and the probes of health checks.

    create   checked and remembered; nothing runs yet
    start    the monitor executes it; its streams go to the client, or nowhere when detached
    end      the monitor says so; remembered for five minutes, so that the exit code can be asked for

The process gets what the container's first process got (its configuration is read from the run's config.json), with the
command, user, directory, environment and terminal of the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from windlass.engine import joins
from windlass.engine.attach import AttachHub, ClientStream, complete_frames
from windlass.engine.container import Container
from windlass.engine.core import Core, log
from windlass.engine.detach import DEFAULT_KEYS, parse_keys
from windlass.engine.failures import NOT_INVOKABLE, exec_failure
from windlass.engine.health import Probe
from windlass.engine.ids import new_id
from windlass.engine.merge import replace_or_append
from windlass.engine.preparation import Preparation
from windlass.engine.shapes import decode_exec
from windlass.engine.spec.build import build_environment, capability_sets
from windlass.engine.timestamps import SECOND
from windlass.engine.users import resolve
from windlass.errors import Conflict, InvalidParameter, NotFound, SystemFailure, WindlassError
from windlass.runtime.client import ExecSession, ExecSpec, LaunchError, Monitor
from windlass.runtime.records import CONFIG

Document = dict[str, Any]

KEPT_FOR: Final = 300 * SECOND
_RESIZE_PATIENCE: Final = 10.0
_SIGKILL: Final = 9
_CHUNK: Final = 1 << 16


@dataclass(kw_only=True)
class Exec:
    """One process that was asked for in a container."""

    id: str
    container: Container
    request: Document
    detach_keys: bytes = DEFAULT_KEYS
    running: bool = False
    exit_code: int | None = None
    ended_at: int = 0
    session: ExecSession | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    exited: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def command(self) -> str:
        """The command as events carry it."""
        words = self.request["Cmd"]
        return f"{words[0]} {' '.join(words[1:])}"

    def to_api(self) -> Document:
        """`GET /exec/{id}/json`."""
        request = self.request
        return {
            "ID": self.id,
            "Running": self.running,
            "ExitCode": self.exit_code,
            "ProcessConfig": {
                "tty": request["Tty"],
                "entrypoint": request["Cmd"][0],
                "arguments": request["Cmd"][1:],
                "privileged": request["Privileged"],
                "user": request["User"] or self.container.config["User"],
            },
            "OpenStdin": request["AttachStdin"],
            "OpenStderr": request["AttachStderr"],
            "OpenStdout": request["AttachStdout"],
            "CanRemove": self.exit_code is not None,
            "ContainerID": self.container.id,
            "DetachKeys": self.detach_keys.decode("latin-1") if request["DetachKeys"] else "",
            "Pid": self.session.pid if self.session is not None else 0,
        }


class Execs:
    """All execs of the engine."""

    def __init__(self, core: Core, preparation: Preparation) -> None:
        self._core = core
        self._preparation = preparation
        self._execs: dict[str, Exec] = {}

    # Asking ------------------------------------------------------------------------------------------------------

    def find(self, exec_id: str) -> Exec:
        """An exec whose container exists. Raises `NotFound`."""
        found = self._execs.get(exec_id)
        if found is None or self._core.store.get(found.container.id) is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return found

    def _find_usable(self, exec_id: str) -> Exec:
        found = self.find(exec_id)
        self._check_container(found.container, found.container.id)
        return found

    @staticmethod
    def _check_container(container: Container, shown: str) -> Monitor:
        state = container.state
        if not state.running:
            raise joins.not_running(container)
        if state.paused:
            raise Conflict(f"Container {shown} is paused, unpause the container before exec")
        if state.restarting or container.monitor is None:
            raise joins.restarting(container)
        return container.monitor

    # Life --------------------------------------------------------------------------------------------------------

    async def create(self, container: Container, body: Document, *, shown: str) -> str:
        """`POST /containers/{id}/exec`; returns the exec's ID. Raises `InvalidParameter`, `Conflict`."""
        request = decode_exec(body)
        self._check_container(container, shown)
        if not request["Cmd"]:
            raise InvalidParameter("No exec command specified")
        if any("\0" in word for word in (*request["Cmd"], *(request["Env"] or ()), request["User"])):
            raise InvalidParameter("invalid exec: it contains a null byte")
        if request["WorkingDir"] and not request["WorkingDir"].startswith("/"):
            raise InvalidParameter(f"Cwd must be an absolute path: {request['WorkingDir']}")
        keys = DEFAULT_KEYS
        if request["DetachKeys"]:
            try:
                keys = parse_keys(request["DetachKeys"])
            except InvalidParameter:
                raise InvalidParameter(f"Invalid escape keys ({request['DetachKeys']}) provided") from None
        if request["User"]:
            files = await self._preparation.accounts.of_running(container.state.pid)
            resolve(request["User"], (), files)
        return self._register(container, request, keys).id

    def _register(self, container: Container, request: Document, keys: bytes = DEFAULT_KEYS) -> Exec:
        self._forget_old()
        made = Exec(id=new_id(), container=container, request=request, detach_keys=keys)
        self._execs[made.id] = made
        container.execs.add(made.id)
        self._core.container_event(container, f"exec_create: {made.command}", execID=made.id)
        return made

    def _forget_old(self) -> None:
        limit = self._core.clock() - KEPT_FOR
        for old in [each for each in self._execs.values() if each.ended_at and each.ended_at < limit]:
            del self._execs[old.id]

    def forget(self, container: Container) -> None:
        """The container has ended: what was only created can never run."""
        for exec_id in list(container.execs):
            found = self._execs.get(exec_id)
            if found is not None and not found.running:
                del self._execs[exec_id]
        container.execs.clear()

    async def start(self, exec_id: str, *, detach: bool, console_size: tuple[int, int] | None) -> ClientStream | None:
        """`POST /exec/{id}/start`: the stream of the process, None when detached.

        What keeps it from starting is raised when detached, else it is the stream's text, because the client has its
        answer by then. Raises `NotFound`, `Conflict`.
        """
        found = self._find_usable(exec_id)
        if found.exit_code is not None:
            raise Conflict(f"exec command {found.id} has already run")
        if found.running:
            raise Conflict(f"exec command {found.id} is already running")
        found.running = True
        self._core.container_event(found.container, f"exec_start: {found.command}", execID=found.id)
        if detach:
            await self._core.tasks.finish(self._execute(found, None, console_size), f"exec {exec_id[:12]}")
            return None
        client, hub = self._client(found)
        # The client gets its answer before the process begins: one that reads the answer's head through a buffer would
        # lose the output that comes with it.
        self._core.tasks.spawn(self._execute_for(client, found, hub, console_size), f"exec {exec_id[:12]}")
        return client

    async def run(self, container: Container, body: Document) -> tuple[Exec, ClientStream]:
        """Create and start one whose stream has no keys to detach. What keeps it from starting is raised."""
        found = self.find(await self.create(container, body, shown=container.id))
        found.detach_keys = b""
        found.running = True
        self._core.container_event(container, f"exec_start: {found.command}", execID=found.id)
        client, hub = self._client(found)
        await self._core.tasks.finish(self._execute(found, hub, None), f"exec {found.id[:12]}")
        return found, client

    def _client(self, found: Exec) -> tuple[ClientStream, AttachHub]:
        request = found.request
        hub = AttachHub(
            terminal=request["Tty"], close_stdin_once=True, ends_with_stdin=False, before_end=found.exited.wait
        )
        client = ClientStream(
            hub,
            stdin=request["AttachStdin"],
            stdout=request["AttachStdout"],
            stderr=request["AttachStderr"],
            detach_keys=found.detach_keys,
            on_detach=lambda: self._core.container_event(found.container, "exec_detach", execID=found.id),
        )
        hub.join(client)
        return client, hub

    async def _execute_for(
        self, client: ClientStream, found: Exec, hub: AttachHub, console_size: tuple[int, int] | None
    ) -> None:
        try:
            await self._execute(found, hub, console_size)
        except WindlassError as error:
            client.offer_text(f"{error}\r\n")
            client.end()

    async def _execute(self, found: Exec, hub: AttachHub | None, console_size: tuple[int, int] | None) -> None:
        """Have the monitor run it. Raises `WindlassError` in dockerd's words; the exec has an exit code then."""
        container = found.container
        try:
            monitor = self._check_container(container, container.id)
            spec = await self._spec(found, console_size)
            session = await monitor.exec(spec, attach=hub is not None)
        except LaunchError as error:
            code, shown = exec_failure(error.stage, error.message, error.errno, found.request["Cmd"][0])
            self._ended(found, code, announce=False)
            raise shown from None
        except WindlassError:
            self._ended(found, NOT_INVOKABLE, announce=False)
            raise
        found.session = session
        found.started.set()
        if hub is not None and session.connection is not None:
            hub.connect(session.connection)
        self._core.tasks.spawn(self._watch(found, session), f"exec {found.id[:12]}")

    async def _watch(self, found: Exec, session: ExecSession) -> None:
        self._ended(found, await session.wait(), announce=True)

    def _ended(self, found: Exec, exit_code: int, *, announce: bool) -> None:
        found.running, found.exit_code, found.ended_at = False, exit_code, self._core.clock()
        found.container.execs.discard(found.id)
        found.started.set()
        found.exited.set()
        if announce:
            self._core.container_event(found.container, "exec_die", execID=found.id, exitCode=exit_code)

    async def resize(self, exec_id: str, *, height: int, width: int) -> None:
        """Set the size of an exec's terminal, once it has one. Raises `NotFound`, `Conflict`, `InvalidParameter`."""
        found = self._find_usable(exec_id)
        try:
            async with asyncio.timeout(_RESIZE_PATIENCE):
                await found.started.wait()
        except TimeoutError:
            raise SystemFailure("timeout waiting for exec session ready") from None
        monitor = found.container.monitor
        if found.session is None or monitor is None:
            raise InvalidParameter("exec process is not started")
        try:
            await monitor.resize(height, width, exec_id=found.id)
        except LaunchError as error:
            if found.running:
                raise SystemFailure(str(error)) from error

    # What is run -------------------------------------------------------------------------------------------------

    async def _spec(self, found: Exec, console_size: tuple[int, int] | None) -> ExecSpec:
        container, request = found.container, found.request
        config, host_config = container.config, container.host_config
        process = dict(await asyncio.to_thread(read_process, self._core.run_directory(container)))
        files = await self._preparation.accounts.of_running(container.state.pid)
        account = resolve(request["User"] or config["User"], host_config["GroupAdd"] or (), files)
        terminal: bool = request["Tty"]
        # Home last, and only if neither the container nor the request has one.
        environment = build_environment(config, terminal=terminal, home="")
        environment = replace_or_append(
            [entry for entry in environment if entry != "HOME="], list(request["Env"] or ())
        )
        if not any(entry.startswith("HOME=") for entry in environment):
            environment.append(f"HOME={account.home}")
        process |= {
            "args": request["Cmd"],
            "env": environment,
            "cwd": request["WorkingDir"] or config["WorkingDir"] or "/",
            "terminal": terminal,
            "user": {"uid": account.uid, "gid": account.gid, "additionalGids": list(account.groups)},
        }
        process.pop("consoleSize", None)
        if request["Privileged"]:
            process["capabilities"] = capability_sets(self._preparation.available_capabilities)
        size = console_size or request["ConsoleSize"]
        return ExecSpec(
            id=found.id,
            process=process,
            terminal=terminal,
            console_size=(size[0], size[1]) if terminal and size and all(size) else None,
            attach_stdin=request["AttachStdin"],
            seccomp_filter=self._preparation.filter_of(container),
        )

    # Probes ------------------------------------------------------------------------------------------------------

    async def probe(self, container: Container, command: tuple[str, ...]) -> Probe:
        """Start a health check's probe."""
        request = decode_exec({"Cmd": list(command), "AttachStdout": True, "AttachStderr": True})
        found = self._register(container, request)
        found.running = True
        self._core.container_event(container, f"exec_start: {found.command}", execID=found.id)
        try:
            monitor = self._check_container(container, container.id)
            session = await monitor.exec(await self._spec(found, None), attach=True)
        except LaunchError as error:
            code, shown = exec_failure(error.stage, error.message, error.errno, command[0])
            self._ended(found, code, announce=False)
            raise shown from None
        except WindlassError:
            self._ended(found, NOT_INVOKABLE, announce=False)
            raise
        found.session = session
        found.started.set()
        self._core.tasks.spawn(self._watch(found, session), f"probe {found.id[:12]}")
        assert session.connection is not None
        return _ExecProbe(found, session.connection)


class _ExecProbe:
    """A probe that runs as an exec."""

    def __init__(self, found: Exec, connection: socket.socket) -> None:
        self._exec = found
        self._connection = connection

    async def output(self, limit: int) -> bytes:
        """Both streams, as they came."""
        loop, collected, rest = asyncio.get_running_loop(), bytearray(), b""
        with contextlib.closing(self._connection), contextlib.suppress(OSError):
            while data := await loop.sock_recv(self._connection, _CHUNK):
                data = rest + data
                frames = complete_frames(data)
                for _, start, end in frames:
                    if len(collected) < limit:
                        collected += data[start + 8 : end]
                rest = data[frames[-1][2] if frames else 0 :]
        return bytes(collected[:limit])

    async def exit_code(self) -> int:
        """Known once the process has ended."""
        await self._exec.exited.wait()
        assert self._exec.exit_code is not None
        return self._exec.exit_code

    async def kill(self) -> None:
        """End the process, if it has not ended."""
        monitor = self._exec.container.monitor
        if monitor is None or not self._exec.running:
            return
        try:
            await monitor.signal(_SIGKILL, exec_id=self._exec.id)
        except LaunchError as error:
            if error.errno != errno.ESRCH and self._exec.running:
                log.warning("cannot kill the health check of %s: %s", self._exec.container.id, error)


def read_process(directory: str) -> Document:
    """The `process` of a run's configuration. Raises `SystemFailure`. Blocking."""
    try:
        document: Document = orjson.loads(Path(directory, CONFIG).read_bytes())["process"]
    except (OSError, ValueError, KeyError) as error:
        raise SystemFailure(f"cannot read the configuration of the container: {error}") from error
    return document
