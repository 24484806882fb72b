"""The whole configuration, put together from its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from windlass.engine import modes
from windlass.engine.merge import replace_or_append
from windlass.engine.security import SecurityOptions
from windlass.engine.spec.defaults import OCI_VERSION, PATH, device_rules
from windlass.engine.spec.mounts import UserMount, build_mounts, rootfs_propagation
from windlass.engine.spec.resources import linux_resources, parse_device_rules
from windlass.engine.users import Account

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device node to be made in the container, and how it may be used."""

    path: str
    kind: str  # "c", "b", "p"
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    access: str = "rwm"


@dataclass(frozen=True, kw_only=True)
class SpecRequest:
    """Everything that the configuration depends on."""

    container_id: str
    path: str
    args: Sequence[str]
    config: Mapping[str, Any]
    host_config: Mapping[str, Any]
    root: str
    cgroups_path: str
    account: Account
    capabilities: Sequence[str]
    security: SecurityOptions
    mounts: Sequence[UserMount] = ()
    devices: Sequence[Device] = ()
    device_numbers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    rlimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # name to soft and hard
    namespaces: Mapping[str, str] = field(default_factory=dict)  # network, ipc, pid, user: path to join
    id_mappings: tuple[Sequence[Document], Sequence[Document]] | None = None  # of users, of groups
    known_sysctls: frozenset[str] = frozenset()
    init: str = ""  # path on the host of the program for --init
    seccomp: Document | None = None
    apparmor_profile: str = ""
    process_label: str = ""
    mount_label: str = ""
    recursive_readonly: bool = True
    console_size: Sequence[int] = (0, 0)


INIT_PATH = "/sbin/docker-init"


def build(request: SpecRequest) -> Document:
    """The OCI runtime configuration. Raises `InvalidParameter`."""
    host_config = request.host_config
    spec: Document = {
        "ociVersion": OCI_VERSION,
        "process": build_process(request),
        "root": {"path": request.root, "readonly": host_config["ReadonlyRootfs"]},
        "mounts": build_mounts(
            _with_init(request),
            host_config,
            recursive_readonly=request.recursive_readonly,
            writable_cgroups=_writable_cgroups(request),
        ),
        "linux": _linux(request),
    }
    if host_config["UTSMode"] != "host":
        spec["hostname"] = request.config["Hostname"]
    if annotations := host_config.get("Annotations"):
        spec["annotations"] = dict(annotations)
    return spec


def _writable_cgroups(request: SpecRequest) -> bool:
    asked = request.security.writable_cgroups
    privileged: bool = request.host_config["Privileged"]
    return (privileged if asked is None else asked) or request.id_mappings is not None


def _uses_init(request: SpecRequest) -> bool:
    """Whether --init applies: in a PID namespace of another, an init is running already."""
    return bool(request.init) and request.host_config["PidMode"] == ""


def _with_init(request: SpecRequest) -> list[UserMount]:
    mounts = list(request.mounts)
    if _uses_init(request):
        mounts.append(UserMount(destination=INIT_PATH, source=request.init, writable=False, non_recursive=True))
    return mounts


def build_environment(config: Mapping[str, Any], *, terminal: bool, home: str) -> list[str]:
    """PATH, HOSTNAME, TERM on a terminal, then the configured variables, then HOME unless one of them is it."""
    variables = [f"PATH={PATH}", f"HOSTNAME={config['Hostname']}"]
    if terminal:
        variables.append("TERM=xterm")
    variables = replace_or_append(variables, list(config["Env"] or ()))
    if not any(variable.startswith("HOME=") for variable in variables):
        variables.append(f"HOME={home}")
    return variables


def build_process(request: SpecRequest) -> Document:
    """The `process` of the configuration."""
    config, account = request.config, request.account
    args = [request.path, *request.args]
    if _uses_init(request):
        args = [INIT_PATH, "--", *args]
    terminal: bool = config["Tty"]
    process: Document = {
        "terminal": terminal,
        "user": {"uid": account.uid, "gid": account.gid, "additionalGids": list(account.groups)},
        "args": args,
        "env": build_environment(config, terminal=terminal, home=account.home),
        "cwd": config["WorkingDir"] or "/",
        "capabilities": capability_sets(request.capabilities),
        "rlimits": [
            {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}
            for name, (soft, hard) in request.rlimits.items()
        ],
        "oomScoreAdj": request.host_config["OomScoreAdj"],
        "noNewPrivileges": request.security.no_new_privileges,
    }
    if terminal and all(request.console_size):
        process["consoleSize"] = {"height": request.console_size[0], "width": request.console_size[1]}
    if request.apparmor_profile:
        process["apparmorProfile"] = request.apparmor_profile
    if request.process_label:
        process["selinuxLabel"] = request.process_label
    return process


