"""The daemon's settings: defaults, under daemon.json, under the command line; checked once.

defaults ◀── /etc/windlass/daemon.json (or --config-file) ◀── flags
              a key that also stands as a flag is an error, as in dockerd (runtimes add up)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from windlass.daemon.arguments import Arguments
from windlass.daemon.configfile import read_config_file
from windlass.daemon.options import BY_FLAG, BY_KEY
from windlass.errors import InvalidParameter, WindlassError

DEFAULT_CONFIG_FILE: Final = "/etc/windlass/daemon.json"
OWN_RUNTIME: Final = "windlass"

_LEVELS: Final = ("panic", "fatal", "error", "warn", "info", "debug", "trace")
_DOMAIN: Final = re.compile(r"\.|(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")

# What a reload (SIGHUP) takes over from a changed file; everything else needs a new start.
RELOADABLE: Final = (
    "debug",
    "labels",
    "features",
    "insecure_registries",
    "registry_mirrors",
    "max_concurrent_downloads",
    "max_concurrent_uploads",
    "max_download_attempts",
    "default_runtime",
    "runtimes",
    "live_restore",
    "shutdown_timeout",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Named like the flags; sizes are bytes, times are seconds."""

    data_root: Path = Path("/var/lib/windlass")
    exec_root: Path = Path("/run/windlass")
    hosts: tuple[str, ...] = ()  # empty: unix://<exec-root>/windlass.sock
    group: str = ""
    pidfile: str = ""  # empty: <exec-root>/windlass.pid
    tls: bool | None = None  # False, said aloud, allows plain TCP on loopback
    tlsverify: bool = False
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""

    debug: bool = False
    log_level: str = "info"
    log_format: str = "text"
    raw_logs: bool = False

    default_runtime: str = OWN_RUNTIME
    runtimes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cgroup_parent: str = ""
    default_cgroupns_mode: str = ""  # empty: host on cgroup v1, private on v2
    default_ipc_mode: str = "private"
    default_shm_size: int = 64 << 20
    default_ulimits: Mapping[str, Any] = field(default_factory=dict)
    init: bool = False
    init_path: str = ""
    no_new_privileges: bool = False
    seccomp_profile: str = "builtin"
    selinux_enabled: bool = False
    userns_remap: str = ""
    log_driver: str = "json-file"
    log_opts: Mapping[str, str] = field(default_factory=dict)
    live_restore: bool = True
    shutdown_timeout: int = 15
    exec_opts: tuple[str, ...] = ()

    storage_driver: str = ""
    storage_opts: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""

    bridge: str = ""
    bip: str = ""
    bip6: str = ""
    default_address_pools: tuple[Any, ...] = ()
    default_gateway: str = ""
    default_gateway_v6: str = ""
    dns: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    host_gateway_ips: tuple[str, ...] = ()
    icc: bool = True
    ip: str = "0.0.0.0"
    ip_forward: bool = True
    ip_forward_no_drop: bool = False
    ip_masq: bool = True
    ip6tables: bool = True
    iptables: bool = True
    ipv6: bool = False
    mtu: int = 0
    userland_proxy: bool = True

    labels: tuple[str, ...] = ()
    experimental: bool = False
    features: Mapping[str, bool] = field(default_factory=dict)
    authorization_plugins: tuple[str, ...] = ()

    ignored: tuple[str, ...] = ()  # options that were given and do nothing here, each with the reason

    @property
    def listen_on(self) -> tuple[str, ...]:
        """Where the API is served."""
        return self.hosts or (f"unix://{self.exec_root}/windlass.sock",)

    @property
    def pid_path(self) -> Path:
        """Where the process number is written."""
        return Path(self.pidfile) if self.pidfile else self.exec_root / "windlass.pid"


def load_settings(arguments: Arguments) -> Settings:
    """Bring flags and file together and check them. Raises `InvalidParameter` with dockerd's words."""
    path = arguments.config_file or DEFAULT_CONFIG_FILE
    values: dict[str, Any] = {}
    keys: list[str] = []
    try:
        values, keys = read_config_file(path, arguments.given)
    except FileNotFoundError as error:
        if arguments.config_file is not None:
            raise InvalidParameter(
                f"unable to configure the daemon with file {path}: open {path}: no such file or directory"
            ) from error
    except (OSError, UnicodeError) as error:
        raise InvalidParameter(f"unable to configure the daemon with file {path}: {error}") from error
    except WindlassError as error:
        raise InvalidParameter(f"unable to configure the daemon with file {path}: {error}") from error
    merged = values | arguments.values
    if "runtimes" in values and "runtimes" in arguments.values:
        merged["runtimes"] = {**values["runtimes"], **arguments.values["runtimes"]}
    for name, value in merged.items():
        if isinstance(value, list):
            merged[name] = tuple(value)
        elif name in ("data_root", "exec_root"):
            merged[name] = Path(value).absolute()
    settings = Settings(**merged, ignored=_ignored(keys, arguments))
    try:
        check(settings)
    except InvalidParameter as error:
        where = " from file and command line flags" if keys else ""
        raise InvalidParameter(f"merged configuration validation{where} failed: {error}") from None
    return settings


