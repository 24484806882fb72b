"""PodSecurity: what pods of a namespace may ask for, by its labels.

    pod-security.kubernetes.io/enforce: privileged | baseline | restricted      refuses
                               audit, warn                                      notes, warns
                               enforce-version …: latest, v1.37                 accepted, all versions judge alike

Workloads with a pod template are warned about and noted, never refused: their pods will be.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/ and .../pod-security-admission/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.admission.chain import Plugin
from windlass.kube.api import status
from windlass.kube.api.reader import Object, Reader
from windlass.kube.api.status import invalid_value

_PREFIX = "pod-security.kubernetes.io/"
_LEVELS = ("privileged", "baseline", "restricted")
_VERSION = re.compile(r"latest|v1\.\d{1,3}")
_TEMPLATES = frozenset(
    {
        ("", "replicationcontrollers"),
        ("", "podtemplates"),
        ("apps", "deployments"),
        ("apps", "replicasets"),
        ("apps", "statefulsets"),
        ("apps", "daemonsets"),
        ("batch", "jobs"),
        ("batch", "cronjobs"),
    }
)
_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
_SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)


class Violation(NamedTuple):
    """What a pod asks for and may not: in a few words, and where."""

    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})"


Check = Callable[[Object], Violation | None]


def _containers(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind) or ()


def _named(found: Sequence[str], what: str) -> str:
    quoted = ", ".join(f'"{name}"' for name in found)
    return f"container{'s' if len(found) > 1 else ''} {quoted} must {what}"


def _context(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    return holder.get("securityContext") or {}


def _privileged(pod: Object) -> Violation | None:
    found = [each["name"] for each in _containers(pod["spec"]) if _context(each).get("privileged")]
    return Violation("privileged", _named(found, "not set securityContext.privileged=true")) if found else None


def _host_namespaces(pod: Object) -> Violation | None:
    found = [f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if pod["spec"].get(name)]
    return Violation("host namespaces", ", ".join(found)) if found else None


def _host_ports(pod: Object) -> Violation | None:
    names, ports = [], []
    for each in _containers(pod["spec"]):
        own = [str(port["hostPort"]) for port in each.get("ports") or () if port.get("hostPort")]
        if own:
            names.append(each["name"])
            ports += own
    if not names:
        return None
    quoted = ", ".join(f'"{name}"' for name in names)
    plural = "s" if len(ports) > 1 else ""
    uses = "use" if len(names) > 1 else "uses"
    detail = (
        f"container{'s' if len(names) > 1 else ''} {quoted} {uses} hostPort{plural} {', '.join(sorted(set(ports)))}"
    )
    return Violation("hostPort", detail)


def _host_paths(pod: Object) -> Violation | None:
    found = [f'"{each["name"]}"' for each in pod["spec"].get("volumes") or () if each.get("hostPath") is not None]
    return Violation("hostPath volumes", f"volume{'s' if len(found) > 1 else ''} {', '.join(found)}") if found else None


def _added_capabilities(pod: Object) -> Violation | None:
    names, added = [], set()
    for each in _containers(pod["spec"]):
        own = set((_context(each).get("capabilities") or {}).get("add") or ()) - _CAPABILITIES
        if own:
            names.append(each["name"])
            added |= own
    if not names:
        return None
    shown = ", ".join(f'"{name}"' for name in sorted(added))
    return Violation(
        "non-default capabilities", _named(names, f"not include {shown} in securityContext.capabilities.add")
    )


def _proc_mount(pod: Object) -> Violation | None:
    found = [e["name"] for e in _containers(pod["spec"]) if _context(e).get("procMount", "Default") != "Default"]
    return Violation("procMount", _named(found, 'not set securityContext.procMount to "Unmasked"')) if found else None


def _seccomp(pod: Object) -> Violation | None:
    found = [
        each["name"]
        for each in _containers(pod["spec"])
        if (_context(each).get("seccompProfile") or {}).get("type") == "Unconfined"
    ]
    if (_context(pod["spec"]).get("seccompProfile") or {}).get("type") == "Unconfined":
        return Violation("seccompProfile", 'pod must not set securityContext.seccompProfile.type to "Unconfined"')
    if not found:
        return None
    return Violation("seccompProfile", _named(found, 'not set securityContext.seccompProfile.type to "Unconfined"'))


def _sysctls(pod: Object) -> Violation | None:
    found = [e["name"] for e in _context(pod["spec"]).get("sysctls") or () if e.get("name") not in _SYSCTLS]
    return Violation("forbidden sysctls", ", ".join(found)) if found else None


def _selinux(pod: Object) -> Violation | None:
    for holder in (pod["spec"], *_containers(pod["spec"])):
        options = _context(holder).get("seLinuxOptions") or {}
        if options.get("type", "") not in _SELINUX_TYPES or options.get("user") or options.get("role"):
            return Violation("seLinuxOptions", "seLinuxOptions set forbidden values")
    return None


def _apparmor(pod: Object) -> Violation | None:
    for holder in (pod["spec"], *_containers(pod["spec"])):
        if (_context(holder).get("appArmorProfile") or {}).get("type") == "Unconfined":
            return Violation("forbidden AppArmor profile", 'appArmorProfile.type="Unconfined"')
    return None


def _host_process(pod: Object) -> Violation | None:
    for holder in (pod["spec"], *_containers(pod["spec"])):
        if (_context(holder).get("windowsOptions") or {}).get("hostProcess"):
            return Violation("hostProcess", "windowsOptions.hostProcess=true")
    return None


def _restricted_volumes(pod: Object) -> Violation | None:
    found, kinds = [], set()
    for volume in pod["spec"].get("volumes") or ():
        for kind in volume:
            if kind != "name" and kind not in _VOLUMES:
                found.append(f'"{volume["name"]}"')
                kinds.add(f'"{kind}"')
    if not found:
        return None
    uses = "use restricted volume types" if len(kinds) > 1 else "uses restricted volume type"
    plural = "s" if len(found) > 1 else ""
    return Violation("restricted volume types", f"volume{plural} {', '.join(found)} {uses} {', '.join(sorted(kinds))}")


def _escalation(pod: Object) -> Violation | None:
    found = [
        each["name"] for each in _containers(pod["spec"]) if _context(each).get("allowPrivilegeEscalation") is not False
    ]
    what = "set securityContext.allowPrivilegeEscalation=false"
    return Violation("allowPrivilegeEscalation != false", _named(found, what)) if found else None


def _non_root(pod: Object) -> Violation | None:
    of_pod = _context(pod["spec"]).get("runAsNonRoot")
    found = [
        each["name"]
        for each in _containers(pod["spec"])
        if (own := _context(each).get("runAsNonRoot")) is False or (own is None and not of_pod)
    ]
    if not found:
        return None
    quoted = ", ".join(f'"{name}"' for name in found)
    detail = f"pod or container{'s' if len(found) > 1 else ''} {quoted} must set securityContext.runAsNonRoot=true"
    return Violation("runAsNonRoot != true", detail)


def _root_user(pod: Object) -> Violation | None:
    if _context(pod["spec"]).get("runAsUser") == 0:
        return Violation("runAsUser=0", "pod must not set runAsUser=0")
    found = [each["name"] for each in _containers(pod["spec"]) if _context(each).get("runAsUser") == 0]
    return Violation("runAsUser=0", _named(found, "not set runAsUser=0")) if found else None


def _restricted_seccomp(pod: Object) -> Violation | None:
    allowed = ("RuntimeDefault", "Localhost")
    of_pod = (_context(pod["spec"]).get("seccompProfile") or {}).get("type") in allowed
    found = []
    for each in _containers(pod["spec"]):
        own = (_context(each).get("seccompProfile") or {}).get("type")
        if own not in allowed and (own is not None or not of_pod):
            found.append(each["name"])
    if not found:
        return None
    quoted = ", ".join(f'"{name}"' for name in found)
    detail = (
        f"pod or container{'s' if len(found) > 1 else ''} {quoted} must set securityContext.seccompProfile.type to "
    )
    return Violation("seccompProfile", detail + '"RuntimeDefault" or "Localhost"')


def _restricted_capabilities(pod: Object) -> Violation | None:
    undropped, adding = [], []
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for each in pod["spec"].get(kind) or ():
            found = _context(each).get("capabilities") or {}
            if "ALL" not in (found.get("drop") or ()):
                undropped.append(each["name"])
            if set(found.get("add") or ()) - {"NET_BIND_SERVICE"}:
                adding.append(each["name"])
    parts = []
    if undropped:
        parts.append(_named(undropped, 'set securityContext.capabilities.drop=["ALL"]'))
    if adding:
        parts.append(_named(adding, 'not include other than "NET_BIND_SERVICE" in securityContext.capabilities.add'))
    return Violation("unrestricted capabilities", "; ".join(parts)) if parts else None


_BASELINE: tuple[Check, ...] = (
    _privileged,
    _host_namespaces,
    _host_ports,
    _host_paths,
    _added_capabilities,
    _apparmor,
    _proc_mount,
    _seccomp,
    _selinux,
    _sysctls,
    _host_process,
)
_RESTRICTED: tuple[Check, ...] = (
    *(each for each in _BASELINE if each not in (_added_capabilities, _seccomp)),
    _escalation,
    _restricted_capabilities,
    _restricted_volumes,
    _non_root,
    _root_user,
    _restricted_seccomp,
)
_CHECKS: Mapping[str, tuple[Check, ...]] = {"privileged": (), "baseline": _BASELINE, "restricted": _RESTRICTED}


def violations(pod: Object, level: str) -> list[Violation]:
    """What a pod asks for and a level does not allow."""
    return [found for check in _CHECKS[level] if (found := check(pod)) is not None]


class PodSecurity(Plugin):
    """See the module."""

    name = "PodSecurity"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """Pods, what makes pods, and namespaces, which carry the levels."""
        if operation not in ("CREATE", "UPDATE"):
            return False
        if (group, resource) == ("", "pods"):
            return subresource in ("", "ephemeralcontainers")
        return not subresource and ((group, resource) in _TEMPLATES or (group, resource) == ("", "namespaces"))

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse, note, warn."""
        resource = request.resource.plural
        if resource == "namespaces":
            self._check_labels(request)
            return
        namespace = self._reader.get("", "namespaces", "", request.namespace)
        labels = ((namespace or {}).get("metadata") or {}).get("labels") or {}
        levels = {mode: labels.get(f"{_PREFIX}{mode}", "privileged") for mode in ("enforce", "audit", "warn")}
        if all(level not in ("baseline", "restricted") for level in levels.values()):
            return
        pod = _pod_of(request)
        if pod is None:
            return
        is_update = resource == "pods" and request.old is not None and not request.subresource
        if is_update and (request.old or {}).get("spec") == request.target.get("spec"):
            return
        self._judge(request, pod, levels, labels)

    def _judge(
        self, request: AdmissionRequest, pod: Object, levels: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        texts = {
            mode: ", ".join(map(str, violations(pod, level))) for mode, level in levels.items() if level in _CHECKS
        }
        if texts.get("audit"):
            version = labels.get(f"{_PREFIX}audit-version", "latest")
            text = f'would violate PodSecurity "{levels["audit"]}:{version}": {texts["audit"]}'
            request.actor.annotations[f"{_PREFIX}audit-violations"] = text
        if request.resource.plural == "pods":
            request.actor.annotations[f"{_PREFIX}enforce-policy"] = f"{levels['enforce']}:latest"
            if texts.get("enforce"):
                version = labels.get(f"{_PREFIX}enforce-version", "latest")
                why = f'violates PodSecurity "{levels["enforce"]}:{version}": {texts["enforce"]}'
                raise status.forbidden("pods", "", request.name, why)
        if texts.get("warn"):
            version = labels.get(f"{_PREFIX}warn-version", "latest")
            request.actor.warn(f'would violate PodSecurity "{levels["warn"]}:{version}": {texts["warn"]}')

    def _check_labels(self, request: AdmissionRequest) -> None:
        labels = (request.target["metadata"].get("labels")) or {}
        errors = []
        for mode in ("enforce", "audit", "warn"):
            level, version = labels.get(f"{_PREFIX}{mode}"), labels.get(f"{_PREFIX}{mode}-version")
            if level is not None and level not in _LEVELS:
                detail = f"must be one of {', '.join(_LEVELS)}"
                errors.append(invalid_value(f"metadata.labels[{_PREFIX}{mode}]", level, detail))
            if version is not None and not _VERSION.fullmatch(version):
                detail = 'must be "latest" or "v1.x"'
                errors.append(invalid_value(f"metadata.labels[{_PREFIX}{mode}-version]", version, detail))
        if errors and request.operation == "CREATE":
            raise status.invalid("Namespace", "", request.name, errors)
        if errors and request.old is not None:
            before = request.old["metadata"].get("labels") or {}
            if any(labels.get(key) != before.get(key) for key in labels if key.startswith(_PREFIX)):
                raise status.invalid("Namespace", "", request.name, errors)
        self._warn_of_running_pods(request, labels)

    def _warn_of_running_pods(self, request: AdmissionRequest, labels: Mapping[str, str]) -> None:
        """Who tightens a namespace hears which of its pods would not be let in now."""
        level = labels.get(f"{_PREFIX}enforce", "privileged")
        before = ((request.old or {}).get("metadata") or {}).get("labels") or {}
        if request.old is None or level not in _CHECKS or before.get(f"{_PREFIX}enforce") == level:
            return
        found = []
        for pod in self._reader.list("", "pods", request.name):
            if problems := violations(pod, level):
                found.append(f"{pod['metadata']['name']}: {', '.join(each.reason for each in problems)}")
        if found:
            version = labels.get(f"{_PREFIX}enforce-version", "latest")
            begin = f'existing pods in namespace "{request.name}" violate the new PodSecurity enforce level'
            request.actor.warn(f'{begin} "{level}:{version}"')
            for text in found[:10]:
                request.actor.warn(text)


def _pod_of(request: AdmissionRequest) -> Object | None:
    obj = request.target
    if request.resource.plural == "pods":
        return obj
    if request.resource.plural == "podtemplates":
        template = obj.get("template")
    elif request.resource.plural == "cronjobs":
        template = (((obj.get("spec") or {}).get("jobTemplate") or {}).get("spec") or {}).get("template")
    else:
        template = (obj.get("spec") or {}).get("template")
    return template if template and template.get("spec") else None
