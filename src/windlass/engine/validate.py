"""dockerd's checks of what a client asks of a container, with dockerd's words.

`check_create` is the whole of it: it raises `InvalidParameter` for what cannot be, changes the documents where dockerd
normalises them (cleaned paths, ports with protocols, dropped limits), and returns the warnings.
"""

from __future__ import annotations

import ipaddress
import os
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from windlass.engine import modes, mountpoints, ports, security
from windlass.engine.host import HostFacts
from windlass.engine.limits import check_resources
from windlass.engine.signals import parse_signal
from windlass.engine.timestamps import MILLISECOND
from windlass.errors import InvalidParameter

Document = dict[str, Any]

LONGEST_HOSTNAME: Final = 64
_RLIMITS: Final = frozenset(
    {
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    }
)


def check_create(
    config: Document,
    host_config: Document,
    endpoints: Mapping[str, Document],
    *,
    host: HostFacts,
    capabilities: tuple[Sequence[str], Sequence[str]],
    runtimes: Callable[[str], object],
) -> list[str]:
    """Check and normalise a create request; returns warnings.

    `capabilities` are the kernel's and this process's; `runtimes` raises for a runtime that does not exist.
    """
    if not host_config["RestartPolicy"]["Name"]:
        host_config["RestartPolicy"]["Name"] = "no"
    if host_config["NetworkMode"] in {"", "default"}:
        host_config["NetworkMode"] = modes.DEFAULT_NETWORK
    check_network_mode(config, host_config)
    check_config(config)
    warnings = _check_host_config(host_config, capabilities)
    warnings += check_resources(host_config, host, update=False)
    warnings += _check_platform(host_config, host)
    if host_config["Runtime"]:
        runtimes(host_config["Runtime"])
    if host_config["PidsLimit"] is not None and host_config["PidsLimit"] <= 0:
        host_config["PidsLimit"] = None
    check_endpoints(host_config["NetworkMode"], endpoints)
    return warnings


def check_config(config: Document) -> None:
    """Check the portable half: directory, signal, variables, health check, host name, exposed ports."""
    if directory := config["WorkingDir"]:
        if not directory.startswith("/"):
            raise InvalidParameter(f"the working directory '{directory}' is invalid, it needs to be an absolute path")
        config["WorkingDir"] = mountpoints.clean(directory)
    if config.get("StopSignal"):
        parse_signal(config["StopSignal"])
    for variable in config["Env"] or ():
        if not variable.partition("=")[0]:
            raise InvalidParameter(f"invalid environment variable: {variable}")
        if "\0" in variable:
            raise InvalidParameter("invalid environment variable: it contains a null byte")
    check_healthcheck(config.get("Healthcheck") or {})
    if len(config["Hostname"].encode()) > LONGEST_HOSTNAME:
        raise InvalidParameter(f'hostname "{config["Hostname"]}" is too long (maximum {LONGEST_HOSTNAME} bytes)')
    if config.get("ExposedPorts"):
        config["ExposedPorts"] = ports.expand_exposed(config["ExposedPorts"])
    for word in (*(config["Entrypoint"] or ()), *(config["Cmd"] or ()), config["Hostname"], config["User"]):
        if "\0" in word:
            raise InvalidParameter("invalid command, host name or user: it contains a null byte")


def check_healthcheck(check: Mapping[str, Any]) -> None:
    """Check a health check's numbers."""
    for name in ("Interval", "Timeout", "StartPeriod", "StartInterval"):
        if check.get(name) and check[name] < MILLISECOND:
            raise InvalidParameter(f"{name} in Healthcheck cannot be less than 1ms")
    if check.get("Retries", 0) < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")


