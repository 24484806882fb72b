"""The rules of a pod's spec, in upstream's words and order.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from windlass.kube.api import names, quantity, selectors
from windlass.kube.api.status import (
    FieldError,
    duplicate,
    field_not_found,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from windlass.kube.api.strategies.common import non_negative, one_of

Spec = Mapping[str, Any]

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_NODE_OPERATORS = ("DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn")
_ACTIONS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_STANDARD = frozenset({"cpu", "memory", "ephemeral-storage", "pods"})
_FIELDS = frozenset(
    {
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    }
)
_VOLUME_SOURCES = frozenset(
    [
        "hostPath",
        "emptyDir",
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "gitRepo",
        "secret",
        "nfs",
        "iscsi",
        "glusterfs",
        "persistentVolumeClaim",
        "rbd",
        "flexVolume",
        "cinder",
        "cephfs",
        "flocker",
        "downwardAPI",
        "fc",
        "azureFile",
        "configMap",
        "vsphereVolume",
        "quobyte",
        "azureDisk",
        "photonPersistentDisk",
        "projected",
        "portworxVolume",
        "scaleIO",
        "storageos",
        "csi",
        "ephemeral",
        "image",
    ]
)


def validate_pod_spec(
    spec: Spec, path: str = "spec", *, template: bool = False, claims: Iterable[str] = ()
) -> list[FieldError]:
    """All rules of a spec; `claims` are volumes that its pods get besides those that stand there."""
    errors: list[FieldError] = []
    volumes = _validate_volumes(spec.get("volumes") or (), f"{path}.volumes", errors)
    volumes |= set(claims)
    containers = spec.get("containers")
    seen: set[str] = set()
    if not containers:
        errors.append(required(f"{path}.containers"))
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(kind) or ()):
            where = f"{path}.{kind}[{index}]"
            _validate_container(container, where, kind, volumes, seen, errors)
    _validate_ports(containers or (), f"{path}.containers", errors)
    errors += one_of(spec.get("restartPolicy"), _RESTART_POLICIES, f"{path}.restartPolicy")
    errors += one_of(spec.get("dnsPolicy"), _DNS_POLICIES, f"{path}.dnsPolicy")
    if spec.get("dnsPolicy") == "None" and not (spec.get("dnsConfig") or {}).get("nameservers"):
        detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        errors.append(required(f"{path}.dnsConfig.nameservers", detail))
    if (labels := spec.get("nodeSelector")) is not None:
        errors += names.validate_labels(labels, f"{path}.nodeSelector")
    if account := spec.get("serviceAccountName"):
        errors += [
            invalid_value(f"{path}.serviceAccountName", account, text) for text in names.dns1123_subdomain(account)
        ]
    if node := spec.get("nodeName"):
        errors += [invalid_value(f"{path}.nodeName", node, text) for text in names.dns1123_subdomain(node)]
    if (seconds := spec.get("activeDeadlineSeconds")) is not None and not 1 <= seconds <= 2**31 - 1:
        errors.append(
            invalid_value(f"{path}.activeDeadlineSeconds", seconds, "must be between 1 and 2147483647, inclusive")
        )
    errors += non_negative(spec.get("terminationGracePeriodSeconds"), f"{path}.terminationGracePeriodSeconds")
    for name in ("hostname", "subdomain"):
        if text := spec.get(name):
            errors += [invalid_value(f"{path}.{name}", text, problem) for problem in names.dns1123_label(text)]
    for index, toleration in enumerate(spec.get("tolerations") or ()):
        _validate_toleration(toleration, f"{path}.tolerations[{index}]", errors)
    if affinity := spec.get("affinity"):
        _validate_affinity(affinity, f"{path}.affinity", errors)
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        _validate_spread(constraint, f"{path}.topologySpreadConstraints[{index}]", errors)
    for field in ("priorityClassName", "runtimeClassName"):
        if text := spec.get(field):
            errors += [invalid_value(f"{path}.{field}", text, problem) for problem in names.dns1123_subdomain(text)]
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        text = gate.get("conditionType", "")
        errors += [
            invalid_value(f"{path}.readinessGates[{index}].conditionType", text, problem)
            for problem in names.qualified_name(text)
        ]
    _validate_security(spec, path, errors)
    if template and spec.get("ephemeralContainers"):
        errors.append(
            forbidden_field(f"{path}.ephemeralContainers", "ephemeral containers not allowed in pod template")
        )
    return errors


# -- containers


def _validate_container(
    container: Spec, path: str, kind: str, volumes: set[str], seen: set[str], errors: list[FieldError]
) -> None:
    name = container.get("name") or ""
    if not name:
        errors.append(required(f"{path}.name"))
    else:
        errors += [invalid_value(f"{path}.name", name, text) for text in names.dns1123_label(name)]
        if name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
    image = container.get("image") or ""
    if not image:
        errors.append(required(f"{path}.image"))
    elif image != image.strip():
        errors.append(invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace"))
    errors += one_of(container.get("imagePullPolicy"), _PULL_POLICIES, f"{path}.imagePullPolicy", needed=True)
    names_seen: set[str] = set()
    for index, port in enumerate(container.get("ports") or ()):
        _validate_port(port, f"{path}.ports[{index}]", names_seen, errors)
    for index, variable in enumerate(container.get("env") or ()):
        _validate_variable(variable, f"{path}.env[{index}]", errors)
    for index, source in enumerate(container.get("envFrom") or ()):
        _validate_env_from(source, f"{path}.envFrom[{index}]", errors)
    mount_paths: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        _validate_mount(mount, f"{path}.volumeMounts[{index}]", volumes, mount_paths, errors)
    restartable = container.get("restartPolicy") == "Always"
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if (found := container.get(probe)) is not None:
            if kind == "initContainers" and not restartable:
                errors.append(
                    forbidden_field(
                        f"{path}.{probe}", "may not be set for init containers without restartPolicy=Always"
                    )
                )
            _validate_probe(found, f"{path}.{probe}", errors)
            if probe != "readinessProbe" and found.get("successThreshold", 1) != 1:
                errors.append(invalid_value(f"{path}.{probe}.successThreshold", found["successThreshold"], "must be 1"))
    if (lifecycle := container.get("lifecycle")) is not None:
        if kind == "initContainers" and not restartable:
            errors.append(
                forbidden_field(f"{path}.lifecycle", "may not be set for init containers without restartPolicy=Always")
            )
        for hook in ("postStart", "preStop"):
            if (handler := lifecycle.get(hook)) is not None:
                _validate_handler(handler, f"{path}.lifecycle.{hook}", errors)
    errors += one_of(
        container.get("terminationMessagePolicy"), ("File", "FallbackToLogsOnError"), f"{path}.terminationMessagePolicy"
    )
    validate_resources(container.get("resources") or {}, f"{path}.resources", errors)
    context = container.get("securityContext") or {}
    if context.get("privileged") and context.get("allowPrivilegeEscalation") is False:
        errors.append(
            invalid_value(
                f"{path}.securityContext",
                context,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            )
        )
    for field in ("runAsUser", "runAsGroup"):
        if (number := context.get(field)) is not None and not 0 <= number <= 2**31 - 1:
            detail = "must be between 0 and 2147483647, inclusive"
            errors.append(invalid_value(f"{path}.securityContext.{field}", number, detail))


def _validate_port(port: Spec, path: str, seen: set[str], errors: list[FieldError]) -> None:
    if name := port.get("name"):
        if problems := names.port_name(name):
            errors += [invalid_value(f"{path}.name", name, text) for text in problems]
        elif name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
    number = port.get("containerPort")
    if not number:
        errors.append(required(f"{path}.containerPort"))
    else:
        errors += [invalid_value(f"{path}.containerPort", number, text) for text in names.port_number(number)]
    if host := port.get("hostPort"):
        errors += [invalid_value(f"{path}.hostPort", host, text) for text in names.port_number(host)]
    errors += one_of(port.get("protocol"), _PROTOCOLS, f"{path}.protocol")


def _validate_ports(containers: Any, path: str, errors: list[FieldError]) -> None:
    """No two containers may ask for the same port of the host."""
    seen: set[tuple[Any, ...]] = set()
    for index, container in enumerate(containers):
        for number, port in enumerate(container.get("ports") or ()):
            host = port.get("hostPort")
            if not host:
                continue
            key = (port.get("protocol"), port.get("hostIP", ""), host)
            if key in seen:
                shown = f"{key[0]}/{key[1]}/{key[2]}" if key[1] else f"{key[0]}//{key[2]}"
                errors.append(duplicate(f"{path}[{index}].ports[{number}].hostPort", shown))
            seen.add(key)


def _validate_variable(variable: Spec, path: str, errors: list[FieldError]) -> None:
    name = variable.get("name") or ""
    if not name:
        errors.append(required(f"{path}.name"))
    else:
        errors += [invalid_value(f"{path}.name", name, text) for text in names.environment_variable(name)]
    source = variable.get("valueFrom")
    if source is None:
        return
    if variable.get("value"):
        errors.append(invalid_value(f"{path}.valueFrom", "", "may not be specified when `value` is not empty"))
    given = [
        key
        for key in ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
        if source.get(key)
    ]
    if not given:
        detail = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        )
        errors.append(invalid_value(f"{path}.valueFrom", "", detail))
    elif len(given) > 1:
        errors.append(invalid_value(f"{path}.valueFrom", "", "may not have more than one field specified at a time"))
    if reference := source.get("fieldRef"):
        _validate_field_reference(reference, f"{path}.valueFrom.fieldRef", errors)
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if reference := source.get(kind):
            if not reference.get("name"):
                errors.append(required(f"{path}.valueFrom.{kind}.name"))
            key = reference.get("key") or ""
            if not key:
                errors.append(required(f"{path}.valueFrom.{kind}.key"))
            else:
                errors += [invalid_value(f"{path}.valueFrom.{kind}.key", key, text) for text in names.config_key(key)]


def _validate_field_reference(reference: Spec, path: str, errors: list[FieldError]) -> None:
    field = reference.get("fieldPath") or ""
    if not reference.get("apiVersion"):
        errors.append(required(f"{path}.apiVersion"))
    if not field:
        errors.append(required(f"{path}.fieldPath"))
        return
    base = field.partition("[")[0]
    if field in _FIELDS or base in ("metadata.annotations", "metadata.labels"):
        return
    errors.append(
        not_supported(f"{path}.fieldPath", field, sorted(_FIELDS | {"metadata.annotations", "metadata.labels"}))
        if base.startswith(("metadata.", "spec.", "status."))
        else invalid_value(
            f"{path}.fieldPath", field, f"error converting fieldPath: field label not supported: {field}"
        )
    )


def _validate_env_from(source: Spec, path: str, errors: list[FieldError]) -> None:
    given = [key for key in ("configMapRef", "secretRef") if source.get(key)]
    if not given:
        errors.append(invalid_value(path, "", "must specify one of: `configMapRef` or `secretRef`"))
    elif len(given) > 1:
        errors.append(invalid_value(path, "", "may not have more than one field specified at a time"))
    for key in given:
        name = source[key].get("name") or ""
        if not name:
            errors.append(required(f"{path}.{key}.name"))
        else:
            errors += [invalid_value(f"{path}.{key}.name", name, text) for text in names.dns1123_subdomain(name)]


def _validate_mount(mount: Spec, path: str, volumes: set[str], seen: set[str], errors: list[FieldError]) -> None:
    name = mount.get("name") or ""
    if not name:
        errors.append(required(f"{path}.name"))
    elif name not in volumes:
        errors.append(field_not_found(f"{path}.name", name))
    where = mount.get("mountPath") or ""
    if not where:
        errors.append(required(f"{path}.mountPath"))
    elif where in seen:
        errors.append(invalid_value(f"{path}.mountPath", where, "must be unique"))
    seen.add(where)
    if sub := mount.get("subPath"):
        errors += [invalid_value(f"{path}.subPath", sub, text) for text in names.relative_path(sub)]
    if expression := mount.get("subPathExpr"):
        if sub:
            errors.append(
                invalid_value(f"{path}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
            )
        errors += [invalid_value(f"{path}.subPathExpr", expression, text) for text in names.relative_path(expression)]


def _validate_probe(probe: Spec, path: str, errors: list[FieldError]) -> None:
    _validate_handler(probe, path, errors)
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        errors += non_negative(probe.get(name), f"{path}.{name}")


def _validate_handler(handler: Spec, path: str, errors: list[FieldError]) -> None:
    given = [name for name in _ACTIONS if handler.get(name) is not None]
    if not given:
        errors.append(required(path, "must specify a handler type"))
    for name in given[1:]:
        errors.append(forbidden_field(f"{path}.{name}", "may not specify more than 1 handler type"))
    if (action := handler.get("exec")) is not None and not action.get("command"):
        errors.append(required(f"{path}.exec.command"))
    for name in ("httpGet", "tcpSocket", "grpc"):
        if (action := handler.get(name)) is None:
            continue
        port = action.get("port")
        if isinstance(port, int):
            errors += [invalid_value(f"{path}.{name}.port", port, text) for text in names.port_number(port)]
        elif isinstance(port, str):
            errors += [invalid_value(f"{path}.{name}.port", port, text) for text in names.port_name(port)]
        if name == "httpGet":
            if not action.get("path"):
                errors.append(required(f"{path}.httpGet.path"))
            errors += one_of(action.get("scheme"), ("HTTP", "HTTPS"), f"{path}.httpGet.scheme")


def validate_resources(resources: Spec, path: str, errors: list[FieldError]) -> None:
    """Requests and limits: known names, no negative amounts, no request above its limit."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for kind, found in (("limits", limits), ("requests", requests)):
        for name, text in found.items():
            where = f"{path}.{kind}[{name}]"
            _validate_resource_name(name, where, errors)
            amount = quantity.parse(text)
            if amount.nano < 0:
                errors.append(invalid_value(where, text, "must be greater than or equal to 0"))
            if "/" in name and amount.nano % 10**9:
                errors.append(invalid_value(where, text, "must be an integer"))
    for name, text in requests.items():
        limit = limits.get(name)
        if limit is not None:
            if quantity.parse(text).nano > quantity.parse(limit).nano:
                detail = f"must be less than or equal to {name} limit of {limit}"
                errors.append(invalid_value(f"{path}.requests", text, detail))
        elif "/" in name or name.startswith("hugepages-"):
            errors.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))


