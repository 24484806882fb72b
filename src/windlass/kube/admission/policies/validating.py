"""ValidatingAdmissionPolicy: expressions that must hold; what happens where they do not is the binding's word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.admission.chain import Answer
from windlass.kube.admission.policies.policy import Match, Policies, refusal
from windlass.kube.api import objects
from windlass.kube.cel import Environment, EvaluationError, Program
from windlass.kube.cel.types import BOOL, DYN

_FAILURES = "validation.policy.admission.k8s.io/validation_failure"


class _Validation(NamedTuple):
    source: Mapping[str, Any]
    program: Program
    message: Program | None


class _Body(NamedTuple):
    validations: tuple[_Validation, ...]
    annotations: tuple[tuple[str, Program], ...]


class ValidatingAdmissionPolicy(Policies):
    """See the module."""

    name = "ValidatingAdmissionPolicy"
    plural = "validatingadmissionpolicies"
    bindings = "validatingadmissionpolicybindings"

    def compile_body(self, spec: Mapping[str, Any], found: Environment) -> _Body:
        """See `Policies.compile_body`."""
        return _Body(
            tuple(
                _Validation(
                    each,
                    found.compile(each["expression"], BOOL),
                    found.compile(each["messageExpression"]) if each.get("messageExpression") else None,
                )
                for each in spec.get("validations") or ()
            ),
            tuple(
                (each["key"], found.compile(each["valueExpression"], DYN))
                for each in spec.get("auditAnnotations") or ()
            ),
        )

    def validate(self, request: AdmissionRequest) -> Answer:
        """Evaluate every policy that looks at the request."""
        return self._validate(request) if self._policies() else None

    async def _validate(self, request: AdmissionRequest) -> None:
        for match in await self.matches(request):
            for validation in match.compiled.body.validations:
                self._judge(match, validation, request)
            for key, program in match.compiled.body.annotations:
                try:
                    value = program.evaluate(match.values)
                except EvaluationError as error:
                    self._failed(match.compiled, match.binding, request, str(error))
                    continue
                if isinstance(value, str) and value:
                    name = f"{objects.name_of(match.compiled.obj)}/{key}"
                    request.actor.annotations[name] = value

    def _judge(self, match: Match, validation: _Validation, request: AdmissionRequest) -> None:
        try:
            holds = validation.program.evaluate(match.values)
        except EvaluationError as error:
            text = f"expression '{validation.program.source}' resulted in error: {error}"
            if (match.compiled.obj["spec"].get("failurePolicy") or "Fail") == "Fail":
                self._act(match, text, "Invalid", request)
            return
        if holds is True:
            return
        self._act(match, self._message(match, validation), validation.source.get("reason") or "Invalid", request)

    def _act(self, match: Match, text: str, reason: str, request: AdmissionRequest) -> None:
        actions = (match.binding.get("spec") or {}).get("validationActions") or ("Deny",)
        policy, binding = objects.name_of(match.compiled.obj), objects.name_of(match.binding)
        if "Warn" in actions:
            request.actor.warn(
                f"Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {text}"
            )
        if "Audit" in actions:
            found = [{"message": text, "policy": policy, "binding": binding, "validationActions": list(actions)}]
            request.actor.annotations[_FAILURES] = orjson.dumps(found).decode()
        if "Deny" in actions:
            raise refusal(match.compiled, match.binding, request, text, reason)

    @staticmethod
    def _message(match: Match, validation: _Validation) -> str:
        if validation.message is not None:
            try:
                text = validation.message.evaluate(match.values)
            except EvaluationError:
                text = ""
            if isinstance(text, str) and text.strip():
                return text.strip()
        message = validation.source.get("message")
        return str(message or f"failed expression: {validation.program.source.strip()}").strip()
