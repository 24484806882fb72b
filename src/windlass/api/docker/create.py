"""What a create request means when it comes from a client of an older API. Pure.

Fields that a version did not have yet are ignored, fields that it had are translated, and what would be silently wrong
is refused, all with dockerd's words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from windlass.api.docker.versions import Version
from windlass.errors import InvalidParameter

Document = dict[str, Any]

_OPTIONS = {"VolumeOptions": "volume", "BindOptions": "bind", "TmpfsOptions": "tmpfs"}
_SYSCTLS = "com.docker.network.endpoint.sysctls"


@dataclass
class Adapted:
    """A create request in the newest shape, and what its sender should know."""

    body: Document
    warnings: list[str] = field(default_factory=list)


def adapt_create(body: Document, version: Version) -> Adapted:
    """Bring `body` into the shape of the newest API. Raises `InvalidParameter`."""
    host = _object(body, "HostConfig")
    endpoints = _object(_object(body, "NetworkingConfig"), "EndpointsConfig")
    if host.get("NetworkMode") in (None, "", "default"):
        host["NetworkMode"] = "bridge"
        if "default" in endpoints:
            endpoints["bridge"] = endpoints.pop("default")
    if not isinstance(host["NetworkMode"], str):
        raise InvalidParameter(
            "invalid JSON: json: cannot unmarshal into Go struct field CreateRequest.HostConfig.NetworkMode of type "
            "string"
        )
    # What is not of its type passes untouched: the engine reads every field and names the wrong one.
    listed = host.get("Mounts")
    mounts = [mount for mount in listed if isinstance(mount, dict)] if isinstance(listed, list) else []
    _drop_unknown_fields(body, host, endpoints, mounts, version)
    _check_mounts(mounts, version)
    if version < (1, 44) and len(endpoints) > 1:
        raise InvalidParameter(
            f"Container cannot be created with multiple network endpoints: {', '.join(sorted(endpoints))}"
        )
    adapted = Adapted(body)
    _volume_driver(host, mounts, version, adapted.warnings)
    _mac_address(body, host, endpoints, version, adapted.warnings)
    _sysctls(host, endpoints, version, adapted.warnings)
    limit = host.get("PidsLimit")
    if isinstance(limit, int) and limit <= 0:
        host["PidsLimit"] = None
    return adapted


def _object(parent: Document, name: str) -> Document:
    """A member that is an object; made when absent, so that changes to it count."""
    value = parent.get(name)
    if value is None:
        value = parent[name] = {}
    if not isinstance(value, dict):
        raise InvalidParameter(
            f"invalid JSON: json: cannot unmarshal into Go struct field CreateRequest.{name} of type object"
        )
    return value


def _drop_unknown_fields(
    body: Document, host: Document, endpoints: Document, mounts: list[Document], version: Version
) -> None:
    if version < (1, 25):
        host["AutoRemove"] = False  # the client removes
    if version < (1, 40):
        for options in _options(mounts, "BindOptions"):
            options.pop("NonRecursive", None)
        host.pop("KernelMemoryTCP", None)
        host["IpcMode"] = host.get("IpcMode") or "shareable"
    if version < (1, 42):
        for mount in mounts:
            for name in ("VolumeOptions", "TmpfsOptions"):
                if mount.get("Type") != _OPTIONS[name]:
                    mount.pop(name, None)
        for options in _options(mounts, "BindOptions"):
            options.pop("CreateMountpoint", None)
        host["ConsoleSize"] = [0, 0]
    else:
        host.pop("KernelMemory", None)
    if version < (1, 43):
        host.pop("Annotations", None)
    if version < (1, 44) and isinstance(body.get("Healthcheck"), dict):
        body["Healthcheck"].pop("StartInterval", None)
    if version < (1, 48):
        for endpoint in endpoints.values():
            if isinstance(endpoint, dict):
                endpoint.pop("GwPriority", None)


def _member(parent: Document, name: str) -> Document:
    """A member that is an object, or nothing."""
    value = parent.get(name)
    return value if isinstance(value, dict) else {}


def _options(mounts: list[Document], name: str) -> list[Document]:
    return [mount[name] for mount in mounts if isinstance(mount.get(name), dict)]


def _check_mounts(mounts: list[Document], version: Version) -> None:
    for mount in mounts:
        kind = mount.get("Type", "")
        if version >= (1, 42):
            for name, wanted in _OPTIONS.items():
                if mount.get(name) is not None and kind != wanted:
                    raise InvalidParameter(f'{name} must not be specified on mount type "{kind}"')
        bind, volume = _member(mount, "BindOptions"), _member(mount, "VolumeOptions")
        if version < (1, 44) and kind == "bind" and bind.get("ReadOnlyForceRecursive"):
            raise InvalidParameter("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
        if version < (1, 45) and volume.get("Subpath"):
            raise InvalidParameter("VolumeOptions.Subpath needs API v1.45 or newer")
        if version < (1, 48) and kind == "image":
            raise InvalidParameter('Mount type "Image" needs API v1.48 or newer')


def _volume_driver(host: Document, mounts: list[Document], version: Version, warnings: list[str]) -> None:
    if not host.get("VolumeDriver") or version < (1, 48):
        return
    for mount in mounts:
        driver = _member(_member(mount, "VolumeOptions"), "DriverConfig")
        if mount.get("Type") == "volume" and not driver.get("Name"):
            warnings.append(
                "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. "
                "Use '--mount type=volume,volume-driver=...' instead"
            )
            return


def _is_private(mode: str) -> bool:
    return mode not in ("host", "none") and not mode.startswith("container:")


def _mac_address(body: Document, host: Document, endpoints: Document, version: Version, warnings: list[str]) -> None:
    """The address of the container became the address of an endpoint in 1.44."""
    address = body.get("MacAddress") or ""
    private = _is_private(host["NetworkMode"])
    if version < (1, 44):
        if not address:
            for endpoint in endpoints.values():
                if isinstance(endpoint, dict):
                    endpoint.pop("MacAddress", None)
        elif not private:
            raise InvalidParameter("conflicting options: mac-address and the network mode")
        else:
            _endpoint(host["NetworkMode"], endpoints, version)["MacAddress"] = address
        return
    if not address:
        return
    if private:
        endpoint = _endpoint(host["NetworkMode"], endpoints, version)
        if endpoint.get("MacAddress") and endpoint["MacAddress"] != address:
            raise InvalidParameter(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, "
                "or be left empty"
            )
        endpoint["MacAddress"] = address
    body["MacAddress"] = ""
    warnings.append(
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
    )


def _sysctls(host: Document, endpoints: Document, version: Version, warnings: list[str]) -> None:
    """A sysctl that names an interface belongs to the endpoint, whose interface exists only later."""
    sysctls = host.get("Sysctls")
    if not isinstance(sysctls, dict) or not _is_private(host["NetworkMode"]):
        return
    moved: list[str] = []
    settings: list[str] = []
    for key, value in sysctls.items():
        parts = key.split(".", 4)
        if len(parts) != 5 or parts[0] != "net" or not parts[3].startswith("eth"):
            continue
        if version > (1, 47):
            raise InvalidParameter(
                f"interface specific sysctl setting \"{key}\" must be supplied using driver option '{_SYSCTLS}'"
            )
        if parts[3] != "eth0":
            raise InvalidParameter(
                f"unable to determine network endpoint for sysctl {key}, use driver option '{_SYSCTLS}' to set "
                "per-interface sysctls"
            )
        moved.append(key)
        settings.append(f"net.{parts[1]}.{parts[2]}.IFNAME.{parts[4]}={value}")
    if not moved:
        return
    endpoint = _endpoint(host["NetworkMode"], endpoints, version)
    options = _object(endpoint, "DriverOpts")
    before = options.get(_SYSCTLS)
    options[_SYSCTLS] = ",".join([*settings, before] if before else settings)
    for key in moved:
        del sysctls[key]
    warnings.append(f'Migrated sysctl "{",".join(moved)}" to DriverOpts{{"{_SYSCTLS}":"{",".join(settings)}"}}.')


def _endpoint(mode: str, endpoints: Document, version: Version) -> Document:
    """The settings of the main network's endpoint."""
    if not endpoints:
        endpoints[mode] = {}
    name = mode
    if version < (1, 44):
        name = next(iter(endpoints))
    elif mode not in endpoints:
        raise InvalidParameter(
            "unable to migrate container-wide settings to a specific network: HostConfig.NetworkMode must match the "
            "identity of a network in NetworkSettings.Networks"
        )
    return _object(endpoints, name)
