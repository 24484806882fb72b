"""Whether a webhook or policy looks at a request: rules, selectors, equivalent resources.

Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#matching-requests-rules
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.api import objects, selectors
from windlass.kube.api.operations.environment import convert
from windlass.kube.api.reader import Object, Reader
from windlass.kube.api.registry import Registry
from windlass.kube.api.resource import Resource

_EXEMPT = frozenset(
    {
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
    }
)


def is_exempt(group: str, resource: str) -> bool:
    """Whether no extension may look at a resource: those by which extensions are repaired."""
    return (group, resource) in _EXEMPT


def _listed(found: Sequence[str], value: str) -> bool:
    return "*" in found or value in found


def _has_resource(found: Sequence[str], resource: str, subresource: str) -> bool:
    for each in found:
        name, _, part = each.partition("/")
        if name in ("*", resource) and (part == subresource or part == "*" or (each == "*" and not subresource)):
            return True
    return False


def rule_matches(
    rule: Mapping[str, Any],
    operation: str,
    group: str,
    version: str,
    resource: str,
    subresource: str,
    *,
    namespaced: bool,
) -> bool:
    """Whether one rule names an operation on a resource."""
    scope = rule.get("scope", "*")
    return (
        _listed(rule.get("operations") or (), operation)
        and _listed(rule.get("apiGroups") or (), group)
        and _listed(rule.get("apiVersions") or (), version)
        and _has_resource(rule.get("resources") or (), resource, subresource)
        and (scope == "*" or (scope == "Namespaced") == namespaced)
    )


def matched_resource(
    rules: Sequence[Mapping[str, Any]], policy: str, request: AdmissionRequest, registry: Registry
) -> Resource | None:
    """The version of the request's resource that some rule names; None where none does."""
    resource = request.resource
    # A namespace is judged as what it is in, so a rule for namespaced resources does not name it.
    namespaced = resource.namespaced
    candidates = [resource]
    if policy == "Equivalent":
        candidates += [
            each for each in registry.all() if each.storage.prefix == resource.storage.prefix and each is not resource
        ]
    for candidate in candidates:
        for rule in rules:
            names = rule.get("resourceNames")
            if names and request.name not in names:
                continue
            if rule_matches(
                rule,
                request.operation,
                candidate.group,
                candidate.version,
                candidate.plural,
                request.subresource,
                namespaced=namespaced,
            ):
                return candidate
    return None


async def seen(request: AdmissionRequest, seen_as: Resource) -> tuple[Object | None, Object | None]:
    """New and old object in the version in which an extension sees them."""
    if seen_as is request.resource:
        return request.obj, request.old
    found: list[Object | None] = []
    for obj in (request.obj, request.old):
        found.append(None if obj is None else await convert(seen_as, objects.copy(obj)))
    return found[0], found[1]


def namespace_of(request: AdmissionRequest, reader: Reader) -> Object | None:
    """The namespace that a namespace selector judges: the object's, or the object where it is one."""
    if (request.resource.group, request.resource.plural) == ("", "namespaces"):
        return request.obj if request.obj is not None else request.old
    if not request.resource.namespaced or not request.namespace:
        return None
    return reader.get("", "namespaces", "", request.namespace)


def selectors_match(holder: Mapping[str, Any], request: AdmissionRequest, reader: Reader) -> bool:
    """namespaceSelector and objectSelector."""
    selector = holder.get("namespaceSelector")
    if selector and (selector.get("matchLabels") or selector.get("matchExpressions")):
        namespace = namespace_of(request, reader)
        is_namespace = request.resource.plural == "namespaces" and request.resource.group == ""
        if namespace is None and (request.resource.namespaced or is_namespace):
            return False
        if namespace is not None and not selectors.matches_label_selector(
            selector, namespace["metadata"].get("labels") or {}
        ):
            return False
    selector = holder.get("objectSelector")
    if selector and (selector.get("matchLabels") or selector.get("matchExpressions")):
        return any(
            obj is not None
            and selectors.matches_label_selector(selector, (obj.get("metadata") or {}).get("labels") or {})
            for obj in (request.obj, request.old)
        )
    return True
