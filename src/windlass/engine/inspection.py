"""Containers as the API shows them: `docker inspect` and the lines of `docker ps` (API 1.51)."""

from __future__ import annotations

from typing import Any

from windlass.engine import links
from windlass.engine.container import Container
from windlass.engine.core import Core
from windlass.engine.labels import DEFAULT_PROFILE
from windlass.engine.preparation import log_path
from windlass.engine.security import UNCONFINED
from windlass.engine.timestamps import SECOND, rfc3339
from windlass.errors import WindlassError

Document = dict[str, Any]


def empty_network_settings() -> Document:
    """`NetworkSettings` of a container that has no sandbox."""
    return {
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": "",
        "Ports": {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": "",
        "Networks": {},
    }


def shown_command(container: Container) -> str:
    """The command as `docker ps` shows it: arguments with blanks in quotes."""
    words = [f"'{word}'" if " " in word else word for word in container.args]
    return " ".join([container.path, *words])


def port_summaries(ports: dict[str, list[dict[str, str]] | None]) -> list[Document]:
    """`Ports` of a list entry from `NetworkSettings.Ports`."""
    found: list[Document] = []
    for port, bindings in ports.items():
        number, _, protocol = port.partition("/")
        if not bindings:
            found.append({"PrivatePort": int(number), "Type": protocol})
        for binding in bindings or ():
            found.append(
                {
                    "IP": binding["HostIp"],
                    "PrivatePort": int(number),
                    "PublicPort": int(binding["HostPort"] or 0),
                    "Type": protocol,
                }
            )
    return found


class Inspection:
    """Describes containers."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def network_settings(self, container: Container) -> Document:
        """`NetworkSettings`: what the sandbox has, or what was asked for."""
        attachment = self._core.networks.attachment(container.id)
        if attachment is not None:
            settings: Document = attachment.network_settings()
            return settings
        settings = empty_network_settings()
        settings["Networks"] = {name: self._requested(endpoint) for name, endpoint in container.endpoints.items()}
        return settings

    @staticmethod
    def _requested(endpoint: Document) -> Document:
        """An endpoint that is not there: the wishes without the facts."""
        # Which network that was is known once it was connected.
        blank = {"EndpointID": "", "Gateway": "", "IPAddress": "", "IPPrefixLen": 0}
        blank |= {"IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": None}
        return endpoint | blank

    async def inspect(self, container: Container, *, size: bool) -> Document:
        """`GET /containers/{id}/json`."""
        core = self._core
        state = container.state.to_api()
        if container.health is not None:
            state["Health"] = container.health
        run = core.run_directory(container)
        named = bool(container.state.started_at) and container.shares_network_of is None
        host_config = dict(container.host_config)
        host_config["Links"] = links.shown(core, container)
        host_config["Ulimits"] = self._ulimits(container)
        process_label, mount_label = container.security_labels
        logged_as_json = host_config["LogConfig"]["Type"] == "json-file"
        document: Document = {
            "Id": container.id,
            "Created": rfc3339(container.created),
            "Path": container.path,
            "Args": container.args,
            "State": state,
            "Image": container.image_id,
            "ResolvConfPath": f"{run}/resolv.conf" if named else "",
            "HostnamePath": f"{run}/hostname" if named else "",
            "HostsPath": f"{run}/hosts" if named else "",
            # The files of other drivers are nobody else's business.
            "LogPath": log_path(core, container) if container.state.started_at and logged_as_json else "",
            "Name": f"/{container.name}",
            "RestartCount": container.restart_count,
            "Driver": container.driver,
            "Platform": container.os,
            "MountLabel": mount_label,
            "ProcessLabel": process_label,
            "AppArmorProfile": self._apparmor(container),
            "ExecIDs": sorted(container.execs) or None,
            "HostConfig": host_config,
            "GraphDriver": self._graph_driver(container),
        }
        if size:
            document |= await self.sizes(container)
        document |= {
            "Mounts": [point.to_api() for point in container.mount_points.values()],
            "Config": container.config,
            "NetworkSettings": self.network_settings(container),
        }
        if container.image_manifest is not None:
            document["ImageManifestDescriptor"] = container.image_manifest
        return document

    def _ulimits(self, container: Container) -> list[Document] | None:
        own = list(container.host_config["Ulimits"] or ())
        names = {limit["Name"] for limit in own}
        defaults = self._core.settings.default_ulimits
        own += [dict(limit) for name, limit in defaults.items() if name not in names]
        return own or container.host_config["Ulimits"]

    def _apparmor(self, container: Container) -> str:
        if not self._core.host.apparmor:
            return ""
        default = UNCONFINED if container.host_config["Privileged"] else DEFAULT_PROFILE
        return container.security.apparmor or default

    def _graph_driver(self, container: Container) -> Document:
        data: Document | None = None
        try:
            layers = self._core.images.rootfs_mounts(container.id)
        except (WindlassError, OSError):
            layers = []
        if layers and layers[0].type == "overlay":
            options = dict(option.partition("=")[::2] for option in layers[0].options)
            data = {
                "ID": container.id,
                "LowerDir": ":".join(layers[0].lower),
                "MergedDir": f"/proc/{container.state.pid}/root" if container.state.pid else "",
                "UpperDir": options.get("upperdir", ""),
                "WorkDir": options.get("workdir", ""),
            }
        return {"Data": data, "Name": container.driver}

    async def sizes(self, container: Container) -> Document:
        """`SizeRw` and `SizeRootFs` in bytes."""
        written, whole = await self._core.images.rootfs_usage(container.id)
        return {"SizeRw": written, "SizeRootFs": whole}

    def shown_image(self, container: Container) -> str:
        """The image as it was named, or its ID if the name stands for another one now."""
        named: str = container.config["Image"]
        if not named or named == container.image_id:
            return named
        try:
            current = self._core.images.resolve(named)
        except WindlassError:
            return container.image_id
        return named if current.id == container.image_id else container.image_id

    def summary(self, container: Container) -> Document:
        """One entry of `GET /containers/json`, without sizes."""
        settings = self.network_settings(container)
        health = container.health["Status"] if container.health is not None else ""
        networks = {
            name: {key: value for key, value in endpoint.items() if key != "DNSNames"} | {"DNSNames": None}
            for name, endpoint in settings["Networks"].items()
        }
        host_config: Document = {"NetworkMode": container.network_mode}
        if annotations := container.host_config.get("Annotations"):
            host_config["Annotations"] = annotations
        summary: Document = {
            "Id": container.id,
            "Names": [f"/{container.name}"],
            "Image": self.shown_image(container),
            "ImageID": container.image_id,
            "Command": shown_command(container),
            "Created": container.created // SECOND,
            "Ports": port_summaries(settings["Ports"]),
            "Labels": dict(container.labels),
            "State": container.state.status,
            "Status": container.state.describe(self._core.clock(), health),
            "HostConfig": host_config,
            "NetworkSettings": {"Networks": networks},
            "Mounts": [point.to_api() for point in container.mount_points.values()],
        }
        if container.image_manifest is not None:
            summary["ImageManifestDescriptor"] = container.image_manifest
        return summary
