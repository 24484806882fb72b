"""What clients send about containers, as tables of fields (API 1.51, `definitions` of its swagger).

The order of the fields is the order in which `docker inspect` shows them.
"""

from __future__ import annotations

from typing import Any, Final

from windlass.engine.schema import (
    Document,
    Field,
    boolean,
    decode,
    int64,
    integer,
    list_of,
    map_of,
    mismatch,
    name_set,
    string,
    string_map,
    string_or_strings,
    strings,
    struct,
)
from windlass.errors import InvalidParameter

_uint16 = integer(bits=16, signed=False)
_uint32 = integer(bits=32, signed=False)
_uint64 = integer(bits=64, signed=False)

HEALTHCHECK: Final = (
    Field("Test", strings, omit="empty"),
    Field("Interval", int64, omit="empty"),
    Field("Timeout", int64, omit="empty"),
    Field("StartPeriod", int64, omit="empty"),
    Field("StartInterval", int64, omit="empty"),
    Field("Retries", int64, omit="empty"),
)

CONFIG: Final = (
    Field("Hostname", string, ""),
    Field("Domainname", string, ""),
    Field("User", string, ""),
    Field("AttachStdin", boolean, False),
    Field("AttachStdout", boolean, False),
    Field("AttachStderr", boolean, False),
    Field("ExposedPorts", name_set, omit="empty"),
    Field("Tty", boolean, False),
    Field("OpenStdin", boolean, False),
    Field("StdinOnce", boolean, False),
    Field("Env", strings),
    Field("Cmd", string_or_strings),
    Field("Healthcheck", struct(HEALTHCHECK, "container.HealthConfig"), omit="absent"),
    Field("ArgsEscaped", boolean, omit="empty"),
    Field("Image", string, ""),
    Field("Volumes", name_set),
    Field("WorkingDir", string, ""),
    Field("Entrypoint", string_or_strings),
    Field("NetworkDisabled", boolean, omit="empty"),
    Field("MacAddress", string, omit="empty"),
    Field("OnBuild", strings),
    Field("Labels", string_map, dict),
    Field("StopSignal", string, omit="empty"),
    Field("StopTimeout", int64, omit="absent"),
    Field("Shell", string_or_strings, omit="empty"),
)

PORT_BINDING: Final = (Field("HostIp", string, ""), Field("HostPort", string, ""))


def port_map(value: Any, path: str) -> dict[str, list[Document]]:
    """`HostConfig.PortBindings`: port to host addresses."""
    if type(value) is not dict:
        raise mismatch(value, path, "nat.PortMap")
    bindings = list_of(struct(PORT_BINDING, "nat.PortBinding"), "[]nat.PortBinding")
    return {port: bindings(hosts, path) if hosts is not None else [] for port, hosts in value.items()}


def _pair(value: Any, path: str) -> list[int]:
    """`ConsoleSize`: height and width."""
    numbers: list[int] = list_of(_uint32, "[2]uint")(value, path)
    return [*numbers, 0, 0][:2]


_THROTTLE = struct((Field("Path", string, ""), Field("Rate", _uint64, 0)), "blkiodev.ThrottleDevice")
_throttles = list_of(_THROTTLE, "[]*blkiodev.ThrottleDevice")

RESOURCES: Final = (
    Field("CpuShares", int64, 0),
    Field("Memory", int64, 0),
    Field("NanoCpus", int64, 0),
    Field("CgroupParent", string, ""),
    Field("BlkioWeight", _uint16, 0),
    Field(
        "BlkioWeightDevice",
        list_of(
            struct((Field("Path", string, ""), Field("Weight", _uint16, 0)), "blkiodev.WeightDevice"),
            "[]*blkiodev.WeightDevice",
        ),
    ),
    Field("BlkioDeviceReadBps", _throttles),
    Field("BlkioDeviceWriteBps", _throttles),
    Field("BlkioDeviceReadIOps", _throttles),
    Field("BlkioDeviceWriteIOps", _throttles),
    Field("CpuPeriod", int64, 0),
    Field("CpuQuota", int64, 0),
    Field("CpuRealtimePeriod", int64, 0),
    Field("CpuRealtimeRuntime", int64, 0),
    Field("CpusetCpus", string, ""),
    Field("CpusetMems", string, ""),
    Field(
        "Devices",
        list_of(
            struct(
                (
                    Field("PathOnHost", string, ""),
                    Field("PathInContainer", string, ""),
                    Field("CgroupPermissions", string, ""),
                ),
                "container.DeviceMapping",
            ),
            "[]container.DeviceMapping",
        ),
    ),
    Field("DeviceCgroupRules", strings),
    Field(
        "DeviceRequests",
        list_of(
            struct(
                (
                    Field("Driver", string, ""),
                    Field("Count", int64, 0),
                    Field("DeviceIDs", strings),
                    Field("Capabilities", list_of(strings, "[][]string")),
                    Field("Options", string_map),
                ),
                "container.DeviceRequest",
            ),
            "[]container.DeviceRequest",
        ),
    ),
    Field("MemoryReservation", int64, 0),
    Field("MemorySwap", int64, 0),
    Field("MemorySwappiness", int64),
    Field("OomKillDisable", boolean),
    Field("PidsLimit", int64),
    Field(
        "Ulimits",
        list_of(
            struct((Field("Name", string, ""), Field("Hard", int64, 0), Field("Soft", int64, 0)), "units.Ulimit"),
            "[]*units.Ulimit",
        ),
    ),
    Field("CpuCount", int64, 0),
    Field("CpuPercent", int64, 0),
    Field("IOMaximumIOps", _uint64, 0),
    Field("IOMaximumBandwidth", _uint64, 0),
)

