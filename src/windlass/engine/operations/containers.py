"""Operations of the tag Container."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any

from windlass.engine import joins
from windlass.engine.attach import STDERR, STDOUT, ClientStream, frame
from windlass.engine.container import Container
from windlass.engine.detach import parse_keys
from windlass.engine.filters import Filters
from windlass.engine.operations.parts import Parts
from windlass.engine.preparation import log_path
from windlass.engine.signals import parse_deliverable_signal
from windlass.engine.top import top
from windlass.engine.wait import check_condition
from windlass.errors import Conflict, InvalidParameter, NotModified, SystemFailure, WindlassError
from windlass.logs.entry import LogEntry
from windlass.logs.reading import open_reader
from windlass.runtime.client import LaunchError

Document = dict[str, Any]

_SIGKILL = 9


class ContainerOperations:
    """A part of `Engine`."""

    parts: Parts

    def container_get(self, id: str) -> Container:
        """The container that an ID, a name or the beginning of an ID names."""
        return self.parts.core.store.find(id)

    async def container_list(self, *, all: bool, limit: int, size: bool, filters: Filters) -> list[Document]:
        """ContainerList."""
        return await self.parts.listing.summaries(all=all, limit=limit, size=size, filters=filters)

    async def container_create(
        self, *, name: str, platform: str, body: Document, default_read_only_non_recursive: bool, sandbox: str = ""
    ) -> Document:
        """ContainerCreate. `sandbox` is the identity of one that the container is to live in."""
        return await self.parts.creation.create(
            name=name,
            platform=platform,
            body=body,
            default_read_only_non_recursive=default_read_only_non_recursive,
            sandbox=sandbox,
        )

    async def container_inspect(self, id: str, *, size: bool) -> Document:
        """ContainerInspect."""
        return await self.parts.inspection.inspect(self.container_get(id), size=size)

    async def container_top(self, id: str, *, ps_args: str) -> Document:
        """ContainerTop."""
        return await top(self.parts.core, self.container_get(id), ps_args)

    async def container_logs(
        self,
        id: str,
        *,
        follow: bool,
        stdout: bool,
        stderr: bool,
        since: int | None,
        until: int | None,
        tail: int,
        details: bool,
    ) -> AsyncIterator[list[LogEntry]]:
        """ContainerLogs. `details` are the entries' attributes, which come along anyway."""
        if not stdout and not stderr:
            raise InvalidParameter("You must choose at least one stream")
        container = self.container_get(id)
        if container.state.removing or container.state.dead:
            raise Conflict("can not get logs from container which is dead or marked for removal")
        return self._read_log(
            container,
            follow=follow and container.state.running,
            stdout=stdout,
            stderr=stderr,
            since=since or 0,
            until=until or 0,
            tail=None if tail < 0 else tail,
        )

    def _read_log(self, container: Container, **options: Any) -> AsyncIterator[list[LogEntry]]:
        config = container.host_config["LogConfig"]
        reader = open_reader(config["Type"], config["Config"], log_path(self.parts.core, container))
        return reader.read(**options, ended=container.log_ended)

    async def container_changes(self, id: str) -> list[Document]:
        """ContainerChanges."""
        return await self.parts.core.images.changes(self.container_get(id).id)

    async def container_export(self, id: str) -> AsyncIterator[bytes]:
        """ContainerExport."""
        return await self.parts.files.export(self.container_get(id), shown=id)

    async def container_stats(self, id: str, *, stream: bool, one_shot: bool) -> AsyncIterator[Document]:
        """ContainerStats."""
        return self.parts.stats.stream(self.container_get(id), stream=stream, one_shot=one_shot)

    async def container_resize(self, id: str, *, height: int, width: int) -> None:
        """ContainerResize. Before the start the size is kept for it."""
        container = self.container_get(id)
        if not container.state.running:
            container.console_size = (height, width)
            raise joins.not_running(container)
        if container.monitor is None:
            raise joins.restarting(container)
        try:
            await container.monitor.resize(height, width)
        except LaunchError as error:
            raise SystemFailure(str(error)) from error
        self.parts.core.container_event(container, "resize", height=height, width=width)

    async def container_start(self, id: str, *, detach_keys: str, checkpoint: str, checkpoint_dir: str) -> None:
        """ContainerStart."""
        if checkpoint:
            raise InvalidParameter("checkpoint is only supported in experimental mode")
        await self.parts.lifecycle.start(self.container_get(id))

    async def container_stop(self, id: str, *, signal: str, timeout: int | None) -> None:
        """ContainerStop."""
        container = self.container_get(id)
        if not container.state.running:
            raise NotModified("container is already stopped")
        try:
            await self.parts.lifecycle.stop(container, signal=signal, timeout=timeout)
        except InvalidParameter:
            raise
        except WindlassError as error:
            raise SystemFailure(f"cannot stop container: {id}: {error}") from error

    async def container_restart(self, id: str, *, signal: str, timeout: int | None) -> None:
        """ContainerRestart."""
        container = self.container_get(id)
        try:
            await self.parts.lifecycle.restart(container, signal=signal, timeout=timeout)
        except WindlassError as error:
            raise type(error)(f"Cannot restart container {id}: {error}") from error

    async def container_kill(self, id: str, *, signal: str) -> None:
        """ContainerKill."""
        number = parse_deliverable_signal(signal) if signal else _SIGKILL
        container = self.container_get(id)
        lifecycle, tasks = self.parts.lifecycle, self.parts.core.tasks
        work = lifecycle.kill(container) if number == _SIGKILL else lifecycle.signal(container, number)
        await tasks.finish(work, f"kill {container.id[:12]}")

    async def container_update(self, id: str, *, body: Document) -> Document:
        """ContainerUpdate."""
        return await self.parts.updating.update(self.container_get(id), body)

    async def container_rename(self, id: str, *, name: str) -> None:
        """ContainerRename."""
        if not id.strip().removeprefix("/") or not name.strip().removeprefix("/"):
            raise InvalidParameter("Neither old nor new names may be empty")
        await self.parts.updating.rename(self.container_get(id.strip()), name)

    async def container_pause(self, id: str) -> None:
        """ContainerPause."""
        await self.parts.lifecycle.pause(self.container_get(id))

    async def container_unpause(self, id: str) -> None:
        """ContainerUnpause."""
        await self.parts.lifecycle.unpause(self.container_get(id))

    async def container_attach(
        self,
        id: str,
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        logs: bool,
        stream: bool,
        detach_keys: str | None,
    ) -> ClientStream:
        """ContainerAttach. Before the start, the stream waits for it. `detach_keys` None: no keys detach."""
        keys = parse_keys(detach_keys) if detach_keys is not None else b""
        container = self.container_get(id)
        if container.state.paused:
            raise Conflict(f"container {id} is paused, unpause the container before attach")
        if container.state.restarting:
            raise Conflict(f"container {id} is restarting, wait until the container is running")
        core = self.parts.core
        hub = self.parts.lifecycle.hub(container)
        client = ClientStream(
            hub,
            stdin=stdin and bool(container.config["OpenStdin"]),
            stdout=stdout,
            stderr=stderr,
            detach_keys=keys,
            replay=self._replay(container, stdout=stdout, stderr=stderr) if logs else None,
            on_detach=lambda: core.container_event(container, "detach"),
        )
        if stream:
            hub.join(client)
            # A start that is under way has seen the client or will find it; a container that runs is connected now.
            async with container.lock:
                if container.monitor is not None and not hub.connected and container.hub is hub:
                    try:
                        hub.connect(await container.monitor.attach(stdin=True))
                    except LaunchError as error:
                        raise SystemFailure(f"Error attaching: {error}") from error
        else:
            client.end()
        core.container_event(container, "attach")
        return client

    async def _replay(self, container: Container, *, stdout: bool, stderr: bool) -> AsyncIterator[bytes]:
        """What was logged so far, in wire format."""
        async for batch in self._read_log(container, stdout=stdout, stderr=stderr):
            if container.terminal:
                yield b"".join([entry.line for entry in batch])
            else:
                yield b"".join([frame(STDERR if entry.stream == "stderr" else STDOUT, entry.line) for entry in batch])

    def container_wait(self, id: str, *, condition: str) -> Awaitable[Document]:
        """ContainerWait: the waiter exists when this returns."""
        condition = check_condition(condition)
        container = self.container_get(id)
        state, waiters = container.state, container.waiters
        if condition == "removed":
            return waiters.removal()
        if condition == "not-running" and not state.running:
            return waiters.already(state.exit_code, state.error)
        return waiters.next_end()

    async def container_delete(self, id: str, *, v: bool, force: bool, link: bool) -> None:
        """ContainerDelete."""
        if link:
            raise InvalidParameter("Conflict, cannot remove the default link name of the container")
        await self.parts.removal.remove(self.container_get(id), force=force, volumes=v, shown=id)

    async def container_archive_info(self, id: str, *, path: str) -> Document:
        """ContainerArchiveInfo."""
        return await self.parts.files.stat(self.container_get(id), path, shown=id)

    async def container_archive(self, id: str, *, path: str) -> tuple[Document, AsyncIterator[bytes]]:
        """ContainerArchive."""
        return await self.parts.files.archive(self.container_get(id), path, shown=id)

    async def put_container_archive(
        self, id: str, *, path: str, no_overwrite_dir_non_dir: bool, copy_uid_gid: bool, body: AsyncIterator[bytes]
    ) -> None:
        """PutContainerArchive."""
        await self.parts.files.extract(
            self.container_get(id),
            path,
            body,
            no_overwrite_dir_non_dir=no_overwrite_dir_non_dir,
            copy_uid_gid=copy_uid_gid,
            shown=id,
        )

    async def container_prune(self, *, filters: Filters) -> Document:
        """ContainerPrune."""
        return await self.parts.removal.prune(filters)

    # Exec ----------------------------------------------------------------------------------------------------------

    async def container_exec(self, id: str, *, body: Document) -> Document:
        """ContainerExec."""
        return {"Id": await self.parts.execs.create(self.container_get(id), body, shown=id)}

    async def exec_start(
        self, id: str, *, detach: bool, tty: bool, console_size: tuple[int, int] | None
    ) -> ClientStream | None:
        """ExecStart. Whether it has a terminal was said when it was created."""
        return await self.parts.execs.start(id, detach=detach, console_size=console_size)

    async def exec_resize(self, id: str, *, height: int, width: int) -> None:
        """ExecResize."""
        await self.parts.execs.resize(id, height=height, width=width)

    async def exec_inspect(self, id: str) -> Document:
        """ExecInspect."""
        return self.parts.execs.find(id).to_api()