def check_restart_policy(policy: Mapping[str, Any]) -> None:
    """Check a restart policy."""
    name, count = policy["Name"], policy["MaximumRetryCount"]
    match name:
        case "always" | "unless-stopped" | "no":
            if count != 0:
                raise InvalidParameter(
                    "invalid restart policy: maximum retry count can only be used with 'on-failure'"
                    + (" and cannot be negative" if count < 0 else "")
                )
        case "on-failure":
            if count < 0:
                raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
        case "":
            pass
        case _:
            raise InvalidParameter(
                f"invalid restart policy: unknown policy '{name}'; "
                "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )


def check_network_mode(config: Mapping[str, Any], host_config: Mapping[str, Any]) -> None:
    """Check that the network mode and the other network options do not contradict each other."""
    mode: str = host_config["NetworkMode"]
    shared = modes.shared_container(mode)
    if mode == "container" or shared is not None:
        if not shared:
            raise InvalidParameter("invalid network mode: invalid container format container:<name|id>")
        for wrong, what in (
            (config["Hostname"], "hostname and the network mode"),
            (
                host_config["Links"],
                "container type network can't be used with links. This would result in undefined behavior",
            ),
            (host_config["Dns"], "dns and the network mode"),
            (host_config["ExtraHosts"], "custom host-to-IP mapping and the network mode"),
            (
                host_config["PortBindings"] or host_config["PublishAllPorts"],
                "port publishing and the container type network mode",
            ),
            (config.get("ExposedPorts"), "port exposing and the container type network mode"),
        ):
            if wrong:
                raise InvalidParameter(f"conflicting options: {what}")
    if host_config["UTSMode"] == "host" and config["Hostname"]:
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
    if mode == "host" and host_config["Links"]:
        raise InvalidParameter(
            "conflicting options: host type networking can't be used with links. "
            "This would result in undefined behavior"
        )


def _check_host_config(host_config: Document, capabilities: tuple[Sequence[str], Sequence[str]]) -> list[str]:
    """What needs no look at the host's limits."""
    if host_config["AutoRemove"] and host_config["RestartPolicy"]["Name"] not in {"no", ""}:
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")
    for mount in host_config.get("Mounts") or ():
        mountpoints.check_mount(mount, source_exists=os.path.lexists)
    for entry in host_config["ExtraHosts"] or ():
        _check_extra_host(entry)
    host_config["PortBindings"] = ports.normalise_bindings(host_config["PortBindings"] or {})
    for bindings in host_config["PortBindings"].values():
        for binding in bindings:
            _check_address(binding["HostIp"], "invalid IP address in port binding")
    for address in host_config["Dns"] or ():
        _check_address(address, "invalid IP address in DNS server")
    check_restart_policy(host_config["RestartPolicy"])
    known, available = capabilities
    for name in ("CapAdd", "CapDrop"):
        try:
            names = security.normalise_capabilities(host_config[name] or (), known=known, available=available)
        except InvalidParameter as error:
            raise InvalidParameter(f"invalid {name}: {error}") from None
        if host_config[name] is not None:
            host_config[name] = names
    if host_config["Isolation"].lower() not in {"", "default"}:
        raise InvalidParameter(f"invalid isolation ({host_config['Isolation']}): linux only supports 'default'")
    for name in host_config.get("Annotations") or ():
        if not name:
            raise InvalidParameter("invalid Annotations: the empty string is not permitted as an annotation key")
    security.parse_security_options(host_config["SecurityOpt"] or ())
    if host_config["DeviceRequests"]:
        _refuse_device_request(host_config["DeviceRequests"][0])
    return []


def _check_platform(host_config: Document, host: HostFacts) -> list[str]:
    """What dockerd calls platform settings: namespaces, shared memory, score, tmpfs, rlimits."""
    warnings: list[str] = []
    modes.check_ipc(host_config["IpcMode"])
    modes.check_pid(host_config["PidMode"])
    if host_config["ShmSize"] < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    modes.check_uts(host_config["UTSMode"])
    modes.check_user(host_config["UsernsMode"])
    score = host_config["OomScoreAdj"]
    if not -1000 <= score <= 1000:
        raise InvalidParameter(f"Invalid value {score}, range for oom score adj is [-1000, 1000]")
    network = host_config["NetworkMode"]
    if not host.ipv4_forwarding and network not in {"host", "none"} and not modes.shared_container(network):
        warnings.append("IPv4 forwarding is disabled. Networking will not work.")
    if network == "host" and host_config["PortBindings"]:
        warnings.append("Published ports are discarded when using host network mode")
    for target in host_config.get("Tmpfs") or ():
        mountpoints.check_tmpfs_target(target)
    modes.check_cgroup(host_config["CgroupnsMode"])
    if host_config["CgroupnsMode"] == "private" and not host.cgroup_namespaces:
        warnings.append("Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.")
        host_config["CgroupnsMode"] = "host"
    for limit in host_config["Ulimits"] or ():
        if limit["Name"] not in _RLIMITS:
            raise InvalidParameter(f"invalid ulimit name {limit['Name']}")
        if limit["Hard"] != -1 and (limit["Soft"] == -1 or limit["Soft"] > limit["Hard"]):
            raise InvalidParameter(
                f"ulimit soft limit must be less than or equal to hard limit: {limit['Soft']} > {limit['Hard']}"
            )
    parent = host_config["CgroupParent"]
    if parent and ".." in parent.split("/"):
        raise InvalidParameter(f"invalid cgroup parent: {parent}")
    for name in host_config.get("Sysctls") or ():
        if not name or name.startswith(("/", ".")) or ".." in posixpath.normpath(name.replace(".", "/")).split("/"):
            raise InvalidParameter(f"invalid sysctl name: {name}")
    return warnings


def _check_extra_host(entry: str) -> None:
    name, separator, address = entry.partition(":")
    if not separator or not name:
        raise InvalidParameter(f'bad format for add-host: "{entry}"')
    if address != "host-gateway":
        try:
            ipaddress.ip_address(address.strip().removeprefix("[").removesuffix("]"))
        except ValueError:
            raise InvalidParameter(f'invalid IP address in add-host: "{address}"') from None


def _check_address(address: str, message: str) -> None:
    if not address:
        return
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise InvalidParameter(f"{message}: {address}") from None


def _refuse_device_request(request: Mapping[str, Any]) -> None:
    """No device driver (GPU) is built in, so every request is for one that is not there."""
    groups = " ".join(f"[{' '.join(group)}]" for group in request["Capabilities"] or ())
    raise InvalidParameter(f'could not select device driver "{request["Driver"]}" with capabilities: [{groups}]')


def check_endpoints(network_mode: str, endpoints: Mapping[str, Document | None]) -> None:
    """Check the addresses of a create request's endpoints."""
    wrong = []
    for network, endpoint in endpoints.items():
        if endpoint is None:
            wrong.append(f"invalid config for network {network}: EndpointsConfig is nil")
            continue
        ipam = endpoint.get("IPAMConfig") or {}
        for name, version in (("IPv4Address", 4), ("IPv6Address", 6)):
            if not (text := ipam.get(name)):
                continue
            try:
                valid = ipaddress.ip_address(text).version == version
            except ValueError:
                valid = False
            if not valid:
                wrong.append(f"invalid config for network {network}: invalid IPv{version} address: {text}")
        if ipam and network in {"bridge", "default", "host", "none"} and any(ipam.values()):
            wrong.append(
                f"invalid config for network {network}: user specified IP address is supported on user defined "
                "networks only"
            )
    if wrong:
        raise InvalidParameter("\n".join(wrong))