RESTART_POLICY: Final = (Field("Name", string, ""), Field("MaximumRetryCount", int64, 0))
_restart_policy = struct(RESTART_POLICY, "container.RestartPolicy")

MOUNT: Final = (
    Field("Type", string, omit="empty"),
    Field("Source", string, omit="empty"),
    Field("Target", string, omit="empty"),
    Field("ReadOnly", boolean, omit="empty"),
    Field("Consistency", string, omit="empty"),
    Field(
        "BindOptions",
        struct(
            (
                Field("Propagation", string, omit="empty"),
                Field("NonRecursive", boolean, omit="empty"),
                Field("CreateMountpoint", boolean, omit="empty"),
                Field("ReadOnlyNonRecursive", boolean, omit="empty"),
                Field("ReadOnlyForceRecursive", boolean, omit="empty"),
            ),
            "mount.BindOptions",
        ),
        omit="absent",
    ),
    Field(
        "VolumeOptions",
        struct(
            (
                Field("NoCopy", boolean, omit="empty"),
                Field("Labels", string_map, omit="empty"),
                Field("Subpath", string, omit="empty"),
                Field(
                    "DriverConfig",
                    struct(
                        (Field("Name", string, omit="empty"), Field("Options", string_map, omit="empty")),
                        "mount.Driver",
                    ),
                    omit="absent",
                ),
            ),
            "mount.VolumeOptions",
        ),
        omit="absent",
    ),
    Field("ImageOptions", struct((Field("Subpath", string, omit="empty"),), "mount.ImageOptions"), omit="absent"),
    Field(
        "TmpfsOptions",
        struct(
            (
                Field("SizeBytes", int64, omit="empty"),
                Field("Mode", _uint32, omit="empty"),
                Field("Options", list_of(strings, "[][]string"), omit="empty"),
            ),
            "mount.TmpfsOptions",
        ),
        omit="absent",
    ),
    Field("ClusterOptions", struct((), "mount.ClusterOptions"), omit="absent"),
)

HOST_CONFIG: Final = (
    Field("Binds", strings),
    Field("ContainerIDFile", string, ""),
    Field(
        "LogConfig",
        struct((Field("Type", string, ""), Field("Config", string_map, dict)), "container.LogConfig"),
        lambda: {"Type": "", "Config": {}},
    ),
    Field("NetworkMode", string, ""),
    Field("PortBindings", port_map, dict),
    Field("RestartPolicy", _restart_policy, lambda: {"Name": "", "MaximumRetryCount": 0}),
    Field("AutoRemove", boolean, False),
    Field("VolumeDriver", string, ""),
    Field("VolumesFrom", strings),
    Field("ConsoleSize", _pair, lambda: [0, 0]),
    Field("Annotations", string_map, omit="empty"),
    Field("CapAdd", string_or_strings),
    Field("CapDrop", string_or_strings),
    Field("CgroupnsMode", string, ""),
    Field("Dns", strings, list),
    Field("DnsOptions", strings, list),
    Field("DnsSearch", strings, list),
    Field("ExtraHosts", strings),
    Field("GroupAdd", strings),
    Field("IpcMode", string, ""),
    Field("Cgroup", string, ""),
    Field("Links", strings),
    Field("OomScoreAdj", int64, 0),
    Field("PidMode", string, ""),
    Field("Privileged", boolean, False),
    Field("PublishAllPorts", boolean, False),
    Field("ReadonlyRootfs", boolean, False),
    Field("SecurityOpt", strings),
    Field("StorageOpt", string_map, omit="empty"),
    Field("Tmpfs", string_map, omit="empty"),
    Field("UTSMode", string, ""),
    Field("UsernsMode", string, ""),
    Field("ShmSize", int64, 0),
    Field("Sysctls", string_map, omit="empty"),
    Field("Runtime", string, ""),
    Field("Isolation", string, ""),
    *RESOURCES,
    Field("Mounts", list_of(struct(MOUNT, "mount.Mount"), "[]mount.Mount"), omit="empty"),
    Field("MaskedPaths", strings),
    Field("ReadonlyPaths", strings),
    Field("Init", boolean, omit="absent"),
)

