"""The daemon's options: dockerd's flags and the keys of its daemon.json, one table for both.

A flag that may be given several times has a plural key in the file (`--label` and `labels`), as in dockerd. Every value
is read by a function of its kind, from the flag's text or from the file's JSON, into the same Python type; which field
of `Settings` it becomes is the table's third column.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from windlass.errors import InvalidParameter


class Kind(NamedTuple):
    """How values of a kind are read. `repeatable`: flags add up. `metavar` is for `--help`; empty for switches."""

    metavar: str
    from_text: Callable[[str], Any]
    from_json: Callable[[str, Any], Any]
    repeatable: bool = False


class Option(NamedTuple):
    """One option. `key` is its name in daemon.json; `unused` says why it is accepted and does nothing here."""

    flag: str
    kind: Kind
    field: str
    help: str
    key: str = ""
    short: str = ""
    unused: str = ""
    hidden: bool = False

    @property
    def json_key(self) -> str:
        """The name in daemon.json."""
        return self.key or self.flag


# -- kinds


def _mismatch(key: str, value: Any, wanted: str) -> InvalidParameter:
    found = {dict: "object", list: "array", str: "string", bool: "bool"}.get(type(value), "number")
    return InvalidParameter(f"json: cannot unmarshal {found} into Go struct field Config.{key} of type {wanted}")


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _mismatch(key, value, "string")
    return value


_TRUE: Final = frozenset(("1", "t", "true"))
_FALSE: Final = frozenset(("0", "f", "false"))


def _bool_from_text(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise InvalidParameter(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def _bool_from_json(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _mismatch(key, value, "bool")
    return value


def _int_from_text(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise InvalidParameter(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def _int_from_json(key: str, value: Any) -> int:
    if type(value) is not int:
        raise _mismatch(key, value, "int")
    return value


_UNITS: Final = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def parse_bytes(text: str) -> int:
    """`64m`, `64MB`, `64 MiB`, `67108864`: bytes, with units of 1,024. Raises `InvalidParameter`."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(?:([kmgtpKMGTP]?)(?:[iI]?[bB])?)", text.strip())
    if match is None:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _bytes_from_json(key: str, value: Any) -> int:
    return value if type(value) is int else parse_bytes(_text(key, value))


