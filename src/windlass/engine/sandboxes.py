"""Sandboxes: namespaces that several containers live in together, held open without a process of their own.

    <data-root>/sandboxes/<id>.json          the record: names, what the networks gave
    <exec-root>/sandboxes/<id>/ipc, uts      bind mounts of the namespaces; the network's is the networks' own sandbox
                               shm           the tmpfs that is /dev/shm in each container
                               hostname, hosts, resolv.conf

It is what the Kubernetes CRI calls a PodSandbox. Containers made with it join its namespaces, get its files and end and
start again without it noticing. The namespaces live as long as the mounts: see namespaces(7). After a reboot the mounts
are gone and with them the sandbox: `restore` drops its record, and whoever made it makes another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from windlass.engine.files import write_file, write_whole_file
from windlass.engine.rootfs import in_own_thread
from windlass.engine.sharedmemory import mount_shared_memory
from windlass.errors import Conflict, NotFound, SystemFailure, WindlassError
from windlass.kernel import mounts
from windlass.kernel.namespaces import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUTS, setns, unshare
from windlass.kernel.process import set_hostname
from windlass.networks.attachment import Attachment

if TYPE_CHECKING:
    from windlass.engine.core import Core

Document = dict[str, Any]

log = logging.getLogger("windlass.engine")

_VERSION: Final = 1
_SYSCTL_ROOT: Final = "/proc/sys/"
_KERNEL_SYSCTLS: Final = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")


@dataclass(kw_only=True)
class Sandbox:
    """One sandbox. `attachment` is None where it is in the host's network."""

    id: str
    name: str
    hostname: str
    directory: str
    labels: dict[str, str] = field(default_factory=dict)
    attachment: Attachment | None = None
    host_ipc: bool = False

    @property
    def netns(self) -> str | None:
        """The path of the network namespace, None for the host's."""
        return self.attachment.netns_path if self.attachment is not None else None

    @property
    def addresses(self) -> list[str]:
        """Its addresses, IPv4 first; none in the host's network."""
        return [str(each) for each in self.attachment.addresses()] if self.attachment is not None else []

    @property
    def shared_memory(self) -> str:
        """The directory that is /dev/shm."""
        return f"{self.directory}/shm"

    def namespaces(self) -> dict[str, str]:
        """What a container joins: OCI name to path."""
        found: dict[str, str] = {}
        if self.netns is not None:
            found |= {"network": self.netns, "uts": f"{self.directory}/uts"}
        if not self.host_ipc:
            found["ipc"] = f"{self.directory}/ipc"
        return found

    def to_record(self) -> Document:
        """What is kept on disk."""
        return {
            "version": _VERSION,
            "id": self.id,
            "name": self.name,
            "hostname": self.hostname,
            "labels": self.labels,
            "hostIPC": self.host_ipc,
            "attachment": self.attachment.to_json() if self.attachment is not None else None,
        }


