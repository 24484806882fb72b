"""CEL over a request under admission: its variables, and conditions of webhooks and policies.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#validation-expression
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.api.identity import MASTERS, Attributes, Authorizer, User, Verdict
from windlass.kube.api.reader import Object
from windlass.kube.api.resource import Resource
from windlass.kube.cel import Environment, EvaluationError, Program
from windlass.kube.cel.functions import Table, add
from windlass.kube.cel.types import BOOL, DYN, Type
from windlass.kube.cel.values import Opaque

_AUTHORIZER, _PATH, _GROUP, _RESOURCE, _DECISION = (
    "kubernetes.authorization.Authorizer",
    "kubernetes.authorization.PathCheck",
    "kubernetes.authorization.GroupCheck",
    "kubernetes.authorization.ResourceCheck",
    "kubernetes.authorization.Decision",
)


def variables(
    request: AdmissionRequest, seen_as: Resource, obj: Object | None, old: Object | None, authorizer: Authorizer
) -> dict[str, Any]:
    """The variables of an expression; `obj` and `old` in the version in which the extension sees them."""
    return {
        "object": obj,
        "oldObject": old,
        "request": review_request(request, seen_as, None, None),
        "authorizer": Opaque(_AUTHORIZER, (authorizer, request.user, {})),
    }


def review_request(
    request: AdmissionRequest, seen_as: Resource, obj: Object | None, old: Object | None
) -> dict[str, Any]:
    """The AdmissionRequest of admission.k8s.io/v1."""
    resource = request.resource
    found: dict[str, Any] = {
        "uid": request.uid,
        "kind": {"group": seen_as.group, "version": seen_as.version, "kind": seen_as.kind},
        "resource": {"group": seen_as.group, "version": seen_as.version, "resource": seen_as.plural},
        "requestKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "requestResource": {"group": resource.group, "version": resource.version, "resource": resource.plural},
        "operation": request.operation,
        "userInfo": request.user.to_json(),
        "dryRun": request.actor.dry_run,
        "options": dict(request.actor.options) or None,
        "object": obj,
        "oldObject": old,
    }
    if request.subresource:
        found["subResource"] = found["requestSubResource"] = request.subresource
    if request.name:
        found["name"] = request.name
    if request.namespace:
        found["namespace"] = request.namespace
    return found


def _attributes(found: Mapping[str, Any], user: User) -> Attributes:
    return Attributes(
        user,
        found.get("verb", ""),
        found.get("group", ""),
        "*",
        found.get("resource", ""),
        found.get("subresource", ""),
        found.get("namespace", ""),
        found.get("name", ""),
        found.get("path", ""),
        "path" not in found,
    )


def _check(value: Opaque, verb: str) -> Opaque:
    authorizer, user, found = value.value
    attributes = _attributes({**found, "verb": verb}, user)
    if MASTERS in user.groups:
        return Opaque(_DECISION, (True, ""))
    verdict = authorizer.authorize(attributes)
    if not isinstance(verdict, Verdict):
        verdict.close()
        raise EvaluationError("the authorizer cannot be asked from an expression")
    return Opaque(_DECISION, (verdict.allowed, verdict.reason))


def _with(value: Opaque, kind: str, **more: str) -> Opaque:
    authorizer, user, found = value.value
    return Opaque(kind, (authorizer, user, {**found, **more}))


@functools.cache
def _functions() -> Table:
    table: Table = {}
    on: Callable[..., None] = functools.partial(add, table)
    on(f"{_AUTHORIZER}.path(string) -> {_PATH}", lambda a, path: _with(a, _PATH, path=path))
    on(f"{_PATH}.check(string) -> {_DECISION}", _check)
    on(f"{_AUTHORIZER}.group(string) -> {_GROUP}", lambda a, group: _with(a, _GROUP, group=group))
    on(f"{_AUTHORIZER}.serviceAccount(string, string) -> {_AUTHORIZER}", _as_account)
    on(f"{_GROUP}.resource(string) -> {_RESOURCE}", lambda a, name: _with(a, _RESOURCE, resource=name))
    on(f"{_RESOURCE}.subresource(string) -> {_RESOURCE}", lambda a, name: _with(a, _RESOURCE, subresource=name))
    on(f"{_RESOURCE}.namespace(string) -> {_RESOURCE}", lambda a, name: _with(a, _RESOURCE, namespace=name))
    on(f"{_RESOURCE}.name(string) -> {_RESOURCE}", lambda a, name: _with(a, _RESOURCE, name=name))
    on(f"{_RESOURCE}.check(string) -> {_DECISION}", _check)
    on(f"{_DECISION}.allowed() -> bool", lambda d: d.value[0])
    on(f"{_DECISION}.reason() -> string", lambda d: d.value[1])
    on(f"{_DECISION}.errored() -> bool", lambda d: False)
    on(f"{_DECISION}.error() -> string", lambda d: "")
    return table


def _as_account(value: Opaque, namespace: str, name: str) -> Opaque:
    authorizer, _, found = value.value
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return Opaque(_AUTHORIZER, (authorizer, User(f"system:serviceaccount:{namespace}:{name}", groups=groups), found))


_TYPES: Mapping[str, Type] = {
    "object": DYN,
    "oldObject": DYN,
    "request": DYN,
    "authorizer": Type(_AUTHORIZER),
}


def environment(
    more: Mapping[str, Type] | None = None, structs: Mapping[str, Type | None] | None = None
) -> Environment:
    """The environment of admission's expressions."""
    return Environment({**_TYPES, **(more or {})}, functions=_functions(), structs=structs)


class Conditions:
    """matchConditions: an extension looks at a request only where all hold."""

    def __init__(self, conditions: Sequence[Mapping[str, Any]], found: Environment | None = None) -> None:
        """Raises CompileError."""
        found = found or environment()
        self._programs: list[tuple[str, Program]] = [
            (each["name"], found.compile(each["expression"], BOOL)) for each in conditions
        ]

    def hold(self, values: Mapping[str, Any]) -> bool:
        """Whether all do; one that is false decides, whatever others fail at.

        Raises:
            EvaluationError: one fails and none is false.
        """
        failure: EvaluationError | None = None
        for name, program in self._programs:
            try:
                if program.evaluate(values) is not True:
                    return False
            except EvaluationError as error:
                failure = EvaluationError(f"expression {program.source!r} of {name} resulted in error: {error}")
        if failure is not None:
            raise failure
        return True
