"""The engine as the agent sees it: the containers and the sandbox of a pod, and when one of them has ended.

Everything about a container that the agent has to know again after a restart is in its labels: no other record exists.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from windlass.engine import Engine
from windlass.engine.container import Container
from windlass.engine.sandboxes import Sandbox
from windlass.errors import InvalidParameter, NotFound, NotModified, WindlassError
from windlass.kernel.cgroups import CgroupStats
from windlass.kube.node.resources import Limits
from windlass.volumes.trees import disk_usage

Document = dict[str, Any]

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
CONTAINER_HASH = "io.kubernetes.container.hash"
CONTAINER_KIND = "io.kubernetes.container.type"
ATTEMPT = "io.kubernetes.container.restartCount"
MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
SANDBOX_ATTEMPT = "io.kubernetes.sandbox.attempt"

INIT, REGULAR, EPHEMERAL = "init", "regular", "ephemeral"
PROCESS_ROOT, PROCESS_ROOT_NAME = "sandbox", "POD"
RUNTIME = "windlass"


@dataclass(frozen=True, slots=True)
class Found:
    """A container of a pod as the engine knows it. Times in nanoseconds since the epoch, 0 for never.

    `failure` says why it could not be started.
    """

    id: str
    name: str
    kind: str
    attempt: int
    hash: str
    sandbox: str
    running: bool
    was_started: bool
    started_at: int
    finished_at: int
    created_at: int
    exit_code: int
    oom_killed: bool
    failure: str
    image: str
    image_id: str
    message_file: str
    limits: Limits
    stop_signal: str

    @property
    def ended(self) -> bool:
        """Whether it ran, or tried to, and does not run now."""
        return not self.running and (self.was_started or bool(self.failure))


class PodRuntime:
    """See the module."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._core = engine.parts.core

    # What there is -----------------------------------------------------------------------------------------------

    def containers(self, uid: str) -> list[Found]:
        """All containers of a pod, the latest attempt of each name last."""
        mine = (each for each in self._core.store if each.labels.get(POD_UID) == uid)
        found = [_found(each) for each in mine if each.labels.get(CONTAINER_KIND) != PROCESS_ROOT]
        found.sort(key=lambda each: each.attempt)
        return found

    def process_roots(self, uid: str) -> list[Container]:
        """The containers that hold a pod's PID namespace: at most one but for leftovers."""
        mine = (each for each in self._core.store if each.labels.get(POD_UID) == uid)
        return [each for each in mine if each.labels.get(CONTAINER_KIND) == PROCESS_ROOT]

    def sandbox(self, uid: str) -> Sandbox | None:
        """The pod's sandbox."""
        for sandbox in self._core.sandboxes:
            if sandbox.labels.get(POD_UID) == uid:
                return sandbox
        return None

    def pods(self) -> set[str]:
        """UIDs of all pods of which something is here."""
        uids = {each.labels.get(POD_UID, "") for each in self._core.store}
        uids |= {each.labels.get(POD_UID, "") for each in self._core.sandboxes}
        return uids - {""}

    async def ends(self) -> AsyncIterator[str]:
        """UIDs of pods one of whose containers has just ended or begun, for ever."""
        async for event in self._core.events.stream(since=None, until=None):
            if event["Type"] == "container" and event["Action"] in ("die", "start", "oom"):
                uid = event["Actor"]["Attributes"].get(POD_UID)
                if uid:
                    yield uid

    def has_handler(self, name: str) -> bool:
        """Whether an OCI runtime of this name can run containers here."""
        try:
            self._core.runtimes.find(name)
        except InvalidParameter:
            return False
        return True

    # Sandboxes ---------------------------------------------------------------------------------------------------

    async def make_sandbox(
        self,
        pod: Document,
        *,
        hostname: str,
        network: str | None,
        host_ipc: bool,
        ports: Mapping[str, list[dict[str, str]] | None],
        sysctls: Mapping[str, str],
    ) -> Sandbox:
        """Make a pod's sandbox. Raises WindlassError."""
        metadata = pod["metadata"]
        uid = metadata["uid"]
        attempts = [int(each.sandbox.rpartition("-")[2] or 0) for each in self.containers(uid) if each.sandbox]
        attempt = max(attempts, default=-1) + 1
        return await self._core.sandboxes.create(
            f"{uid}-{attempt}",
            name=f"k8s_POD_{metadata['name']}_{metadata['namespace']}_{uid}_{attempt}",
            hostname=hostname,
            network=network,
            host_ipc=host_ipc,
            ports=ports,
            sysctls=sysctls,
            labels={POD_NAME: metadata["name"], POD_NAMESPACE: metadata["namespace"], POD_UID: uid},
        )

    def write_name_files(self, sandbox: Sandbox, files: Mapping[str, str]) -> None:
        """hosts, hostname and resolv.conf of a sandbox. Raises WindlassError."""
        self._core.sandboxes.write_files(sandbox, files)

    async def remove_sandbox(self, sandbox: Sandbox) -> None:
        """Give a sandbox back."""
        await self._core.sandboxes.remove(sandbox.id)

    # Containers --------------------------------------------------------------------------------------------------

    async def create(self, sandbox: Sandbox, name: str, body: Document) -> str:
        """Create a container; its id. Raises WindlassError."""
        made = await self.engine.container_create(
            name=name, platform="", body=body, default_read_only_non_recursive=False, sandbox=sandbox.id
        )
        return str(made["Id"])

    async def start(self, identity: str) -> None:
        """Start a container. Raises WindlassError."""
        await self.engine.container_start(identity, detach_keys="", checkpoint="", checkpoint_dir="")

    async def stop(self, identity: str, *, signal: str, seconds: int) -> None:
        """Stop a container: its signal, and after some seconds SIGKILL. One that has ended is no error."""
        with contextlib.suppress(NotModified, NotFound):
            await self.engine.container_stop(identity, signal=signal, timeout=seconds)

    def stats(self, identity: str) -> CgroupStats:
        """What a running container uses. Blocking, briefly. Raises WindlassError, OSError."""
        return self._core.open_cgroup(self.get(identity)).stats()

    async def disk_usage(self, identity: str) -> int:
        """Bytes that a container has written, its log included. Raises WindlassError, OSError."""
        written, _ = await self._core.images.rootfs_usage(identity)
        return written + await asyncio.to_thread(disk_usage, str(self._core.store.directory(identity)))

    async def remove_ended(self, uid: str) -> None:
        """Remove ended containers of a pod that others have followed. Raises WindlassError."""
        last = {each.name: each.id for each in self.containers(uid)}
        for each in self.containers(uid):
            if each.ended and each.id != last[each.name]:
                await self.remove(each.id)

    async def update(self, identity: str, body: Document) -> None:
        """Give a container other limits. Raises WindlassError."""
        await self.engine.container_update(identity, body=body)

    async def remove(self, identity: str) -> None:
        """Remove a container, running or not; one that is gone is no error. Raises WindlassError."""
        with contextlib.suppress(NotFound):
            await self.engine.container_delete(identity, v=True, force=True, link=False)

    def get(self, identity: str) -> Container:
        """The engine's own record. Raises NotFound."""
        return self.engine.container_get(identity)

    async def exec(self, identity: str, command: list[str], limit: int) -> tuple[int, bytes]:
        """Run a command in a container to its end: exit code and at most `limit` bytes of output.

        Raises WindlassError: it could not be started.
        """
        probe = await self.engine.parts.execs.probe(self.get(identity), tuple(command))
        try:
            output = await probe.output(limit)
            return await probe.exit_code(), output
        except BaseException:
            with contextlib.suppress(WindlassError):
                await probe.kill()
            raise


def _found(container: Container) -> Found:
    labels, state, host = container.labels, container.state, container.host_config
    return Found(
        id=container.id,
        name=labels.get(CONTAINER_NAME, ""),
        kind=labels.get(CONTAINER_KIND, REGULAR),
        attempt=int(labels.get(ATTEMPT) or 0),
        hash=labels.get(CONTAINER_HASH, ""),
        sandbox=container.sandbox,
        running=state.running,
        was_started=bool(state.started_at),
        started_at=state.started_at,
        finished_at=state.finished_at,
        created_at=container.created,
        exit_code=state.exit_code,
        oom_killed=state.oom_killed,
        failure=state.error,
        image=container.config["Image"],
        image_id=container.image_id,
        message_file=labels.get(MESSAGE_PATH, ""),
        limits=Limits(host["CpuShares"] or 0, host["CpuQuota"] or -1, host["Memory"] or 0),
        stop_signal=container.config.get("StopSignal") or "",
    )