class Sandboxes:
    """All sandboxes of an engine."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._records = Path(core.settings.data_root) / "sandboxes"
        self._root = Path(core.settings.exec_root) / "sandboxes"
        self._sandboxes: dict[str, Sandbox] = {}

    def __iter__(self) -> Iterator[Sandbox]:
        return iter(list(self._sandboxes.values()))

    def get(self, identity: str) -> Sandbox:
        """Raises NotFound."""
        try:
            return self._sandboxes[identity]
        except KeyError:
            raise NotFound(f"No such sandbox: {identity}") from None

    def find(self, identity: str) -> Sandbox | None:
        """None where there is none."""
        return self._sandboxes.get(identity)

    async def create(
        self,
        identity: str,
        *,
        name: str,
        hostname: str,
        network: str | None,
        host_ipc: bool = False,
        ports: Mapping[str, list[dict[str, str]] | None] | None = None,
        sysctls: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        shm_size: int = 64 << 20,
    ) -> Sandbox:
        """Make a sandbox; to the end even if the caller is cancelled.

        Parameters:
            identity: unique, a file name.
            network: a network's name; None for the host's network (and its host name).
            ports: `HostConfig.PortBindings` of the Engine API: what is published on the host.
            sysctls: of the network and IPC namespaces, by dotted name.
            shm_size: bytes of /dev/shm.

        Raises:
            Conflict: there is one of this identity.
            WindlassError: what the networks say.
            SystemFailure: the kernel refuses. Nothing is left then.
        """
        if identity in self._sandboxes:
            raise Conflict(f"sandbox {identity} exists already")
        sandbox = Sandbox(
            id=identity,
            name=name,
            hostname=hostname,
            directory=f"{self._root}/{identity}",
            labels=dict(labels or {}),
            host_ipc=host_ipc,
        )
        work = self._create(sandbox, network, ports or {}, dict(sysctls or {}), shm_size)
        await self._core.tasks.finish(work, f"sandbox {name}")
        return sandbox

    async def _create(
        self,
        sandbox: Sandbox,
        network: str | None,
        ports: Mapping[str, list[dict[str, str]] | None],
        sysctls: dict[str, str],
        shm_size: int,
    ) -> None:
        core = self._core
        try:
            if network is not None:
                sandbox.attachment = await core.networks.attach(
                    sandbox.id, network_mode=network, hostname=sandbox.hostname, name=sandbox.name, ports=dict(ports)
                )
            await asyncio.to_thread(self._make, sandbox, sysctls, shm_size)
        except BaseException as error:
            await self._discard(sandbox)
            if isinstance(error, OSError):
                raise SystemFailure(f"cannot make sandbox {sandbox.name}: {error}") from error
            raise
        self._sandboxes[sandbox.id] = sandbox

    def _make(self, sandbox: Sandbox, sysctls: dict[str, str], shm_size: int) -> None:
        os.makedirs(sandbox.directory, mode=0o711)
        if not sandbox.host_ipc:
            mount_shared_memory(sandbox.shared_memory, shm_size)
        in_own_thread(lambda: self._hold_namespaces(sandbox, sysctls))
        self._records.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole_file(f"{self._records}/{sandbox.id}.json", orjson.dumps(sandbox.to_record()))

    def _hold_namespaces(self, sandbox: Sandbox, sysctls: dict[str, str]) -> None:
        """Make the namespaces and bind them to files; the thread that does it ends afterwards."""
        own = [(flag, name) for flag, name, wanted in self._own(sandbox) if wanted]
        flags = 0
        for flag, _ in own:
            flags |= flag
        if flags:
            unshare(flags)
        if flags & CLONE_NEWUTS:
            set_hostname(sandbox.hostname)
        for _, name in own:
            place = os.open(f"{sandbox.directory}/{name}", os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
            try:
                tree = mounts.open_tree_clone(f"/proc/thread-self/ns/{name}")
                try:
                    mounts.move_mount(tree, place, about=name)
                finally:
                    os.close(tree)
            finally:
                os.close(place)
        if sysctls:
            self._set_sysctls(sandbox, sysctls)

    @staticmethod
    def _own(sandbox: Sandbox) -> Sequence[tuple[int, str, bool]]:
        return (
            (CLONE_NEWIPC, "ipc", not sandbox.host_ipc),
            (CLONE_NEWUTS, "uts", sandbox.attachment is not None),
        )

    def _set_sysctls(self, sandbox: Sandbox, sysctls: dict[str, str]) -> None:
        """Set what belongs to the sandbox's namespaces. Raises OSError, SystemFailure for what belongs to the host."""
        networked = {name: value for name, value in sysctls.items() if name.startswith("net.")}
        for name in sysctls.keys() - networked.keys():
            if not name.startswith(_KERNEL_SYSCTLS) or sandbox.host_ipc:
                raise SystemFailure(f'sysctl "{name}" is not in a namespace of the sandbox')
        if networked and sandbox.netns is None:
            raise SystemFailure(f'sysctl "{min(networked)}" cannot be set in the host\'s network')
        for name in sysctls.keys() - networked.keys():
            _write_sysctl(name, sysctls[name])
        if networked and sandbox.netns is not None:
            namespace = os.open(sandbox.netns, os.O_RDONLY | os.O_CLOEXEC)
            try:
                setns(namespace, CLONE_NEWNET)
            finally:
                os.close(namespace)
            for name, value in networked.items():
                _write_sysctl(name, value)

    def write_files(self, sandbox: Sandbox, files: Mapping[str, str]) -> None:
        """Write hostname, hosts and resolv.conf, which containers of the sandbox see. Raises SystemFailure."""
        for name, text in files.items():
            write_file(f"{sandbox.directory}/{name}", text.encode())

    async def remove(self, identity: str) -> None:
        """Give a sandbox back; one that is gone is no error. Its containers must have ended."""
        sandbox = self._sandboxes.pop(identity, None)
        if sandbox is not None:
            await self._core.tasks.finish(self._discard(sandbox), f"sandbox {sandbox.name}")

    async def _discard(self, sandbox: Sandbox) -> None:
        with contextlib.suppress(WindlassError):
            await self._core.networks.detach(sandbox.id)
        await asyncio.to_thread(self._unmake, sandbox)

    def _unmake(self, sandbox: Sandbox) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._records}/{sandbox.id}.json")
        _clear(sandbox.directory)

    # Start-up ----------------------------------------------------------------------------------------------------

    async def restore(self) -> set[str]:
        """Take over what an earlier engine left; the identities of those that live on."""
        for record in await asyncio.to_thread(self._read):
            sandbox = self._from_record(record)
            if sandbox is None:
                continue
            if sandbox.attachment is not None:
                try:
                    sandbox.attachment = await self._core.networks.restore(sandbox.id, record["attachment"])
                except (WindlassError, OSError, ValueError) as error:
                    log.error("cannot restore the network of sandbox %s: %s", sandbox.name, error)
                    await self._discard(sandbox)
                    continue
            self._sandboxes[sandbox.id] = sandbox
        await asyncio.to_thread(self._clear_strange)
        return set(self._sandboxes)

    def _read(self) -> list[Document]:
        found = []
        for path in sorted(self._records.glob("*.json")):
            try:
                found.append(orjson.loads(path.read_bytes()))
            except (OSError, ValueError) as error:
                log.error("cannot read %s: %s", path, error)
        return found

    def _from_record(self, record: Document) -> Sandbox | None:
        try:
            if record["version"] != _VERSION:
                raise ValueError(f"version {record['version']!r} is not known")
            kept = record["attachment"]
            sandbox = Sandbox(
                id=record["id"],
                name=record["name"],
                hostname=record["hostname"],
                directory=f"{self._root}/{record['id']}",
                labels=record["labels"],
                host_ipc=record["hostIPC"],
                attachment=None if kept is None else Attachment.from_json(record["id"], kept),
            )
        except (KeyError, TypeError, ValueError) as error:
            log.error("the record of a sandbox is damaged: %s", error)
            return None
        paths = sandbox.namespaces().values()
        if all(_is_namespace(path) for path in paths) and os.path.isdir(sandbox.directory):
            return sandbox
        self._unmake(sandbox)
        return None

    def _clear_strange(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._root):
                if name not in self._sandboxes:
                    _clear(f"{self._root}/{name}")


def _write_sysctl(name: str, value: str) -> None:
    path = _SYSCTL_ROOT + name.replace("/", "\0").replace(".", "/").replace("\0", ".")
    if ".." in path:
        raise SystemFailure(f'"{name}" is no name of a sysctl')
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


def _is_namespace(path: str) -> bool:
    """Whether a namespace is mounted there, rather than an empty file after a reboot."""
    try:
        return os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev
    except OSError:
        return False


def _clear(directory: str) -> None:
    """Unmount and remove a sandbox's directory."""
    if not os.path.isdir(directory):
        return
    for name in ("ipc", "uts", "shm"):
        path = f"{directory}/{name}"
        if os.path.lexists(path):
            mounts.unmount_all(path)
    shutil.rmtree(directory, ignore_errors=True)
