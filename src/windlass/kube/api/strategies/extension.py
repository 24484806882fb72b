"""What extends the API: webhooks, admission policies, API services, flow control. (Custom resources have a room.)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from windlass.kube.api import names
from windlass.kube.api.resource import Object
from windlass.kube.api.status import FieldError, invalid_value, required
from windlass.kube.api.strategies.common import Full, Generational, WithStatus, one_of, spec_of

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")


class WebhookConfigurations(Generational):
    """admissionregistration.k8s.io/v1 Mutating- and ValidatingWebhookConfiguration."""

    def __init__(self, *, mutating: bool) -> None:
        super().__init__()
        self._mutating = mutating

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        for webhook in obj.get("webhooks") or ():
            webhook.setdefault("failurePolicy", "Fail")
            webhook.setdefault("matchPolicy", "Equivalent")
            webhook.setdefault("namespaceSelector", {})
            webhook.setdefault("objectSelector", {})
            webhook.setdefault("timeoutSeconds", 10)
            if self._mutating:
                webhook.setdefault("reinvocationPolicy", "Never")
            if service := (webhook.get("clientConfig") or {}).get("service"):
                service.setdefault("port", 443)
            for rule in webhook.get("rules") or ():
                rule.setdefault("scope", "*")

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        errors: list[FieldError] = []
        seen: set[str] = set()
        for index, webhook in enumerate(obj.get("webhooks") or ()):
            path = f"webhooks[{index}]"
            name = webhook.get("name") or ""
            if len(name.split(".")) < 3:
                detail = "should be a domain with at least three segments separated by dots"
                errors.append(invalid_value(f"{path}.name", name, detail))
            else:
                errors += [invalid_value(f"{path}.name", name, text) for text in names.dns1123_subdomain(name)]
            if name in seen:
                from windlass.kube.api.status import duplicate

                errors.append(duplicate(f"{path}.name", name))
            seen.add(name)
            errors += self._validate_webhook(webhook, path)
        return errors

    def _validate_webhook(self, webhook: Any, path: str) -> list[FieldError]:
        errors: list[FieldError] = []
        versions = webhook.get("admissionReviewVersions")
        if not versions:
            errors.append(required(f"{path}.admissionReviewVersions", "must specify one of v1, v1beta1"))
        elif not {"v1", "v1beta1"} & set(versions):
            errors.append(
                invalid_value(f"{path}.admissionReviewVersions", versions, "must include at least one of v1, v1beta1")
            )
        errors += one_of(webhook.get("sideEffects"), ("None", "NoneOnDryRun"), f"{path}.sideEffects")
        errors += one_of(webhook.get("failurePolicy"), ("Fail", "Ignore"), f"{path}.failurePolicy")
        errors += one_of(webhook.get("matchPolicy"), ("Equivalent", "Exact"), f"{path}.matchPolicy")
        seconds = webhook.get("timeoutSeconds", 10)
        if not 1 <= seconds <= 30:
            errors.append(
                invalid_value(f"{path}.timeoutSeconds", seconds, "the timeout value must be between 1 and 30 seconds")
            )
        config = webhook.get("clientConfig") or {}
        if (config.get("url") is None) == (config.get("service") is None):
            errors.append(required(f"{path}.clientConfig", "exactly one of url or service is required"))
        elif config.get("url") is not None and not config["url"].startswith("https://"):
            detail = "'https' is the only allowed URL scheme; desired format: https://host[/path]"
            errors.append(invalid_value(f"{path}.clientConfig.url", config["url"], detail))
        elif service := config.get("service"):
            errors += [
                required(f"{path}.clientConfig.service.{n}") for n in ("name", "namespace") if not service.get(n)
            ]
        for number, rule in enumerate(webhook.get("rules") or ()):
            where = f"{path}.rules[{number}]"
            for field in ("operations", "apiGroups", "apiVersions", "resources"):
                if not rule.get(field):
                    errors.append(required(f"{where}.{field}"))
            for each in rule.get("operations") or ():
                errors += one_of(each, _OPERATIONS, f"{where}.operations")
        return errors


class AdmissionPolicies(Full):
    """admissionregistration.k8s.io/v1 Validating- and MutatingAdmissionPolicy."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        spec = spec_of(obj)
        spec.setdefault("failurePolicy", "Fail")
        constraints = spec.get("matchConstraints")
        if constraints is not None:
            _default_match(constraints)

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj["spec"]
        errors: list[FieldError] = []
        constraints = spec.get("matchConstraints")
        if constraints is None or not constraints.get("resourceRules"):
            errors.append(
                required("spec.matchConstraints" if constraints is None else "spec.matchConstraints.resourceRules")
            )
        errors += _check_expressions(spec)
        if (
            obj.get("kind") == "ValidatingAdmissionPolicy"
            and not spec.get("validations")
            and not spec.get("auditAnnotations")
        ):
            errors.append(
                required("spec.validations", "validations or auditAnnotations must contain at least one item")
            )
        if obj.get("kind") == "MutatingAdmissionPolicy" and not spec.get("mutations"):
            errors.append(required("spec.mutations", "mutations must contain at least one item"))
        return errors


