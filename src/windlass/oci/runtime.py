"""The runtime configuration (`config.json` of a bundle) and the state document, as TypedDicts.

Only shapes: `windlass.runtime` checks and carries them out. Field names and meanings are those of the OCI runtime
specification 1.2 (config.md, config-linux.md, runtime.md); fields of 1.3 that Linux containers use are here too.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NotRequired, TypedDict

RUNTIME_SPEC_VERSION: Final = "1.2.0"


class Root(TypedDict):
    """The root file system; `path` is absolute or relative to the bundle."""

    path: str
    readonly: NotRequired[bool]


class IDMapping(TypedDict):
    """One line of `uid_map` or `gid_map`."""

    containerID: int
    hostID: int
    size: int


class MountEntry(TypedDict):
    """One mount, in the order of the list."""

    destination: str
    type: NotRequired[str]
    source: NotRequired[str]
    options: NotRequired[list[str]]
    uidMappings: NotRequired[list[IDMapping]]
    gidMappings: NotRequired[list[IDMapping]]


class ConsoleSize(TypedDict):
    """Characters."""

    height: int
    width: int


class User(TypedDict):
    """Numbers only: names are resolved by who writes the configuration."""

    uid: int
    gid: int
    umask: NotRequired[int]
    additionalGids: NotRequired[list[int]]
    username: NotRequired[str]


class Capabilities(TypedDict, total=False):
    """Five sets of capability names (`CAP_…`)."""

    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict):
    """`type` is `RLIMIT_…`."""

    type: str
    soft: int
    hard: int


class Scheduler(TypedDict, total=False):
    """sched_setattr(2)."""

    policy: str
    nice: int
    priority: int
    flags: list[str]
    runtime: int
    deadline: int
    period: int


class Process(TypedDict, total=False):
    """What runs, and as whom."""

    terminal: bool
    consoleSize: ConsoleSize
    user: User
    args: list[str]
    commandLine: str
    env: list[str]
    cwd: str
    capabilities: Capabilities
    rlimits: list[Rlimit]
    noNewPrivileges: bool
    apparmorProfile: str
    oomScoreAdj: int
    scheduler: Scheduler
    selinuxLabel: str
    ioPriority: dict[str, Any]
    execCPUAffinity: dict[str, str]


class Hook(TypedDict):
    """A program that runs at a point of the container's life; `timeout` in seconds."""

    path: str
    args: NotRequired[list[str]]
    env: NotRequired[list[str]]
    timeout: NotRequired[int]


class Hooks(TypedDict, total=False):
    """Hooks by the point at which they run."""

    prestart: list[Hook]
    createRuntime: list[Hook]
    createContainer: list[Hook]
    startContainer: list[Hook]
    poststart: list[Hook]
    poststop: list[Hook]


class Namespace(TypedDict):
    """`type` is pid, network, mount, ipc, uts, user, cgroup or time; with `path`, an existing one is joined."""

    type: str
    path: NotRequired[str]


class Device(TypedDict):
    """A device node to make."""

    path: str
    type: str
    major: NotRequired[int]
    minor: NotRequired[int]
    fileMode: NotRequired[int]
    uid: NotRequired[int]
    gid: NotRequired[int]


class DeviceRule(TypedDict):
    """A line of the device cgroup; a missing number means all."""

    allow: bool
    type: NotRequired[str]
    major: NotRequired[int]
    minor: NotRequired[int]
    access: NotRequired[str]


class Memory(TypedDict, total=False):
    """Bytes; -1 is unlimited."""

    limit: int
    reservation: int
    swap: int
    kernel: int
    kernelTCP: int
    swappiness: int
    disableOOMKiller: bool
    useHierarchy: bool
    checkBeforeUpdate: bool


class CPU(TypedDict, total=False):
    """Quota, period, burst and realtime values in microseconds."""

    shares: int
    quota: int
    burst: int
    period: int
    realtimeRuntime: int
    realtimePeriod: int
    cpus: str
    mems: str
    idle: int