def _ignored(keys: list[str], arguments: Arguments) -> tuple[str, ...]:
    options = [BY_KEY[key] for key in keys if key in BY_KEY] + [BY_FLAG[flag] for flag in arguments.given]
    return tuple(f"{option.flag} is ignored: {option.unused}" for option in options if option.unused)


def check(settings: Settings) -> None:
    """What dockerd checks of a whole configuration. Raises `InvalidParameter`."""
    if settings.log_level.lower() not in _LEVELS:
        raise InvalidParameter(f"invalid logging level: {settings.log_level}")
    if settings.log_format not in ("text", "json"):
        raise InvalidParameter(f"invalid log format: {settings.log_format}")
    for domain in settings.dns_search:
        if not _DOMAIN.fullmatch(domain) or len(domain) > 253:
            raise InvalidParameter(f"{domain} is not a valid domain")
    for label in settings.labels:
        if "=" not in label:
            raise InvalidParameter(f"bad attribute format: {label}")
    _check_labels(settings.labels)
    for name, value in (
        ("default MTU", settings.mtu),
        ("max concurrent downloads", settings.max_concurrent_downloads),
        ("max concurrent uploads", settings.max_concurrent_uploads),
        ("max download attempts", settings.max_download_attempts),
    ):
        if value < 0:
            raise InvalidParameter(f"invalid {name}: {value}")
    for mirror in settings.registry_mirrors:
        _check_mirror(mirror)
    if settings.default_ipc_mode not in ("", "private", "shareable"):
        raise InvalidParameter(
            f'IPC mode "{settings.default_ipc_mode}" is not supported as default value; use "shareable" or "private"'
        )
    if settings.default_cgroupns_mode not in ("", "host", "private"):
        raise InvalidParameter(
            f'invalid default cgroup namespace ({settings.default_cgroupns_mode}): use "host" or "private"'
        )
    for option in settings.exec_opts:
        _check_exec_option(option)
    for option in settings.storage_opts:
        # Only Docker's switch for old kernels is harmless without effect.
        if not option.partition("=")[0].lower().endswith(".override_kernel_check"):
            raise InvalidParameter(f"unknown storage option: {option}")
    if settings.authorization_plugins:
        # Silently serving requests that a plugin should have refused is no option.
        raise InvalidParameter("authorization plugins are not supported")
    for host in settings.hosts:
        if not re.match(r"(unix|tcp|fd)://", host) and "://" in host:
            raise InvalidParameter(f"invalid bind address format: {host}")


def _check_labels(labels: tuple[str, ...]) -> None:
    seen: dict[str, str] = {}
    for label in labels:
        key, _, value = label.partition("=")
        if seen.setdefault(key, value) != value:
            raise InvalidParameter(f"conflict labels for {key}={value} and {key}={seen[key]}")


def _check_mirror(mirror: str) -> None:
    match = re.fullmatch(r"([a-zA-Z][a-zA-Z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", mirror)
    if match is None or not match[2]:
        raise InvalidParameter(f'invalid mirror: "{mirror}" is not a valid URI')
    if match[1] not in ("http", "https"):
        raise InvalidParameter(f'invalid mirror: unsupported scheme "{match[1]}" in "{mirror}"')
    if match[4] or match[5]:
        raise InvalidParameter(f'invalid mirror: query or fragment at end of the URI "{mirror}"')
    if "@" in match[2]:
        raise InvalidParameter("invalid mirror: username/password not allowed in URI")


def _check_exec_option(option: str) -> None:
    name, equals, value = (part.strip() for part in option.partition("="))
    if not equals or not name or not value:
        raise InvalidParameter(f"invalid exec-opt ({option}): must be formatted 'opt=value'")
    if name.lower() != "native.cgroupdriver":
        raise InvalidParameter(f"invalid exec-opt ({option}): unknown option: '{name}'")
    if value != "cgroupfs":
        raise InvalidParameter(f"invalid exec-opt ({option}): this engine writes cgroups itself: use cgroupfs")