def _check_expressions(spec: dict[str, Any]) -> list[FieldError]:
    """Whether the policy's expressions compile, each where it stands."""
    from windlass.kube.admission.expressions import environment
    from windlass.kube.cel import CompileError
    from windlass.kube.cel.types import BOOL, DYN, Type

    errors: list[FieldError] = []
    types: dict[str, Type] = {"params": DYN, "namespaceObject": DYN}

    def compiled(text: str, path: str, result: Type | None = None) -> Type:
        if not text.strip():
            errors.append(required(path, "expression is not specified"))
            return DYN
        try:
            return environment(types).compile(text, result).result_type
        except CompileError as error:
            errors.append(invalid_value(path, text, f"compilation failed: {error}"))
            return DYN

    for index, each in enumerate(spec.get("matchConditions") or ()):
        compiled(each.get("expression") or "", f"spec.matchConditions[{index}].expression", BOOL)
    known: dict[str, tuple[str, Type]] = {}
    types["variables"] = Type("kubernetes.variables", fields=known)
    for index, each in enumerate(spec.get("variables") or ()):
        found = compiled(each.get("expression") or "", f"spec.variables[{index}].expression")
        known[each.get("name") or ""] = (each.get("name") or "", found)
    for index, each in enumerate(spec.get("validations") or ()):
        path = f"spec.validations[{index}]"
        compiled(each.get("expression") or "", f"{path}.expression", BOOL)
        if each.get("messageExpression"):
            compiled(each["messageExpression"], f"{path}.messageExpression")
    for index, each in enumerate(spec.get("auditAnnotations") or ()):
        compiled(each.get("valueExpression") or "", f"spec.auditAnnotations[{index}].valueExpression")
    return errors


class AdmissionBindings(Generational):
    """admissionregistration.k8s.io/v1 bindings of policies."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        match = (obj.get("spec") or {}).get("matchResources")
        if match is not None:
            _default_match(match)

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj.get("spec") or {}
        errors = [] if spec.get("policyName") else [required("spec.policyName")]
        if obj.get("kind") == "ValidatingAdmissionPolicyBinding" and not spec.get("validationActions"):
            errors.append(required("spec.validationActions"))
        for index, action in enumerate(spec.get("validationActions") or ()):
            errors += one_of(action, ("Audit", "Deny", "Warn"), f"spec.validationActions[{index}]")
        reference = spec.get("paramRef")
        if reference is not None:
            if bool(reference.get("name")) == (reference.get("selector") is not None):
                errors.append(required("spec.paramRef.name", "one of name or selector must be specified"))
            errors += one_of(
                reference.get("parameterNotFoundAction"), ("Allow", "Deny"), "spec.paramRef.parameterNotFoundAction"
            )
        return errors


def _default_match(match: dict[str, Any]) -> None:
    match.setdefault("matchPolicy", "Equivalent")
    match.setdefault("namespaceSelector", {})
    match.setdefault("objectSelector", {})
    for field in ("resourceRules", "excludeResourceRules"):
        for rule in match.get(field) or ():
            rule.setdefault("scope", "*")


class APIServices(WithStatus):
    """apiregistration.k8s.io/v1 APIService."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        if service := spec_of(obj).get("service"):
            service.setdefault("port", 443)

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj["spec"]
        errors: list[FieldError] = []
        wanted = f"{spec.get('version')}.{spec.get('group') or ''}"
        if obj["metadata"].get("name") != wanted:
            detail = f'must be `spec.version+"."+spec.group`: {wanted!r}'
            errors.append(invalid_value("metadata.name", obj["metadata"].get("name"), detail))
        for name in ("groupPriorityMinimum", "versionPriority"):
            number = spec.get(name, 0)
            most = 20000 if name == "groupPriorityMinimum" else 1000
            if not 0 < number <= most:
                errors.append(invalid_value(f"spec.{name}", number, f"must be positive and less than {most}"))
        if spec.get("service") is None:
            if spec.get("caBundle"):
                errors.append(invalid_value("spec.caBundle", "<bytes>", "local APIServices may not have a caBundle"))
        elif spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
            errors.append(invalid_value("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present"))
        return errors


class FlowSchemas(Full):
    """flowcontrol.apiserver.k8s.io/v1 FlowSchema."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        spec_of(obj).setdefault("matchingPrecedence", 1000)

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj["spec"]
        errors: list[FieldError] = []
        if not (spec.get("priorityLevelConfiguration") or {}).get("name"):
            errors.append(required("spec.priorityLevelConfiguration.name", "must reference a priority level"))
        precedence = spec.get("matchingPrecedence", 1000)
        if not 1 <= precedence <= 10000:
            errors.append(invalid_value("spec.matchingPrecedence", precedence, "must be between 1 and 10000"))
        return errors


class PriorityLevels(Full):
    """flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        spec = spec_of(obj)
        if (limited := spec.get("limited")) is not None:
            limited.setdefault("nominalConcurrencyShares", 30)
            limited.setdefault("lendablePercent", 0)
            response = limited.setdefault("limitResponse", {})
            response.setdefault("type", "Reject")
            if (queuing := response.get("queuing")) is not None:
                queuing.setdefault("queues", 64)
                queuing.setdefault("handSize", 8)
                queuing.setdefault("queueLengthLimit", 50)
        if (exempt := spec.get("exempt")) is not None:
            exempt.setdefault("nominalConcurrencyShares", 0)
            exempt.setdefault("lendablePercent", 0)

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj["spec"]
        errors = one_of(spec.get("type"), ("Exempt", "Limited"), "spec.type")
        if spec.get("type") == "Limited" and spec.get("limited") is None:
            errors.append(required("spec.limited", "must not be empty when type is Limited"))
        return errors
