"""Creating containers: a client's request becomes a record, a snapshot, volumes and a name, or nothing at all.

    decode ─▶ check ─▶ image ─▶ complete ─▶ name ─▶ directory (the intent) ─▶ snapshot ─▶ volumes ─▶ record

A directory without a record is a creation that was interrupted: start-up removes it with its snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from windlass.engine import joins, links, modes
from windlass.engine.connections import Connections
from windlass.engine.container import Container
from windlass.engine.core import Core, log
from windlass.engine.ids import new_id
from windlass.engine.labels import selinux_labels
from windlass.engine.merge import command_of, merge_config
from windlass.engine.preparation import Preparation
from windlass.engine.removal import Removal
from windlass.engine.sandboxes import Sandbox
from windlass.engine.shapes import decode_create
from windlass.engine.spec import default_masked_paths, default_readonly_paths
from windlass.engine.validate import check_create
from windlass.engine.volumemounts import VolumeMounts
from windlass.errors import SystemFailure, WindlassError
from windlass.kernel import capabilities
from windlass.logs.options import file_settings, validate_options

if TYPE_CHECKING:
    from windlass.images import Image

Document = dict[str, Any]


class Creation:
    """Creates containers."""

    def __init__(self, core: Core, preparation: Preparation, connections: Connections, removal: Removal) -> None:
        self._core = core
        self._connections = connections
        self._removal = removal
        self._mounts = VolumeMounts(core)
        last = capabilities.last_capability()
        self._capabilities = (
            capabilities.names_of((1 << (last + 1)) - 1),
            preparation.available_capabilities,
        )

    async def create(
        self, *, name: str, platform: str, body: Document, default_read_only_non_recursive: bool, sandbox: str = ""
    ) -> Document:
        """`POST /containers/create`; with `sandbox`, a container that lives in one.

        Raises `InvalidParameter`, `NotFound`, `Conflict`, `SystemFailure`.
        """
        core = self._core
        config, host_config, endpoints = decode_create(body)
        if sandbox:
            self._settle_in(core.sandboxes.get(sandbox), host_config)
        warnings = check_create(
            config,
            host_config,
            endpoints,
            host=core.host,
            capabilities=self._capabilities,
            runtimes=core.runtimes.find,
        )
        image = await self._image(config["Image"], platform, warnings)
        if image is not None:
            merge_config(config, image.config.get("config") or {})
        path, args = command_of(config)
        self._complete_log(host_config["LogConfig"])
        self._complete(host_config)
        container = Container(
            id=new_id(),
            name="",
            created=core.clock(),
            path=path,
            args=args,
            config=config,
            host_config=host_config,
            image_id=image.id if image is not None else "",
            driver=core.images.driver_name,
            sandbox=sandbox,
        )
        if image is not None:
            container.image_manifest = dict(image.manifest)
            container.os = image.config.get("os") or "linux"
        container.no_new_privileges_default = core.settings.no_new_privileges
        container.security_labels = selinux_labels(
            container.security, enabled=core.settings.selinux_enabled and core.host.selinux
        )
        self._complete_network(container, endpoints)
        await core.tasks.finish(
            self._make(container, name, image, default_read_only_non_recursive), f"create {container.id[:12]}"
        )
        return {"Id": container.id, "Warnings": warnings}

    @staticmethod
    def _settle_in(sandbox: Sandbox, host_config: Document) -> None:
        """Use a sandbox's namespaces, in the words that the API shows."""
        hosts_network = sandbox.netns is None
        host_config["NetworkMode"] = "host" if hosts_network else modes.sharing(sandbox.id)
        host_config["UTSMode"] = "host" if hosts_network else ""
        host_config["IpcMode"] = "host" if sandbox.host_ipc else modes.sharing(sandbox.id)

    # The request, completed -----------------------------------------------------------------------------------

    async def _image(self, reference: str, platform: str, warnings: list[str]) -> Image | None:
        if not reference:
            return None
        images = self._core.images
        if platform:
            return images.resolve(reference, platform=platform)
        image = images.resolve(reference)
        if not images.runs_here(image):
            warnings.append(
                f"The requested image's platform ({image.platform}) does not match the detected host platform "
                f"({images.host_platform}) and no specific platform was requested"
            )
        return image

    def _complete_log(self, log_config: Document) -> None:
        """The daemon's log driver and options where the container names none. Raises `InvalidParameter`."""
        settings = self._core.settings
        if not log_config["Type"]:
            log_config["Type"] = settings.log_driver
        if log_config["Type"] == settings.log_driver:
            log_config["Config"] = {**settings.log_opts, **log_config["Config"]}
        validate_options(log_config["Type"], log_config["Config"])
        if log_config["Type"] != "none":
            file_settings(log_config["Type"], log_config["Config"])

    def _complete(self, host_config: Document) -> None:
        """What dockerd fills in where the client said nothing."""
        core, settings = self._core, self._core.settings
        if host_config["Memory"] > 0 and host_config["MemorySwap"] == 0:
            host_config["MemorySwap"] = host_config["Memory"] * 2
        host_config["ShmSize"] = host_config["ShmSize"] or settings.default_shm_size
        host_config["IpcMode"] = host_config["IpcMode"] or settings.default_ipc_mode or "private"
        privileged: bool = host_config["Privileged"]
        unified = core.host.cgroup_version == "2"
        if not host_config["CgroupnsMode"]:
            default = settings.default_cgroupns_mode or ("private" if unified else "host")
            host_config["CgroupnsMode"] = "host" if privileged and not unified else default
        if not host_config["Runtime"]:
            host_config["Runtime"] = core.runtimes.default
        core.runtimes.find(host_config["Runtime"])
        joins.replace_names(core.store, host_config)
        options = host_config["SecurityOpt"]
        unlabelled = not any(option.startswith("label") for option in options or ())
        if unlabelled and (privileged or "host" in {host_config["IpcMode"], host_config["PidMode"]}):
            host_config["SecurityOpt"] = [*(options or ()), "label=disable"]
        if host_config["OomKillDisable"] is None and core.host.oom_kill_disable:
            host_config["OomKillDisable"] = False
        if not privileged:
            if host_config["MaskedPaths"] is None:
                host_config["MaskedPaths"] = default_masked_paths(core.host.thermal_throttle)
            if host_config["ReadonlyPaths"] is None:
                host_config["ReadonlyPaths"] = default_readonly_paths()

    def _complete_network(self, container: Container, endpoints: dict[str, Document]) -> None:
        links.check(self._core, container.host_config["Links"])
        self._connections.settle(container, endpoints)
        config = container.config
        if container.sandbox:
            config["Hostname"] = self._core.sandboxes.get(container.sandbox).hostname
        if not config["Hostname"]:
            host = container.network_mode == "host"
            config["Hostname"] = self._core.host.hostname if host else container.id[:12]

    # What is made -----------------------------------------------------------------------------------------------

    async def _make(
        self, container: Container, name: str, image: Image | None, default_read_only_non_recursive: bool
    ) -> None:
        core, names = self._core, self._core.store.names
        if name:
            container.name = names.reserve(name, container.id)
        else:
            container.name = names.reserve_random(container.id)
        try:
            core.store.create_directory(container)
            await core.images.create_rootfs(
                container.id,
                image.id if image is not None else None,
                storage_opt=container.host_config.get("StorageOpt") or {},
            )
            await self._mounts.register(container, default_read_only_non_recursive=default_read_only_non_recursive)
            core.store.save(container)
        except BaseException as error:
            await self._undo(container)
            if isinstance(error, OSError):
                raise SystemFailure(str(error)) from error
            raise
        core.store.add(container)
        core.container_event(container, "create")

    async def _undo(self, container: Container) -> None:
        core = self._core
        try:
            core.store.begin_removal(container)
            with contextlib.suppress(WindlassError, OSError):
                await self._removal.remove_snapshots(container)
            await asyncio.to_thread(core.store.finish_removal, container)
            await self._removal.release_volumes(container, remove=True)
        except (WindlassError, OSError) as error:
            log.warning("cannot undo the creation of container %s: %s", container.id, error)
        finally:
            core.store.names.release(container.name, container.id)
