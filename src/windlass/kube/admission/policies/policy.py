"""What both kinds of policy share: bindings, parameters, variables, conditions.

A policy is compiled once for each of its revisions. A binding brings it to life: for each binding that matches, and
each object of parameters that the binding names, its expressions are evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.admission.chain import Plugin
from windlass.kube.admission.expressions import Conditions, environment, variables
from windlass.kube.admission.matching import is_exempt, matched_resource, namespace_of, seen, selectors_match
from windlass.kube.api import objects, selectors, status
from windlass.kube.api.identity import Authorizer
from windlass.kube.api.reader import Object, Reader
from windlass.kube.api.registry import Registry
from windlass.kube.api.resource import Resource
from windlass.kube.cel import CompileError, Environment, EvaluationError, Program
from windlass.kube.cel.types import DYN, Type

_GROUP = "admissionregistration.k8s.io"


class Compiled(NamedTuple):
    """A policy's expressions. `problem` says why there are none."""

    obj: Object
    variables: Sequence[tuple[str, Program]]
    conditions: Conditions | None
    body: Any
    problem: str = ""


class Match(NamedTuple):
    """A policy that looks at a request, by one binding, with one object of parameters (None without any)."""

    compiled: Compiled
    binding: Object
    params: Object | None
    values: dict[str, Any]


