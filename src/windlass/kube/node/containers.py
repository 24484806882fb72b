"""A container of a pod in the engine's words: the body of a create request. Pure.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Container
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from windlass.kube.node import environment, resources, runtime
from windlass.kube.node.resources import PERIOD_MICROSECONDS

Object = dict[str, Any]

_PROPAGATIONS: Final = {"HostToContainer": "rslave", "Bidirectional": "rshared", "None": "rprivate"}
MESSAGE_PATH: Final = "/dev/termination-log"


class BadContainer(ValueError):
    """A container that cannot be made; `reason` and the message are for its status."""

    def __init__(self, message: str, reason: str = "CreateContainerConfigError") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A volume in a container. `source` is a path of the host, or an image's reference if `is_image`."""

    source: str
    target: str
    read_only: bool = False
    recursive_read_only: bool = False
    propagation: str = "None"
    is_image: bool = False
    subpath: str = ""


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What a container's body depends on besides its spec.

    Attributes:
        image_user: the user that the image names.
        cgroup_parent: the pod's control group.
        pid_of: the container whose processes are seen too, "" for none.
        capacity: the node's memory in bytes; `lowest_oom_score` is what the node can give.
    """

    pod: Object
    kind: str
    attempt: int
    environment: Mapping[str, str]
    mounts: Sequence[Mount]
    message_file: str
    image: str
    image_user: str
    cgroup_parent: str
    qos: str
    capacity: int
    lowest_oom_score: int = -1000
    pid_of: str = ""
    runtime: str = ""


def with_mounts(given: Circumstances, mounts: Sequence[Mount]) -> Circumstances:
    """The same with these mounts."""
    return replace(given, mounts=mounts)


def fingerprint(container: Object) -> str:
    """What makes another container of it: a change of the image."""
    return hashlib.sha256(orjson.dumps([container["name"], container.get("image")])).hexdigest()[:8]


def name_of(pod: Object, container: str, attempt: int) -> str:
    """The engine's name of a container."""
    metadata = pod["metadata"]
    return f"k8s_{container}_{metadata['name']}_{metadata['namespace']}_{metadata['uid']}_{attempt}"


def body(container: Object, given: Circumstances) -> Object:
    """The create request.

    Raises:
        BadContainer: what was asked cannot be.
    """
    spec, metadata = given.pod["spec"], given.pod["metadata"]
    command = [environment.expand(each, given.environment) for each in container.get("command") or ()]
    arguments = [environment.expand(each, given.environment) for each in container.get("args") or ()]
    found: Object = {
        "Image": given.image,
        "Env": [f"{name}={value}" for name, value in given.environment.items()],
        "Tty": bool(container.get("tty")),
        "OpenStdin": bool(container.get("stdin")),
        "StdinOnce": bool(container.get("stdinOnce")),
        "User": _user(container, given),
        "WorkingDir": container.get("workingDir") or "",
        "Labels": {
            runtime.POD_NAME: metadata["name"],
            runtime.POD_NAMESPACE: metadata["namespace"],
            runtime.POD_UID: metadata["uid"],
            runtime.CONTAINER_NAME: container["name"],
            runtime.CONTAINER_KIND: given.kind,
            runtime.CONTAINER_HASH: fingerprint(container),
            runtime.ATTEMPT: str(given.attempt),
            runtime.MESSAGE_PATH: given.message_file,
        },
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host_config(container, given),
    }
    if command:
        found["Entrypoint"] = command
    if arguments:
        found["Cmd"] = arguments
    if signal := (container.get("lifecycle") or {}).get("stopSignal"):
        found["StopSignal"] = signal
    if spec.get("hostNetwork"):
        found["Hostname"] = ""
    return found


def _security(container: Object, pod: Object, name: str) -> Any:
    """A field of the container's security context, or of the pod's."""
    own = (container.get("securityContext") or {}).get(name)
    return own if own is not None else (pod["spec"].get("securityContext") or {}).get(name)


def _user(container: Object, given: Circumstances) -> str:
    user, group = _security(container, given.pod, "runAsUser"), _security(container, given.pod, "runAsGroup")
    if _security(container, given.pod, "runAsNonRoot"):
        _check_not_root(container, given, user)
    if user is None and group is None:
        return given.image_user
    name = str(user) if user is not None else given.image_user.partition(":")[0] or "0"
    return f"{name}:{group}" if group is not None else name