UPDATE: Final = (*RESOURCES, Field("RestartPolicy", _restart_policy, lambda: {"Name": "", "MaximumRetryCount": 0}))

ENDPOINT: Final = (
    Field(
        "IPAMConfig",
        struct(
            (
                Field("IPv4Address", string, omit="empty"),
                Field("IPv6Address", string, omit="empty"),
                Field("LinkLocalIPs", strings, omit="empty"),
            ),
            "network.EndpointIPAMConfig",
        ),
    ),
    Field("Links", strings),
    Field("Aliases", strings),
    Field("MacAddress", string, ""),
    Field("DriverOpts", string_map),
    Field("GwPriority", int64, 0),
    Field("NetworkID", string, ""),
    Field("EndpointID", string, ""),
    Field("Gateway", string, ""),
    Field("IPAddress", string, ""),
    Field("IPPrefixLen", int64, 0),
    Field("IPv6Gateway", string, ""),
    Field("GlobalIPv6Address", string, ""),
    Field("GlobalIPv6PrefixLen", int64, 0),
    Field("DNSNames", strings),
)

_endpoints = map_of(struct(ENDPOINT, "network.EndpointSettings"), "map[string]*network.EndpointSettings")

EXEC: Final = (
    Field("User", string, ""),
    Field("Privileged", boolean, False),
    Field("Tty", boolean, False),
    Field("ConsoleSize", _pair),
    Field("AttachStdin", boolean, False),
    Field("AttachStderr", boolean, False),
    Field("AttachStdout", boolean, False),
    Field("DetachKeys", string, ""),
    Field("Env", strings),
    Field("WorkingDir", string, ""),
    Field("Cmd", string_or_strings),
)


def decode_create(body: Document) -> tuple[Document, Document, dict[str, Document]]:
    """Config, HostConfig and the endpoints by network name of a create request. Raises `InvalidParameter`."""
    if not body:
        raise InvalidParameter("config cannot be empty in order to create a container")
    config = decode(body, CONFIG, "CreateRequest")
    if config["Volumes"] is None:
        config["Volumes"] = {}
    host_config = body.get("HostConfig")
    if host_config is not None and type(host_config) is not dict:
        raise mismatch(host_config, "CreateRequest.HostConfig", "container.HostConfig")
    networking = body.get("NetworkingConfig") or {}
    if type(networking) is not dict:
        raise mismatch(networking, "CreateRequest.NetworkingConfig", "network.NetworkingConfig")
    endpoints = networking.get("EndpointsConfig") or {}
    return (
        config,
        decode(host_config or {}, HOST_CONFIG, "CreateRequest.HostConfig"),
        _endpoints(endpoints, "CreateRequest.NetworkingConfig.EndpointsConfig"),
    )


def decode_endpoint(body: Document) -> Document:
    """What a container's place in a network is to be. Raises `InvalidParameter`."""
    if type(body) is not dict:
        raise mismatch(body, "ConnectOptions.EndpointConfig", "network.EndpointSettings")
    return decode(body, ENDPOINT, "ConnectOptions.EndpointConfig")


def decode_update(body: Document) -> Document:
    """The resources and restart policy of an update request. Raises `InvalidParameter`."""
    return decode(body, UPDATE, "UpdateConfig")


def decode_exec(body: Document) -> Document:
    """An exec request. Raises `InvalidParameter`."""
    return decode(body, EXEC, "ExecCreateRequest")


def decode_config(body: Document | None) -> Document | None:
    """A container configuration that may be absent (commit). Raises `InvalidParameter`."""
    return decode(body, CONFIG, "Config") if body else None
