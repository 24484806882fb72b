"""MutatingAdmissionPolicy: expressions that make a patch, or an object to apply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.admission.chain import Answer
from windlass.kube.admission.policies.policy import Match, Policies
from windlass.kube.api import objects, status
from windlass.kube.api.apply import typed
from windlass.kube.api.patch import json_patch
from windlass.kube.api.reader import Object
from windlass.kube.cel import Environment, EvaluationError, Program
from windlass.kube.cel.types import Type


class _Mutation(NamedTuple):
    kind: str
    program: Program


class _Structs(dict[str, Type | None]):
    """`Object`, `Object.spec`, `Object.spec.template` …: any object of any kind; and `JSONPatch`."""

    def __contains__(self, name: object) -> bool:
        return name == "JSONPatch" or (isinstance(name, str) and name.partition(".")[0] == "Object")

    def __getitem__(self, name: str) -> Type | None:
        return None

    def __len__(self) -> int:
        return 1


class MutatingAdmissionPolicy(Policies):
    """See the module."""

    name = "MutatingAdmissionPolicy"
    plural = "mutatingadmissionpolicies"
    bindings = "mutatingadmissionpolicybindings"
    structs = _Structs()

    def compile_body(self, spec: Mapping[str, Any], found: Environment) -> tuple[_Mutation, ...]:
        """See `Policies.compile_body`."""
        mutations = []
        for each in spec.get("mutations") or ():
            kind = each.get("patchType", "")
            body = each.get("applyConfiguration" if kind == "ApplyConfiguration" else "jsonPatch") or {}
            mutations.append(_Mutation(kind, found.compile(body.get("expression", ""))))
        return tuple(mutations)

    def mutate(self, request: AdmissionRequest) -> Answer:
        """Apply every policy that looks at the request."""
        return self._mutate(request) if self._policies() and request.obj is not None else None

    async def _mutate(self, request: AdmissionRequest) -> None:
        repeat: set[str] = set()
        waiting: set[str] = set()  # asked already, and would be asked again if something changed after them
        for match in await self.matches(request):
            name = objects.name_of(match.compiled.obj)
            if self._apply(match, request):
                repeat |= waiting
            if match.compiled.obj["spec"].get("reinvocationPolicy") == "IfNeeded":
                waiting.add(name)
        if repeat:
            for match in await self.matches(request):
                if objects.name_of(match.compiled.obj) in repeat:
                    self._apply(match, request)

    def _apply(self, match: Match, request: AdmissionRequest) -> bool:
        before = request.obj
        for mutation in match.compiled.body:
            assert request.obj is not None
            match.values["object"] = request.obj
            try:
                value = mutation.program.evaluate(match.values)
                request.obj = self._changed(mutation, value, request)
            except (EvaluationError, status.StatusError) as error:
                self._failed(match.compiled, match.binding, request, str(error))
        return request.obj is not before

    @staticmethod
    def _changed(mutation: _Mutation, value: Any, request: AdmissionRequest) -> Object:
        assert request.obj is not None
        if mutation.kind == "JSONPatch":
            if not isinstance(value, list):
                raise EvaluationError("the expression must evaluate to a list of JSONPatch")
            operations = [{key: item for key, item in dict(each).items() if item is not None} for each in value]
            found: Object = json_patch.apply(objects.copy(request.obj), operations)
            return found
        if not isinstance(value, dict):
            raise EvaluationError("the expression must evaluate to an Object")
        _check_atomic(value, request)
        merged: Object = objects.copy(typed.merge(request.obj, dict(value), request.resource.schema))
        return merged


def _check_atomic(value: dict[str, Any], request: AdmissionRequest) -> None:
    """An apply configuration may not touch who an object is."""
    metadata = value.get("metadata") or {}
    for name in ("name", "namespace", "uid"):
        if name in metadata and metadata[name] != request.target["metadata"].get(name):
            raise EvaluationError(f"metadata.{name} may not be changed")