class Pids(TypedDict):
    """0 or -1 is unlimited."""

    limit: int


class WeightDevice(TypedDict):
    """Weight of one block device."""

    major: int
    minor: int
    weight: NotRequired[int]
    leafWeight: NotRequired[int]


class ThrottleDevice(TypedDict):
    """Rate of one block device: bytes or operations a second."""

    major: int
    minor: int
    rate: int


class BlockIO(TypedDict, total=False):
    """Block device limits."""

    weight: int
    leafWeight: int
    weightDevice: list[WeightDevice]
    throttleReadBpsDevice: list[ThrottleDevice]
    throttleWriteBpsDevice: list[ThrottleDevice]
    throttleReadIOPSDevice: list[ThrottleDevice]
    throttleWriteIOPSDevice: list[ThrottleDevice]


class HugepageLimit(TypedDict):
    """`pageSize` like `2MB`; `limit` in bytes."""

    pageSize: str
    limit: int


class NetworkPriority(TypedDict):
    """net_prio of one interface."""

    name: str
    priority: int


class NetworkResources(TypedDict, total=False):
    """net_cls and net_prio."""

    classID: int
    priorities: list[NetworkPriority]


class Resources(TypedDict, total=False):
    """The container's cgroup; `unified` are cgroup v2 files and their contents."""

    devices: list[DeviceRule]
    memory: Memory
    cpu: CPU
    pids: Pids
    blockIO: BlockIO
    hugepageLimits: list[HugepageLimit]
    network: NetworkResources
    rdma: dict[str, dict[str, int]]
    unified: dict[str, str]


class SyscallArgument(TypedDict):
    """A comparison of one argument; `op` is `SCMP_CMP_…`."""

    index: int
    value: int
    op: str
    valueTwo: NotRequired[int]


class SyscallRule(TypedDict):
    """What happens to some system calls; `action` is `SCMP_ACT_…`."""

    names: list[str]
    action: str
    errnoRet: NotRequired[int]
    args: NotRequired[list[SyscallArgument]]


class Seccomp(TypedDict):
    """The filter, before it is compiled."""

    defaultAction: str
    defaultErrnoRet: NotRequired[int]
    architectures: NotRequired[list[str]]
    flags: NotRequired[list[str]]
    listenerPath: NotRequired[str]
    listenerMetadata: NotRequired[str]
    syscalls: NotRequired[list[SyscallRule]]


class TimeOffset(TypedDict, total=False):
    """Offset of a clock in a time namespace."""

    secs: int
    nanosecs: int


class Personality(TypedDict):
    """personality(2): `LINUX` or `LINUX32`."""

    domain: str
    flags: NotRequired[list[str]]


class Linux(TypedDict, total=False):
    """The Linux part."""

    namespaces: list[Namespace]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]
    timeOffsets: dict[str, TimeOffset]
    devices: list[Device]
    netDevices: dict[str, dict[str, str]]
    cgroupsPath: str
    resources: Resources
    intelRdt: dict[str, Any]
    memoryPolicy: dict[str, Any]
    sysctl: dict[str, str]
    seccomp: Seccomp
    rootfsPropagation: Literal[
        "shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"
    ]
    maskedPaths: list[str]
    readonlyPaths: list[str]
    mountLabel: str
    personality: Personality


class RuntimeConfig(TypedDict):
    """The whole `config.json`."""

    ociVersion: str
    root: NotRequired[Root]
    process: NotRequired[Process]
    hostname: NotRequired[str]
    domainname: NotRequired[str]
    mounts: NotRequired[list[MountEntry]]
    hooks: NotRequired[Hooks]
    annotations: NotRequired[dict[str, str]]
    linux: NotRequired[Linux]


class State(TypedDict):
    """What `state` prints and hooks read (runtime.md, "State")."""

    ociVersion: str
    id: str
    status: Literal["creating", "created", "running", "stopped", "paused"]
    bundle: str
    pid: NotRequired[int]
    annotations: NotRequired[dict[str, str]]
