"""`docker info` and `docker version`: what clients look at before they trust an engine (`SystemInfo` of API 1.51)."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any, Final

from windlass import __version__
from windlass.engine.core import Core
from windlass.engine.security import BUILTIN
from windlass.engine.timestamps import rfc3339
from windlass.logs.options import DRIVERS as LOG_DRIVERS

Document = dict[str, Any]

API_VERSION: Final = "1.51"
MIN_API_VERSION: Final = "1.24"
INDEX_SERVER: Final = "https://index.docker.io/v1/"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_ATTACK_SURFACE: Final = (
    "\n         Access to the remote API is equivalent to root access on the host. Refer"
    "\n         to the 'Docker daemon attack surface' section in the documentation for"
    "\n         more information: https://docs.docker.com/go/attack-surface/"
)


def go_architecture(machine: str) -> str:
    """The name that Docker gives to a machine type."""
    return _ARCHITECTURES.get(machine, machine)


def hide_password(url: str) -> str:
    """A proxy's URL without its password."""
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not separator or not at or ":" not in credentials:
        return url
    return f"{scheme}://xxxxx:xxxxx@{host}"


def registry_config(insecure: Sequence[str], mirrors: Sequence[str]) -> Document:
    """`RegistryConfig`."""
    networks = {"::1/128": None, "127.0.0.0/8": None}
    indexes: dict[str, Document] = {}
    for registry in insecure:
        name = registry.partition("://")[2] or registry
        try:
            networks[str(ipaddress.ip_network(name))] = None
        except ValueError:
            indexes[name] = {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
    urls = [f"{mirror.rstrip('/')}/" for mirror in mirrors]
    indexes["docker.io"] = {"Name": "docker.io", "Mirrors": urls, "Secure": True, "Official": True}
    return {
        "AllowNondistributableArtifactsCIDRs": None,
        "AllowNondistributableArtifactsHostnames": None,
        "InsecureRegistryCIDRs": list(networks),
        "IndexConfigs": indexes,
        "Mirrors": urls or None,
    }


class SystemInformation:
    """Describes the engine and its host."""

    def __init__(self, core: Core, engine_id: str) -> None:
        self._core = core
        self.engine_id = engine_id

    async def info(self) -> Document:
        """`GET /info`."""
        core, host, settings = self._core, self._core.host, self._core.settings
        states = [container.state for container in core.store]
        running = sum(state.running and not state.paused for state in states)
        paused = sum(state.paused for state in states)
        document: Document = {
            "ID": self.engine_id,
            "Containers": len(states),
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": len(states) - running - paused,
            "Images": len(core.images.list()),
            "Driver": core.images.driver_name,
            "DriverStatus": [list(pair) for pair in core.images.driver_status()],
            "Plugins": {
                "Volume": ["local"],
                "Network": ["bridge", "host", "null"],
                "Authorization": None,
                "Log": sorted(LOG_DRIVERS),
            },
            "MemoryLimit": host.memory_limit,
            "SwapLimit": host.swap_limit,
            "CpuCfsPeriod": host.cpu_cfs,
            "CpuCfsQuota": host.cpu_cfs,
            "CPUShares": host.cpu_shares,
            "CPUSet": host.cpuset,
            "PidsLimit": host.pids_limit,
            "IPv4Forwarding": _forwarding(),
            "Debug": settings.debug,
            "NFd": await asyncio.to_thread(_open_descriptors),
            "OomKillDisable": host.oom_kill_disable,
            "NGoroutines": len(asyncio.all_tasks()),
            "SystemTime": rfc3339(core.clock()),
            "LoggingDriver": settings.log_driver,
            "CgroupDriver": "cgroupfs",
            "CgroupVersion": host.cgroup_version,
            "NEventsListener": core.events.listeners,
            "KernelVersion": host.kernel_version,
            "OperatingSystem": host.operating_system,
            "OSVersion": host.os_version,
            "OSType": "linux",
            "Architecture": host.architecture,
            "IndexServerAddress": INDEX_SERVER,
            "RegistryConfig": registry_config(settings.insecure_registries, settings.registry_mirrors),
            "NCPU": host.cpu_count,
            "MemTotal": host.memory_total,
            "GenericResources": None,
            "DockerRootDir": str(settings.data_root),
            "HttpProxy": hide_password(settings.http_proxy or _environment("HTTP_PROXY")),
            "HttpsProxy": hide_password(settings.https_proxy or _environment("HTTPS_PROXY")),
            "NoProxy": settings.no_proxy or _environment("NO_PROXY"),
            "Name": host.hostname,
            "Labels": list(settings.labels),
            "ExperimentalBuild": settings.experimental,
            "ServerVersion": __version__,
            "Runtimes": core.runtimes.describe(),
            "DefaultRuntime": core.runtimes.default,
            "Swarm": {
                "NodeID": "",
                "NodeAddr": "",
                "LocalNodeState": "inactive",
                "ControlAvailable": False,
                "Error": "",
                "RemoteManagers": None,
            },
            # Containers always live on; there is no other way here.
            "LiveRestoreEnabled": True,
            "Isolation": "",
            "InitBinary": settings.init_path or "docker-init",
            "ContainerdCommit": {"ID": ""},
            "RuncCommit": {"ID": ""},
            "InitCommit": {"ID": ""},
            "SecurityOptions": self._security_options(),
            "ProductLicense": "Apache-2.0",
            "FirewallBackend": {"Driver": "nftables" if settings.iptables else "none"},
            "DiscoveredDevices": [],
            "CDISpecDirs": [],
            "Warnings": self._warnings(),
        }
        if pools := settings.default_address_pools:
            document["DefaultAddressPools"] = [_pool(pool) for pool in pools]
        return document

    def _security_options(self) -> list[str]:
        host, settings = self._core.host, self._core.settings
        options = []
        if host.apparmor:
            options.append("name=apparmor")
        if host.seccomp:
            options.append(f"name=seccomp,profile={settings.seccomp_profile or BUILTIN}")
        if host.selinux and settings.selinux_enabled:
            options.append("name=selinux")
        default = settings.default_cgroupns_mode or ("private" if host.cgroup_version == "2" else "host")
        if host.cgroup_namespaces and default == "private":
            options.append("name=cgroupns")
        if settings.no_new_privileges:
            options.append("name=no-new-privileges")
        return options

    def _warnings(self) -> list[str]:
        host, settings = self._core.host, self._core.settings
        v2 = host.cgroup_version == "2"
        warnings = []
        for address in settings.listen_on:
            if address.startswith("tcp://") and not settings.tlsverify:
                place = address.removeprefix("tcp://")
                warnings.append(
                    f"[DEPRECATION NOTICE]: API is accessible on http://{place} without TLS client "
                    f"verification.{_ATTACK_SURFACE}"
                )
        for supported, name in (
            (host.memory_limit, "memory limit"),
            (host.swap_limit, "swap limit"),
            (host.oom_kill_disable or v2, "oom kill disable"),
            (host.cpu_cfs, "cpu cfs quota"),
            (host.cpu_cfs, "cpu cfs period"),
            (host.cpu_shares, "cpu shares"),
            (host.cpuset, "cpuset"),
            (host.blkio_weight or not v2, "io.weight"),
            (host.blkio_weight_device or not v2, "io.weight (per device)"),
            (host.blkio_read_bps, "io.max (rbps)" if v2 else "blkio throttle.read_bps_device"),
            (host.blkio_write_bps, "io.max (wbps)" if v2 else "blkio throttle.write_bps_device"),
            (host.blkio_read_iops, "io.max (riops)" if v2 else "blkio throttle.read_iops_device"),
            (host.blkio_write_iops, "io.max (wiops)" if v2 else "blkio throttle.write_iops_device"),
        ):
            if not supported:
                warnings.append(f"WARNING: No {name} support")
        if not _forwarding():
            warnings.append("WARNING: IPv4 forwarding is disabled")
        if (settings.seccomp_profile or BUILTIN) != BUILTIN:
            warnings.append("WARNING: daemon is not using the default seccomp profile")
        return warnings

    def version(self) -> Document:
        """`GET /version`."""
        core = self._core
        architecture = go_architecture(core.host.architecture)
        interpreter = f"python{platform.python_version()}"
        experimental = core.settings.experimental
        return {
            "Platform": {"Name": "Windlass"},
            "Components": [
                {
                    "Name": "Engine",
                    "Version": __version__,
                    "Details": {
                        "ApiVersion": API_VERSION,
                        "Arch": architecture,
                        "BuildTime": "",
                        "Experimental": "true" if experimental else "false",
                        "GitCommit": "",
                        "GoVersion": interpreter,
                        "KernelVersion": core.host.kernel_version,
                        "MinAPIVersion": MIN_API_VERSION,
                        "Os": "linux",
                    },
                }
            ],
            "Version": __version__,
            "ApiVersion": API_VERSION,
            "MinAPIVersion": MIN_API_VERSION,
            "GitCommit": "",
            "GoVersion": interpreter,
            "Os": "linux",
            "Arch": architecture,
            "KernelVersion": core.host.kernel_version,
            "BuildTime": "",
            **({"Experimental": True} if experimental else {}),
        }


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _forwarding() -> bool:
    try:
        with open("/proc/sys/net/ipv4/ip_forward") as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def _environment(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.lower(), "")


def _pool(pool: Any) -> Document:
    if isinstance(pool, Mapping):
        return {"Base": str(pool.get("base", pool.get("Base"))), "Size": pool.get("size", pool.get("Size"))}
    return {"Base": str(pool.base), "Size": pool.size}
