"""Everything that a start needs, gathered and written down; and given back after the end.

    joins        the containers whose namespaces are shared run
    networks     a sandbox with addresses and published ports
    files        hostname, hosts, resolv.conf             <exec-root>/containers/<id>/
    mounts       volumes, binds, tmpfs, shared memory
    identity     user, capabilities, filter, labels, devices, rlimits
    documents    config.json, launch.json                 <exec-root>/containers/<id>/

`prepare` either does all of it or leaves nothing; `release` gives everything back and may be called at any time, also
for a run that another daemon prepared.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from windlass.engine import joins
from windlass.engine.accounts import AccountReader
from windlass.engine.connections import Connections
from windlass.engine.container import Container
from windlass.engine.core import Core, log
from windlass.engine.devices import block_device_numbers, container_devices
from windlass.engine.files import write_file, write_whole_file
from windlass.engine.labels import Labels
from windlass.engine.runtimes import Runtime
from windlass.engine.seccomp import Filters
from windlass.engine.security import tweak_capabilities
from windlass.engine.spec import SpecRequest, build
from windlass.engine.usermounts import UserMounts
from windlass.engine.users import AccountFiles, resolve
from windlass.errors import SystemFailure, WindlassError
from windlass.kernel import capabilities
from windlass.logs.options import extra_attributes
from windlass.networks.attachment import Attachment
from windlass.runtime import tiny_init
from windlass.runtime.records import CONFIG, LAUNCH

Document = dict[str, Any]

ROOTFS: Final = "rootfs"
_INIT_NAMES: Final = ("docker-init", "tini-static", "catatonit")
_INIT_DIRECTORIES: Final = (
    "/usr/local/libexec/docker",
    "/usr/libexec/docker",
    "/usr/local/lib/docker",
    "/usr/lib/docker",
    "/usr/libexec/podman",
)
_UNLIMITED: Final = (1 << 64) - 1


class Preparation:
    """Prepares and releases runs."""

    def __init__(self, core: Core, connections: Connections) -> None:
        self._core = core
        self._connections = connections
        self._accounts = AccountReader()
        self._mounts = UserMounts(core)
        self._filters = Filters(Path(core.settings.exec_root) / "seccomp", default=core.settings.seccomp_profile)
        self._labels = Labels(core)
        self._available = capabilities.names_of(capabilities.of_process().bounding)

    @property
    def accounts(self) -> AccountReader:
        """Reads passwd and group files."""
        return self._accounts

    @property
    def available_capabilities(self) -> list[str]:
        """What this process can give."""
        return self._available

    def filter_of(self, container: Container) -> str | None:
        """The file with the system call filter of a container's processes. Raises `WindlassError`."""
        host_config = container.host_config
        profile = self._filters.profile_of(container.security.seccomp, privileged=host_config["Privileged"])
        return self._filters.path(profile, self._capabilities(host_config))

    def _capabilities(self, host_config: Mapping[str, Any]) -> list[str]:
        return tweak_capabilities(
            add=host_config["CapAdd"] or (),
            drop=host_config["CapDrop"] or (),
            privileged=host_config["Privileged"],
            available=self._available,
        )

    def adopt(self, container: Container) -> None:
        """Know what a run has that another daemon prepared."""
        self._mounts.adopt(container)
        self._connections.adopt(container)

    def started(self, container: Container) -> None:
        """A container runs now."""
        self._connections.started(container)

    async def prepare(self, container: Container) -> None:
        """Get ready to launch. Raises `WindlassError` with dockerd's words; nothing is left then."""
        directory = self._core.run_directory(container)
        try:
            os.makedirs(directory, mode=0o711, exist_ok=True)
        except OSError as error:
            raise SystemFailure(str(error)) from error
        try:
            if container.sandbox:
                self._core.sandboxes.get(container.sandbox)
            donor = joins.network_donor(self._core.store, container)
            attachment = await self._connections.attach(container, donor)
            await self._write(container, directory, attachment, donor)
        except BaseException:
            await self.release(container)
            await self.remove_directory(container)
            raise

    # Documents --------------------------------------------------------------------------------------------------

    async def _write(
        self, container: Container, directory: str, attachment: Attachment, donor: Container | None
    ) -> None:
        core, host_config = self._core, container.host_config
        runtime = core.runtimes.find(host_config["Runtime"])
        files: dict[str, bytes] = {}
        sandbox = core.sandboxes.find(container.sandbox)
        if sandbox is not None:
            name_files = sandbox.directory
        elif donor is not None:
            name_files = core.run_directory(donor)
        else:
            files |= self._connections.files(container, attachment)
            name_files = directory
        user_mounts = await self._mounts.prepare(container, name_files)
        request = await self._request(container, attachment, runtime, user_mounts.mounts)
        profile = self._filters.profile_of(container.security.seccomp, privileged=host_config["Privileged"])
        launch = self._launch_document(container, request)
        config = build(request)
        if runtime.own:
            launch["seccompFilter"] = self.filter_of(container)
        else:
            launch["runtime"] = {
                "name": runtime.name,
                "path": runtime.path,
                "args": list(runtime.args),
                "root": f"{directory}/runtime",
            }
            profile = self._filters.profile_of(container.security.seccomp, privileged=host_config["Privileged"])
            if (document := self._filters.document(profile, request.capabilities)) is not None:
                config["linux"]["seccomp"] = document
        files[CONFIG] = orjson.dumps(config)
        for name, data in files.items():
            write_file(f"{directory}/{name}", data)
        # With this one a launch is possible, and after it nobody may find half of anything.
        write_whole_file(f"{directory}/{LAUNCH}", orjson.dumps(launch))

    async def _request(
        self,
        container: Container,
        attachment: Attachment,
        runtime: Runtime,
        user_mounts: list[Any],
    ) -> SpecRequest:
        core, config, host_config = self._core, container.config, container.host_config
        layers = core.images.rootfs_mounts(container.id)
        files: AccountFiles = await self._accounts.of_snapshot(container.image_id, layers)
        try:
            account = resolve(config["User"], host_config["GroupAdd"] or (), files)
        except WindlassError as error:
            # As in dockerd, what is wrong at the start is no fault of the start request.
            raise SystemFailure(str(error)) from None
        devices = []
        if host_config["Privileged"] or host_config["Devices"]:
            devices = await asyncio.to_thread(container_devices, host_config)
        network = attachment.netns_path if container.network_mode != "host" else None
        process_label, mount_label = container.security_labels
        return SpecRequest(
            container_id=container.id,
            path=container.path,
            args=container.args,
            config=config,
            host_config=host_config,
            root=ROOTFS,
            cgroups_path=core.cgroup_path(container),
            account=account,
            capabilities=self._capabilities(host_config),
            security=container.security,
            mounts=user_mounts,
            devices=devices,
            device_numbers=block_device_numbers(host_config),
            rlimits=self._rlimits(host_config),
            namespaces=joins.namespace_paths(core.store, container, network, core.sandboxes.find(container.sandbox)),
            known_sysctls=core.host.sysctls,
            init=self._init(host_config),
            apparmor_profile=await self._labels.apparmor_profile(container),
            process_label=process_label,
            mount_label=mount_label,
            recursive_readonly=runtime.own,
            console_size=container.console_size or host_config["ConsoleSize"],
        )

    def _rlimits(self, host_config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """The container's, over the daemon's; those of the daemon no higher than this process may set."""
        limits: dict[str, tuple[int, int]] = {}
        for name, limit in self._core.settings.default_ulimits.items():
            soft, hard = _rlimit(limit)
            if "CAP_SYS_RESOURCE" not in self._available:
                number = getattr(resource, f"RLIMIT_{name.upper()}", None)
                ceiling = resource.getrlimit(number)[1] if number is not None else -1
                if ceiling != resource.RLIM_INFINITY:
                    soft, hard = min(soft, ceiling), min(hard, ceiling)
            limits[name] = soft, hard
        for limit in host_config["Ulimits"] or ():
            limits[limit["Name"]] = _rlimit(limit)
        return limits

    def _init(self, host_config: Mapping[str, Any]) -> str:
        """The program for --init, empty if none is wanted. Raises `SystemFailure` if it is not installed."""
        wanted = host_config.get("Init")
        if not (self._core.settings.init if wanted is None else wanted):
            return ""
        if configured := self._core.settings.init_path:
            return configured
        # Not in the exec root, from which nothing may be executed where it is a hardened /run.
        if built_in := tiny_init.write(str(self._core.settings.data_root)):
            return built_in
        for name in _INIT_NAMES:
            for directory in _INIT_DIRECTORIES:
                if os.access(f"{directory}/{name}", os.X_OK):
                    return f"{directory}/{name}"
            if found := shutil.which(name):
                return os.path.realpath(found)
        raise SystemFailure('exec: "docker-init": executable file not found in $PATH')

    def _launch_document(self, container: Container, request: SpecRequest) -> Document:
        core, config, host_config = self._core, container.config, container.host_config
        log_config, log_file = host_config["LogConfig"], log_path(core, container)
        if log_config["Type"] == "local":
            os.makedirs(os.path.dirname(log_file), mode=0o700, exist_ok=True)
        size = list(request.console_size)
        return {
            "id": container.id,
            "rootfs": [list(mount) for mount in core.images.rootfs_mounts(container.id)],
            "terminal": container.terminal,
            "consoleSize": size if all(size) else None,
            "openStdin": config["OpenStdin"],
            "stdinOnce": config["StdinOnce"],
            "log": {
                "driver": log_config["Type"],
                "options": log_config["Config"],
                "path": log_file,
                "attrs": extra_attributes(
                    log_config["Config"],
                    labels=container.labels,
                    env=config["Env"] or [],
                    tag=container.id[:12] if log_config["Config"].get("tag") else "",
                ),
            },
            "seccompFilter": None,
            "cgroup": request.cgroups_path,
            "runtime": None,
        }

    # Afterwards -------------------------------------------------------------------------------------------------

    async def release(self, container: Container) -> None:
        """Give back what a run had, except its directory. Never raises for what cannot be given back: it is logged."""
        await self._connections.detach(container)
        await self._mounts.release(container)

    async def remove_directory(self, container: Container) -> None:
        """Remove the files of a run: with exit.json, its end is known from the record only."""
        directory = self._core.run_directory(container)
        try:
            remove_run_directory(directory)
        except OSError:
            # More than the usual few files.
            try:
                await asyncio.to_thread(shutil.rmtree, directory)
            except OSError as error:
                log.warning("cannot remove %s: %s", directory, error)


def remove_run_directory(directory: str) -> None:
    """Remove a run's directory and its few files. Raises `OSError` if there is more than that."""
    try:
        with os.scandir(directory) as entries:
            names = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except FileNotFoundError:
        return
    if len(names) > 16:
        raise OSError(39, os.strerror(39), directory)
    for path, is_directory in names:
        if is_directory:
            os.rmdir(path)
        else:
            os.unlink(path)
    os.rmdir(directory)


def _rlimit(limit: Mapping[str, Any]) -> tuple[int, int]:
    soft, hard = (_UNLIMITED if limit[name] == -1 else limit[name] for name in ("Soft", "Hard"))
    return soft, hard


def log_path(core: Core, container: Container) -> str:
    """Where a container's log is; empty if nothing is kept."""
    directory = core.store.directory(container.id)
    match container.host_config["LogConfig"]["Type"]:
        case "json-file":
            return f"{directory}/{container.id}-json.log"
        case "local":
            return f"{directory}/local-logs/container.log"
        case _:
            return ""