class Policies(Plugin):
    """Finds the policies that look at a request."""

    plural = ""
    bindings = ""
    structs: Mapping[str, Type | None] = {}

    def __init__(self, reader: Reader, registry: Registry, authorizer: Authorizer) -> None:
        self._reader = reader
        self._registry = registry
        self._authorizer = authorizer
        self._compiled: dict[str, Compiled] | None = None
        reader.subscribe(_GROUP, self.plural, lambda _event, _obj: self._forget())

    def _forget(self) -> None:
        self._compiled = None

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """Everything but what extensions are repaired by."""
        return not is_exempt(group, resource)

    def compile_body(self, spec: Mapping[str, Any], found: Environment) -> Any:
        """What the kind evaluates. Raises CompileError."""
        raise NotImplementedError

    def _policies(self) -> Mapping[str, Compiled]:
        if self._compiled is None:
            self._compiled = {
                objects.name_of(each): self.compile(each) for each in self._reader.list(_GROUP, self.plural)
            }
        return self._compiled

    def compile(self, obj: Object) -> Compiled:
        """Compile a policy."""
        spec = obj.get("spec") or {}
        types: dict[str, Type] = {"params": DYN, "namespaceObject": DYN}
        found = environment(types, self.structs)
        programs: list[tuple[str, Program]] = []
        try:
            conditions = Conditions(spec.get("matchConditions") or (), found)
            known: dict[str, Type] = {}
            for each in spec.get("variables") or ():
                inner = environment({**types, "variables": _variables_type(known)}, self.structs)
                program = inner.compile(each["expression"])
                known[each["name"]] = program.result_type
                programs.append((each["name"], program))
            found = environment({**types, "variables": _variables_type(known)}, self.structs)
            return Compiled(obj, programs, conditions, self.compile_body(spec, found))
        except CompileError as error:
            return Compiled(obj, (), None, None, f"compilation error: {error}")

    async def matches(self, request: AdmissionRequest) -> list[Match]:
        """All policies that look at a request.

        Raises:
            StatusError: one cannot be evaluated and its failurePolicy is Fail, or parameters are missing.
        """
        policies = self._policies()
        found: list[Match] = []
        if not policies:
            return found
        for binding in sorted(self._reader.list(_GROUP, self.bindings), key=objects.name_of):
            spec = binding.get("spec") or {}
            compiled = policies.get(spec.get("policyName", ""))
            if compiled is None:
                continue
            policy = compiled.obj["spec"]
            seen_as = self._constrained(policy.get("matchConstraints") or {}, request)
            if seen_as is None:
                continue
            resources = spec.get("matchResources")
            if resources and self._constrained(resources, request, optional=True) is None:
                continue
            if compiled.problem:
                self._failed(compiled, binding, request, compiled.problem)
                continue
            obj, old = await seen(request, seen_as)
            for params in self._params(policy, spec, request):
                values = self._values(compiled, request, seen_as, obj, old, params)
                try:
                    if compiled.conditions is not None and not compiled.conditions.hold(values):
                        continue
                except EvaluationError as error:
                    self._failed(compiled, binding, request, str(error))
                    continue
                found.append(Match(compiled, binding, params, values))
        return found

    def _values(
        self,
        compiled: Compiled,
        request: AdmissionRequest,
        seen_as: Resource,
        obj: Object | None,
        old: Object | None,
        params: Object | None,
    ) -> dict[str, Any]:
        values = variables(request, seen_as, obj, old, self._authorizer)
        namespace = namespace_of(request, self._reader)
        values["params"] = params
        values["namespaceObject"] = namespace
        values["variables"] = _Variables(compiled.variables, values)
        return values

    def _constrained(
        self, constraints: Mapping[str, Any], request: AdmissionRequest, *, optional: bool = False
    ) -> Resource | None:
        policy = constraints.get("matchPolicy", "Equivalent")
        if not selectors_match(constraints, request, self._reader):
            return None
        if matched_resource(constraints.get("excludeResourceRules") or (), policy, request, self._registry):
            return None
        rules = constraints.get("resourceRules") or ()
        if not rules:
            return request.resource if optional else None
        return matched_resource(rules, policy, request, self._registry)

    def _params(
        self, policy: Mapping[str, Any], binding: Mapping[str, Any], request: AdmissionRequest
    ) -> Iterator[Object | None]:
        kind, reference = policy.get("paramKind"), binding.get("paramRef")
        if kind is None or reference is None:
            yield None
            return
        group, _, version = str(kind.get("apiVersion", "")).rpartition("/")
        resource = self._registry.by_kind(group, version, str(kind.get("kind", "")))
        found: list[Object] = []
        if resource is not None:
            namespace = (reference.get("namespace") or request.namespace) if resource.namespaced else ""
            if reference.get("name"):
                one = self._reader.get(resource.group, resource.plural, namespace, reference["name"])
                found = [one] if one is not None else []
            else:
                found = [
                    each
                    for each in self._reader.list(resource.group, resource.plural, namespace)
                    if selectors.matches_label_selector(reference.get("selector"), each["metadata"].get("labels") or {})
                ]
        if not found and reference.get("parameterNotFoundAction") == "Deny":
            raise status.forbidden(
                request.resource.plural,
                request.resource.group,
                request.name,
                "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction",
            )
        yield from found

    def _failed(self, compiled: Compiled, binding: Object, request: AdmissionRequest, why: str) -> None:
        """A policy cannot say anything. Raises StatusError where that refuses."""
        if (compiled.obj["spec"].get("failurePolicy") or "Fail") == "Fail":
            raise refusal(compiled, binding, request, why, "Invalid")


def refusal(
    compiled: Compiled, binding: Object, request: AdmissionRequest, why: str, reason: str
) -> status.StatusError:
    """What a policy that refuses answers."""
    names = f"'{objects.name_of(compiled.obj)}' with binding '{objects.name_of(binding)}'"
    text = f"{compiled.obj['kind']} {names} denied request: {why}"
    code = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}.get(reason, 422)
    error = status.forbidden(request.resource.plural, request.resource.group, request.name, text)
    error.code, error.reason = code, reason
    return error


def _variables_type(known: Mapping[str, Type]) -> Type:
    return Type("kubernetes.variables", fields={name: (name, type) for name, type in known.items()})


class _Variables(dict[str, Any]):
    """`variables.x`: evaluated when they are first needed."""

    def __init__(self, programs: Sequence[tuple[str, Program]], values: dict[str, Any]) -> None:
        super().__init__()
        self._programs = dict(programs)
        self._values = values

    def get(self, name: str, default: Any = None) -> Any:
        """See `dict.get`."""
        if name not in self and name in self._programs:
            self[name] = self._programs[name].evaluate(self._values)
        return super().get(name, default)