def capability_sets(names: Sequence[str]) -> Document:
    """Bounding, permitted and effective; the inheritable set stays empty (CVE-2022-24769)."""
    return {name: list(names) for name in ("bounding", "effective", "permitted")}


def _linux(request: SpecRequest) -> Document:
    host_config = request.host_config
    privileged: bool = host_config["Privileged"]
    resources = linux_resources(host_config, request.device_numbers.__getitem__)
    resources["devices"] = _device_rules(request)
    masked = host_config["MaskedPaths"]
    readonly = host_config["ReadonlyPaths"]
    if privileged or request.security.systempaths_unconfined:
        masked = readonly = []
    linux: Document = {
        "cgroupsPath": request.cgroups_path,
        "namespaces": _namespaces(request),
        "resources": resources,
        "devices": [_device(device) for device in request.devices],
        "maskedPaths": list(masked or ()),
        "readonlyPaths": list(readonly or ()),
    }
    if sysctls := _sysctls(request):
        linux["sysctl"] = sysctls
    if propagation := rootfs_propagation(request.mounts):
        linux["rootfsPropagation"] = propagation
    if request.id_mappings is not None:
        linux["uidMappings"], linux["gidMappings"] = (list(mappings) for mappings in request.id_mappings)
    if request.seccomp is not None:
        linux["seccomp"] = request.seccomp
    if request.mount_label:
        linux["mountLabel"] = request.mount_label
    return linux


def _device(device: Device) -> Document:
    return {
        "path": device.path,
        "type": device.kind,
        "major": device.major,
        "minor": device.minor,
        "fileMode": device.mode,
        "uid": device.uid,
        "gid": device.gid,
    }


def _device_rules(request: SpecRequest) -> list[Document]:
    rules = device_rules()
    if request.host_config["Privileged"]:
        return [*rules, {"allow": True, "access": "rwm"}]
    for device in request.devices:
        rules.append(
            {
                "allow": True,
                "type": device.kind,
                "major": device.major,
                "minor": device.minor,
                "access": device.access,
            }
        )
    return rules + parse_device_rules(request.host_config["DeviceCgroupRules"] or ())


def _namespaces(request: SpecRequest) -> list[Document]:
    host_config, join = request.host_config, request.namespaces
    wanted = ["mount"]
    if host_config["NetworkMode"] != "host":
        wanted.append("network")
    if host_config["UTSMode"] != "host":
        wanted.append("uts")
    if host_config["PidMode"] != "host":
        wanted.append("pid")
    if host_config["IpcMode"] != "host":
        wanted.append("ipc")
    if host_config["CgroupnsMode"] == "private":
        wanted.append("cgroup")
    if request.id_mappings is not None or "user" in join:
        wanted.insert(0, "user")
    return [{"type": name, "path": join[name]} if name in join else {"type": name} for name in wanted]


def _sysctls(request: SpecRequest) -> dict[str, str]:
    host_config = request.host_config
    sysctls: dict[str, str] = {}
    network = host_config["NetworkMode"]
    if network != "host" and modes.shared_container(network) is None:
        # A group range cannot be given in a user namespace that does not map it.
        if request.id_mappings is None and "net.ipv4.ping_group_range" in request.known_sysctls:
            sysctls["net.ipv4.ping_group_range"] = "0 2147483647"
        if "net.ipv4.ip_unprivileged_port_start" in request.known_sysctls:
            sysctls["net.ipv4.ip_unprivileged_port_start"] = "0"
    if request.config["Domainname"] and host_config["UTSMode"] != "host":
        sysctls["kernel.domainname"] = request.config["Domainname"]
    return sysctls | dict(host_config.get("Sysctls") or {})