def _validate_resource_name(name: str, path: str, errors: list[FieldError]) -> None:
    if problems := names.qualified_name(name):
        errors += [invalid_value(path, name, text) for text in problems]
    elif "/" not in name and name not in _STANDARD and not name.startswith("hugepages-"):
        errors.append(invalid_value(path, name, "must be a standard resource for containers"))


# -- volumes


def _validate_volumes(volumes: Any, path: str, errors: list[FieldError]) -> set[str]:
    found: set[str] = set()
    for index, volume in enumerate(volumes):
        where = f"{path}[{index}]"
        name = volume.get("name") or ""
        if not name:
            errors.append(required(f"{where}.name"))
        else:
            errors += [invalid_value(f"{where}.name", name, text) for text in names.dns1123_label(name)]
            if name in found:
                errors.append(duplicate(f"{where}.name", name))
            found.add(name)
        given = [key for key in volume if key in _VOLUME_SOURCES]
        if not given:
            errors.append(required(where, "must specify a volume type"))
        for key in given[1:]:
            errors.append(forbidden_field(f"{where}.{key}", "may not specify more than 1 volume type"))
        for key in given[:1]:
            _validate_source(key, volume[key], f"{where}.{key}", errors)
    return found


_HOST_PATHS = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)


def _validate_source(kind: str, source: Spec, path: str, errors: list[FieldError]) -> None:
    if kind == "hostPath":
        where = source.get("path") or ""
        if not where:
            errors.append(required(f"{path}.path"))
        elif ".." in where.split("/"):
            errors.append(invalid_value(f"{path}.path", where, "must not contain '..'"))
        if source.get("type") not in (None, *_HOST_PATHS):
            errors.append(not_supported(f"{path}.type", source["type"], _HOST_PATHS))
    elif kind == "secret":
        if not source.get("secretName"):
            errors.append(required(f"{path}.secretName"))
        _validate_items(source.get("items") or (), f"{path}.items", errors)
    elif kind == "configMap":
        if not source.get("name"):
            errors.append(required(f"{path}.name"))
        _validate_items(source.get("items") or (), f"{path}.items", errors)
    elif kind == "persistentVolumeClaim":
        if not source.get("claimName"):
            errors.append(required(f"{path}.claimName"))
    elif kind == "nfs":
        for name in ("server", "path"):
            if not source.get(name):
                errors.append(required(f"{path}.{name}"))
    elif kind == "csi" and not source.get("driver"):
        errors.append(required(f"{path}.driver"))
    elif kind == "emptyDir":
        size = source.get("sizeLimit")
        if size is not None and quantity.parse(size).nano < 0:
            errors.append(forbidden_field(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity"))
    elif kind == "projected":
        for index, each in enumerate(source.get("sources") or ()):
            token = each.get("serviceAccountToken")
            where = f"{path}.sources[{index}].serviceAccountToken"
            if token is not None:
                if token.get("expirationSeconds", 3600) < 600:
                    detail = "may not specify a duration less than 10 minutes"
                    errors.append(invalid_value(f"{where}.expirationSeconds", token["expirationSeconds"], detail))
                if not token.get("path"):
                    errors.append(required(f"{where}.path"))
    if (mode := source.get("defaultMode")) is not None and not 0 <= mode <= 0o777:
        errors.append(
            invalid_value(f"{path}.defaultMode", mode, "must be a number between 0 and 0777 (octal), both inclusive")
        )


def _validate_items(items: Any, path: str, errors: list[FieldError]) -> None:
    for index, item in enumerate(items):
        if not item.get("key"):
            errors.append(required(f"{path}[{index}].key"))
        where = item.get("path") or ""
        if not where:
            errors.append(required(f"{path}[{index}].path"))
        else:
            errors += [invalid_value(f"{path}[{index}].path", where, text) for text in names.relative_path(where)]


# -- placement


def _validate_toleration(toleration: Spec, path: str, errors: list[FieldError]) -> None:
    key, operator = toleration.get("key") or "", toleration.get("operator") or "Equal"
    if key:
        errors += [invalid_value(f"{path}.key", key, text) for text in names.qualified_name(key)]
    elif operator != "Exists":
        errors.append(
            invalid_value(
                f"{path}.operator",
                toleration.get("operator") or "",
                'operator must be Exists when `key` is empty, which means "match all values and all keys"',
            )
        )
    if operator == "Exists":
        if toleration.get("value"):
            errors.append(
                invalid_value(
                    f"{path}.operator", toleration.get("value"), "value must be empty when `operator` is 'Exists'"
                )
            )
    elif operator not in ("Equal", "Gt", "Lt"):
        errors.append(not_supported(f"{path}.operator", operator, ["Equal", "Exists"]))
    if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
        detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errors.append(invalid_value(f"{path}.effect", toleration.get("effect") or "", detail))
    if effect := toleration.get("effect"):
        errors += one_of(effect, _EFFECTS, f"{path}.effect")


def _validate_affinity(affinity: Spec, path: str, errors: list[FieldError]) -> None:
    node = affinity.get("nodeAffinity") or {}
    hard = node.get("requiredDuringSchedulingIgnoredDuringExecution")
    if hard is not None:
        where = f"{path}.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
        terms = hard.get("nodeSelectorTerms")
        if not terms:
            errors.append(required(f"{where}.nodeSelectorTerms", "must have at least one node selector term"))
        for index, term in enumerate(terms or ()):
            _validate_node_term(term, f"{where}.nodeSelectorTerms[{index}]", errors)
    for index, each in enumerate(node.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        where = f"{path}.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
        _validate_weight(each, where, errors)
        _validate_node_term(each.get("preference") or {}, f"{where}.preference", errors)
    for kind in ("podAffinity", "podAntiAffinity"):
        found = affinity.get(kind) or {}
        where = f"{path}.{kind}.requiredDuringSchedulingIgnoredDuringExecution"
        for index, term in enumerate(found.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
            _validate_pod_term(term, f"{where}[{index}]", errors)
        where = f"{path}.{kind}.preferredDuringSchedulingIgnoredDuringExecution"
        for index, each in enumerate(found.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
            _validate_weight(each, f"{where}[{index}]", errors)
            _validate_pod_term(each.get("podAffinityTerm") or {}, f"{where}[{index}].podAffinityTerm", errors)


def _validate_weight(each: Spec, path: str, errors: list[FieldError]) -> None:
    if not 1 <= each.get("weight", 0) <= 100:
        errors.append(invalid_value(f"{path}.weight", each.get("weight", 0), "must be in the range 1-100"))


def _validate_node_term(term: Spec, path: str, errors: list[FieldError]) -> None:
    for field in ("matchExpressions", "matchFields"):
        for index, expression in enumerate(term.get(field) or ()):
            where = f"{path}.{field}[{index}]"
            operator, values = expression.get("operator"), expression.get("values") or ()
            if operator in ("In", "NotIn"):
                if not values:
                    errors.append(required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
            elif operator in ("Exists", "DoesNotExist"):
                if values:
                    detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                    errors.append(forbidden_field(f"{where}.values", detail))
            elif operator in ("Gt", "Lt"):
                if len(values) != 1:
                    detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                    errors.append(required(f"{where}.values", detail))
            else:
                errors.append(invalid_value(f"{where}.operator", operator or "", "not a valid selector operator"))
            key = expression.get("key") or ""
            if field == "matchExpressions":
                errors += [invalid_value(f"{where}.key", key, text) for text in names.qualified_name(key)]
            elif key != "metadata.name":
                errors.append(invalid_value(f"{where}.key", key, "not a valid field selector key"))


def _validate_pod_term(term: Spec, path: str, errors: list[FieldError]) -> None:
    if (selector := term.get("labelSelector")) is not None:
        errors += selectors.validate_label_selector(selector, f"{path}.labelSelector")
    key = term.get("topologyKey") or ""
    if not key:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    else:
        errors += [invalid_value(f"{path}.topologyKey", key, text) for text in names.qualified_name(key)]


def _validate_spread(constraint: Spec, path: str, errors: list[FieldError]) -> None:
    if constraint.get("maxSkew", 0) <= 0:
        errors.append(invalid_value(f"{path}.maxSkew", constraint.get("maxSkew", 0), "must be greater than zero"))
    if not constraint.get("topologyKey"):
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    errors += one_of(
        constraint.get("whenUnsatisfiable"), ("DoNotSchedule", "ScheduleAnyway"), f"{path}.whenUnsatisfiable"
    )
    if (selector := constraint.get("labelSelector")) is not None:
        errors += selectors.validate_label_selector(selector, f"{path}.labelSelector")


def _validate_security(spec: Spec, path: str, errors: list[FieldError]) -> None:
    context = spec.get("securityContext") or {}
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        number = context.get(name)
        if number is not None and not 0 <= number <= 2**31 - 1:
            errors.append(
                invalid_value(f"{path}.securityContext.{name}", number, "must be between 0 and 2147483647, inclusive")
            )
    seen: set[str] = set()
    for index, sysctl in enumerate(context.get("sysctls") or ()):
        where = f"{path}.securityContext.sysctls[{index}].name"
        name = sysctl.get("name") or ""
        if not name:
            errors.append(required(where))
        elif not all(part and all(c.isalnum() or c in "-_/" for c in part) for part in name.split(".")):
            detail = (
                "must have at most 253 characters and match regex "
                "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            )
            errors.append(invalid_value(where, name, detail))
        elif name in seen:
            errors.append(duplicate(where, name))
        seen.add(name)