def _list_from_json(key: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise _mismatch(key, value, "[]string")
    return [_text(key, item) for item in value]


def _pair(text: str) -> dict[str, str]:
    name, _, value = text.partition("=")
    return {name: value}


def _map_from_json(key: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _mismatch(key, value, "map[string]string")
    return {name: _text(key, item) for name, item in value.items()}


def _switches_from_json(key: str, value: Any) -> dict[str, bool]:
    if not isinstance(value, dict):
        raise _mismatch(key, value, "map[string]bool")
    return {name: _bool_from_json(key, item) for name, item in value.items()}


def _switch(text: str) -> dict[str, bool]:
    name, equals, value = text.partition("=")
    return {name: _bool_from_text(value) if equals else True}


_ULIMITS: Final = "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"


def _ulimit_name(name: str) -> str:
    if name not in _ULIMITS.split(" "):
        raise InvalidParameter(f"invalid ulimit type: {name}")
    return name


def _ulimit(text: str) -> dict[str, dict[str, Any]]:
    """`nofile=1024:2048`. Raises `InvalidParameter`."""
    match = re.fullmatch(r"([a-z]+)=(-?[0-9]+)(?::(-?[0-9]+))?", text)
    if match is None:
        raise InvalidParameter(f"invalid ulimit argument: {text}")
    soft = int(match[2])
    hard = soft if match[3] is None else int(match[3])
    if hard != -1 and (soft > hard or soft == -1):
        raise InvalidParameter(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {_ulimit_name(match[1]): {"Name": match[1], "Hard": hard, "Soft": soft}}


def _ulimits_from_json(key: str, value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict):
        raise _mismatch(key, value, "map[string]*container.Ulimit")
    limits: dict[str, dict[str, Any]] = {}
    for name, item in value.items():
        if not isinstance(item, dict) or any(type(item.get(part, 0)) is not int for part in ("Hard", "Soft")):
            raise _mismatch(f"{key}.{name}", item, "container.Ulimit")
        limits[_ulimit_name(name)] = {
            "Name": item.get("Name", name),
            "Hard": item.get("Hard", 0),
            "Soft": item.get("Soft", 0),
        }
    return limits


def _runtime(text: str) -> dict[str, dict[str, Any]]:
    """`name=/path/to/runtime`. Raises `InvalidParameter`."""
    name, equals, path = (part.strip() for part in text.partition("="))
    if not equals or not name or not path:
        raise InvalidParameter(f"invalid runtime {text!r}: expected name=path")
    return {name.lower(): {"path": path}}


def _runtimes_from_json(key: str, value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict):
        raise _mismatch(key, value, "map[string]system.Runtime")
    for name, item in value.items():
        if not isinstance(item, dict):
            raise _mismatch(f"{key}.{name}", item, "system.Runtime")
        arguments = item.get("runtimeArgs")
        if not isinstance(item.get("path", ""), str) or not isinstance(arguments or [], list):
            raise _mismatch(f"{key}.{name}", item, "system.Runtime")
    return dict(value)


def _pools_from_json(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(item, dict | str) for item in value):
        raise _mismatch(key, value, "opts.PoolsOpt")
    return value


def _address(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError:
        raise InvalidParameter(f"invalid IP address: {text}") from None


def _address_from_json(key: str, value: Any) -> str:
    return _address(_text(key, value))


def _addresses(text: str) -> list[str]:
    return [_address(part.strip()) for part in text.split(",")]


def _addresses_from_json(key: str, value: Any) -> list[str]:
    return [_address(item) for item in _list_from_json(key, value)]


def _anything(key: str, value: Any) -> Any:
    return value


STRING: Final = Kind("string", str, _text)
BOOL: Final = Kind("", _bool_from_text, _bool_from_json)
INT: Final = Kind("int", _int_from_text, _int_from_json)
BYTES: Final = Kind("bytes", parse_bytes, _bytes_from_json)
ADDRESS: Final = Kind("ip", _address, _address_from_json)
ADDRESSES: Final = Kind("ip", _addresses, _addresses_from_json, repeatable=True)
LIST: Final = Kind("list", lambda text: [text], _list_from_json, repeatable=True)
MAP: Final = Kind("map", _pair, _map_from_json, repeatable=True)
SWITCHES: Final = Kind("map", _switch, _switches_from_json, repeatable=True)
ULIMITS: Final = Kind("ulimit", _ulimit, _ulimits_from_json, repeatable=True)
RUNTIMES: Final = Kind("runtime", _runtime, _runtimes_from_json, repeatable=True)
POOLS: Final = Kind("pool-options", lambda text: [text], _pools_from_json, repeatable=True)
DOCUMENT: Final = Kind("map", _pair, _anything, repeatable=True)

_SWARM: Final = "this engine has no swarm mode"
_CONTAINERD: Final = "this engine runs its containers itself"


def _unused(flag: str, kind: Kind, why: str, *, key: str = "", short: str = "") -> Option:
    """One of dockerd's options, accepted so that its configuration files work."""
    return Option(flag, kind, "", "", key=key, short=short, unused=why, hidden=True)


OPTIONS: Final = (
    # roots and sockets
    Option("data-root", STRING, "data_root", "Root directory of persistent state", short="g"),
    Option("exec-root", STRING, "exec_root", "Root directory for execution state files"),
    Option("host", LIST, "hosts", "Daemon socket(s) to listen on", key="hosts", short="H"),
    Option("group", STRING, "group", "Group for the unix socket (default: root only)", short="G"),
    Option("pidfile", STRING, "pidfile", "Path to use for daemon PID file", short="p"),
    Option("tls", BOOL, "tls", "Use TLS; implied by --tlsverify"),
    Option("tlsverify", BOOL, "tlsverify", "Use TLS and verify the remote"),
    Option("tlscacert", STRING, "tlscacert", "Trust certs signed only by this CA"),
    Option("tlscert", STRING, "tlscert", "Path to TLS certificate file"),
    Option("tlskey", STRING, "tlskey", "Path to TLS key file"),
    # the daemon's own log
    Option("debug", BOOL, "debug", "Enable debug mode", short="D"),
    Option("log-level", STRING, "log_level", 'Set the level ("debug"|"info"|"warn"|"error"|"fatal")', short="l"),
    Option("log-format", STRING, "log_format", 'Set the logging format ("text"|"json")'),
    Option("raw-logs", BOOL, "raw_logs", "Full timestamps without ANSI coloring", unused="logs are never coloured"),
    # containers
    Option("default-runtime", STRING, "default_runtime", "Default OCI runtime for containers"),
    Option("add-runtime", RUNTIMES, "runtimes", "Register an additional OCI compatible runtime", key="runtimes"),
    Option("cgroup-parent", STRING, "cgroup_parent", "Set parent cgroup for all containers"),
    Option("default-cgroupns-mode", STRING, "default_cgroupns_mode", 'Default cgroup namespace ("host"|"private")'),
    Option("default-ipc-mode", STRING, "default_ipc_mode", 'Default mode for containers ipc ("shareable"|"private")'),
    Option("default-shm-size", BYTES, "default_shm_size", "Default shm size for containers"),
    Option("default-ulimit", ULIMITS, "default_ulimits", "Default ulimits for containers", key="default-ulimits"),
    Option("init", BOOL, "init", "Run an init in the container to forward signals and reap processes"),
    Option("init-path", STRING, "init_path", "Path to an init binary (default: a built-in one)"),
    Option("no-new-privileges", BOOL, "no_new_privileges", "Set no-new-privileges by default for new containers"),
    Option("seccomp-profile", STRING, "seccomp_profile", 'Path to seccomp profile, "builtin" or "unconfined"'),
    Option("selinux-enabled", BOOL, "selinux_enabled", "Enable selinux support"),
    Option("userns-remap", STRING, "userns_remap", "User/Group setting for user namespaces"),
    Option("log-driver", STRING, "log_driver", "Default driver for container logs"),
    Option("log-opt", MAP, "log_opts", "Default log driver options for containers", key="log-opts"),
    Option("live-restore", BOOL, "live_restore", "Containers outlive the daemon (always on here)"),
    Option("shutdown-timeout", INT, "shutdown_timeout", "Seconds that requests have to end when the daemon stops"),
    Option("exec-opt", LIST, "exec_opts", "Runtime execution options", key="exec-opts"),
    # images and registries
    Option("storage-driver", STRING, "storage_driver", "Storage driver to use", short="s"),
    Option("storage-opt", LIST, "storage_opts", "Storage driver options", key="storage-opts"),
    Option("insecure-registry", LIST, "insecure_registries", "Registry without TLS checks", key="insecure-registries"),
    Option("registry-mirror", LIST, "registry_mirrors", "Preferred registry mirror", key="registry-mirrors"),
    Option("max-concurrent-downloads", INT, "max_concurrent_downloads", "Set the max concurrent downloads"),
    Option("max-concurrent-uploads", INT, "max_concurrent_uploads", "Set the max concurrent uploads"),
    Option("max-download-attempts", INT, "max_download_attempts", "Set the max download attempts for each pull"),
    Option("http-proxy", STRING, "http_proxy", "HTTP proxy URL to use for outgoing traffic"),
    Option("https-proxy", STRING, "https_proxy", "HTTPS proxy URL to use for outgoing traffic"),
    Option("no-proxy", STRING, "no_proxy", "Comma-separated list of hosts for which the proxy is skipped"),
    # networks
    Option("bridge", STRING, "bridge", 'Attach containers to a network bridge ("none": no default network)', short="b"),
    Option("bip", STRING, "bip", "IPv4 address for the default bridge"),
    Option("bip6", STRING, "bip6", "IPv6 address for the default bridge"),
    Option("default-address-pool", POOLS, "default_address_pools", "Pools for networks", key="default-address-pools"),
    Option("default-gateway", ADDRESS, "default_gateway", "Default gateway IPv4 address for the default bridge"),
    Option("default-gateway-v6", ADDRESS, "default_gateway_v6", "Default gateway IPv6 address for the default bridge"),
    Option("dns", ADDRESSES, "dns", "DNS server to use"),
    Option("dns-opt", LIST, "dns_opts", "DNS options to use", key="dns-opts"),
    Option("dns-search", LIST, "dns_search", "DNS search domains to use"),
    Option("fixed-cidr", STRING, "fixed_cidr", "IPv4 subnet for the default bridge network"),
    Option("fixed-cidr-v6", STRING, "fixed_cidr_v6", "IPv6 subnet for the default bridge network"),
    Option("host-gateway-ip", ADDRESSES, "host_gateway_ips", "Meaning of host-gateway", key="host-gateway-ips"),
    Option("icc", BOOL, "icc", "Enable inter-container communication for the default bridge network"),
    Option("ip", ADDRESS, "ip", "Host IP for port publishing from the default bridge network"),
    Option("ip-forward", BOOL, "ip_forward", "Enable IP forwarding in system configuration"),
    Option("ip-forward-no-drop", BOOL, "ip_forward_no_drop", "Do not drop forwarded packets of others"),
    Option("ip-masq", BOOL, "ip_masq", "Enable IP masquerading for the default bridge network"),
    Option("ip6tables", BOOL, "ip6tables", "Enable addition of IPv6 firewall rules"),
    Option("iptables", BOOL, "iptables", "Enable addition of firewall rules (nftables)"),
    Option("ipv6", BOOL, "ipv6", "Enable IPv6 networking for the default bridge network"),
    Option("mtu", INT, "mtu", "Set the MTU for the default bridge network"),
    Option("userland-proxy", BOOL, "userland_proxy", "Serve what the kernel cannot of published ports from the daemon"),
    # the rest
    Option("label", LIST, "labels", "Set key=value labels to the daemon", key="labels"),
    Option("experimental", BOOL, "experimental", "Enable experimental features"),
    Option("feature", SWITCHES, "features", "Enable feature in the daemon", key="features"),
    Option("authorization-plugin", LIST, "authorization_plugins", "", key="authorization-plugins", hidden=True),
    _unused("allow-direct-routing", BOOL, "nothing blocks direct routing here"),
    _unused("allow-nondistributable-artifacts", LIST, "they are always allowed"),
    _unused("builder", DOCUMENT, "this engine has no builder"),
    _unused("cdi-spec-dir", LIST, "devices are not looked up in CDI specifications yet", key="cdi-spec-dirs"),
    _unused("containerd", STRING, _CONTAINERD),
    _unused("containerd-namespace", STRING, _CONTAINERD),
    _unused("containerd-plugins-namespace", STRING, _CONTAINERD, key="containerd-plugin-namespace"),
    _unused("cpu-rt-period", INT, "give real-time budgets to single containers"),
    _unused("cpu-rt-runtime", INT, "give real-time budgets to single containers"),
    _unused("cri-containerd", BOOL, _CONTAINERD),
    _unused("default-init", STRING, "see init-path"),
    _unused("default-network-opt", DOCUMENT, "networks have no options yet", key="default-network-opts"),
    _unused("metrics-addr", STRING, "there is no metrics endpoint yet"),
    _unused("network-control-plane-mtu", INT, _SWARM),
    _unused("network-diagnostic-port", INT, _SWARM),
    _unused("node-generic-resource", LIST, _SWARM, key="node-generic-resources"),
    _unused("restart", BOOL, "use restart policies of containers", short="r"),
    _unused("rootless", BOOL, "this engine needs root"),
    _unused("swarm-default-advertise-addr", STRING, _SWARM),
    _unused("swarm-raft-election-tick", INT, _SWARM),
    _unused("swarm-raft-heartbeat-tick", INT, _SWARM),
    _unused("userland-proxy-path", STRING, "the proxy is part of the daemon"),
)  # fmt: skip

BY_FLAG: Final = {option.flag: option for option in OPTIONS}
BY_SHORT: Final = {option.short: option for option in OPTIONS if option.short}
BY_KEY: Final = {option.json_key: option for option in OPTIONS}