def _check_not_root(container: Object, given: Circumstances, user: int | None) -> None:
    about = f'(pod: "{_shown(given.pod)}", container: {container["name"]})'
    if user is not None:
        if user == 0:
            raise BadContainer(f"container's runAsUser breaks non-root policy {about}")
        return
    name = given.image_user.partition(":")[0]
    if name in ("", "0", "root"):
        raise BadContainer(f"container has runAsNonRoot and image will run as root {about}")
    if not name.isdigit():
        problem = f"container has runAsNonRoot and image has non-numeric user ({name})"
        raise BadContainer(f"{problem}, cannot verify user is non-root {about}")


def _shown(pod: Object) -> str:
    metadata = pod["metadata"]
    return f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"


def _host_config(container: Object, given: Circumstances) -> Object:
    pod = given.pod
    spec = pod["spec"]
    security = container.get("securityContext") or {}
    capabilities = security.get("capabilities") or {}
    limits = resources.container_limits(container)
    found: Object = {
        "CgroupParent": given.cgroup_parent,
        "CpuShares": limits.shares,
        "OomScoreAdj": max(resources.oom_score(pod, container, given.qos, given.capacity), given.lowest_oom_score),
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "5"}},
        "Mounts": [_mount(each) for each in given.mounts],
        "Privileged": bool(security.get("privileged")),
        "ReadonlyRootfs": bool(security.get("readOnlyRootFilesystem")),
        "CapAdd": list(capabilities.get("add") or ()),
        "CapDrop": list(capabilities.get("drop") or ()),
        "GroupAdd": _groups(pod),
        "SecurityOpt": _options(container, pod),
        "CgroupnsMode": "host" if security.get("privileged") else "private",
    }
    if limits.quota > 0:
        found |= {"CpuQuota": limits.quota, "CpuPeriod": PERIOD_MICROSECONDS}
    if limits.memory:
        # The limit is on memory and swap together: a pod does not swap.
        found |= {"Memory": limits.memory, "MemorySwap": limits.memory}
    if spec.get("hostPID"):
        found["PidMode"] = "host"
    elif given.pid_of:
        found["PidMode"] = f"container:{given.pid_of}"
    if security.get("procMount") == "Unmasked":
        found |= {"MaskedPaths": [], "ReadonlyPaths": []}
    if given.runtime:
        found["Runtime"] = given.runtime
    return found


def _groups(pod: Object) -> list[str]:
    context = pod["spec"].get("securityContext") or {}
    found = [str(group) for group in context.get("supplementalGroups") or ()]
    if context.get("fsGroup") is not None:
        found.append(str(context["fsGroup"]))
    return list(dict.fromkeys(found))


def _options(container: Object, pod: Object) -> list[str]:
    """`--security-opt`s. What the node cannot do is refused by the engine, not passed over."""
    found = []
    if (container.get("securityContext") or {}).get("allowPrivilegeEscalation") is False:
        found.append("no-new-privileges=true")
    profile = _security(container, pod, "seccompProfile") or {}
    match profile.get("type"):
        case "Unconfined":
            found.append("seccomp=unconfined")
        case "Localhost":
            found.append(f"seccomp=/var/lib/kubelet/seccomp/{profile.get('localhostProfile', '')}")
    armor = _security(container, pod, "appArmorProfile") or {}
    match armor.get("type"):
        case "Unconfined":
            found.append("apparmor=unconfined")
        case "Localhost":
            found.append(f"apparmor={armor.get('localhostProfile', '')}")
    options = _security(container, pod, "seLinuxOptions") or {}
    for name in ("user", "role", "type", "level"):
        if options.get(name):
            found.append(f"label={name}:{options[name]}")
    return found


def _mount(mount: Mount) -> Object:
    if mount.is_image:
        found: Object = {"Type": "image", "Source": mount.source, "Target": mount.target}
        if mount.subpath:
            found["ImageOptions"] = {"Subpath": mount.subpath}
        return found
    return {
        "Type": "bind",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
        "BindOptions": {
            "Propagation": _PROPAGATIONS[mount.propagation],
            "ReadOnlyNonRecursive": mount.read_only and not mount.recursive_read_only,
            "ReadOnlyForceRecursive": mount.read_only and mount.recursive_read_only,
        },
    }
