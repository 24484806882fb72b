"""What a CustomResourceDefinition may say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from windlass.kube.api import jsonpath, names, objects
from windlass.kube.api.identity import User
from windlass.kube.api.resource import Object
from windlass.kube.api.status import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from windlass.kube.api.strategies.common import Full, immutable, spec_of
from windlass.kube.schema import structural

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("binary", "bool", "byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_PROTECTED = ("k8s.io", "kubernetes.io")
_APPROVAL = "api-approved.kubernetes.io"


class Definitions(Full):
    """apiextensions.k8s.io/v1 CustomResourceDefinition."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        spec = spec_of(obj)
        found = spec.get("names")
        if isinstance(found, dict):
            kind = found.get("kind") or ""
            if not found.get("singular"):
                found["singular"] = kind.lower()
            if not found.get("listKind") and kind:
                found["listKind"] = f"{kind}List"
        conversion = spec.setdefault("conversion", {})
        conversion.setdefault("strategy", "None")
        if service := ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service"):
            service.setdefault("port", 443)

    def prepare_for_create(self, obj: Object, user: User) -> None:
        """See `Strategy.prepare_for_create`."""
        stored = [each.get("name") for each in obj["spec"].get("versions") or () if each.get("storage")]
        obj["status"] = {
            "conditions": [],
            "acceptedNames": {"plural": "", "kind": ""},
            "storedVersions": stored,
        }

    def prepare_for_update(self, new: Object, old: Object, user: User) -> None:
        """See `Strategy.prepare_for_update`."""
        super().prepare_for_update(new, old, user)
        status = new.get("status")
        if isinstance(status, dict):
            stored = list(status.get("storedVersions") or [])
            for each in new["spec"].get("versions") or ():
                if each.get("storage") and each.get("name") not in stored:
                    stored.append(each["name"])
            new["status"] = {**status, "storedVersions": stored}

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj["spec"]
        errors: list[FieldError] = []
        group, found = spec.get("group") or "", spec.get("names") or {}
        wanted = f"{found.get('plural') or ''}.{group}"
        if objects.name_of(obj) != wanted:
            detail = 'must be spec.names.plural+"."+spec.group'
            errors.append(invalid_value("metadata.name", objects.name_of(obj), detail))
        if not group:
            errors.append(required("spec.group"))
        else:
            errors += [invalid_value("spec.group", group, text) for text in names.dns1123_subdomain(group)]
            if "." not in group:
                errors.append(invalid_value("spec.group", group, "should be a domain with at least one dot"))
        if any(group == each or group.endswith(f".{each}") for each in _PROTECTED):
            approved = (obj["metadata"].get("annotations") or {}).get(_APPROVAL)
            if not approved:
                detail = (
                    "protected groups must have approval annotation "
                    f'"{_APPROVAL}", see https://github.com/kubernetes/enhancements/pull/1111'
                )
                errors.append(required(f"metadata.annotations[{_APPROVAL}]", detail))
        if spec.get("scope") not in ("Cluster", "Namespaced"):
            if not spec.get("scope"):
                errors.append(required("spec.scope"))
            else:
                errors.append(not_supported("spec.scope", spec["scope"], ["Cluster", "Namespaced"]))
        if spec.get("preserveUnknownFields"):
            errors.append(invalid_value("spec.preserveUnknownFields", True, "must be false"))
        errors += self._validate_names(found)
        errors += self._validate_versions(spec.get("versions") or ())
        errors += self._validate_conversion(spec)
        return errors

    @staticmethod
    def _validate_names(found: Mapping[str, Any]) -> list[FieldError]:
        errors: list[FieldError] = []
        for name in ("plural", "singular"):
            text = found.get(name) or ""
            errors += [invalid_value(f"spec.names.{name}", text, problem) for problem in names.dns1035_label(text)]
        for name in ("kind", "listKind"):
            text = found.get(name) or ""
            problems = names.dns1035_label(text.lower())
            errors += [
                invalid_value(f"spec.names.{name}", text, f"may have mixed case, but should otherwise match: {problem}")
                for problem in problems
            ]
        if found.get("kind") and found.get("kind") == found.get("listKind"):
            errors.append(
                invalid_value("spec.names.listKind", found["listKind"], "kind and listKind may not be the same")
            )
        for field in ("shortNames", "categories"):
            for index, text in enumerate(found.get(field) or ()):
                errors += [
                    invalid_value(f"spec.names.{field}[{index}]", text, problem)
                    for problem in names.dns1035_label(text)
                ]
        return errors

    def _validate_versions(self, versions: Sequence[Mapping[str, Any]]) -> list[FieldError]:
        errors: list[FieldError] = []
        if not versions:
            errors.append(required("spec.versions", "must have at least one version"))
        seen: set[str] = set()
        for index, version in enumerate(versions):
            path = f"spec.versions[{index}]"
            name = version.get("name") or ""
            errors += [invalid_value(f"{path}.name", name, text) for text in names.dns1035_label(name)]
            if name in seen:
                errors.append(duplicate(f"{path}.name", name))
            seen.add(name)
            schema = (version.get("schema") or {}).get("openAPIV3Schema")
            where = f"{path}.schema.openAPIV3Schema"
            errors += structural.check(schema, where)
            if not errors:
                errors += check_rules(schema, where)
            for number, column in enumerate(version.get("additionalPrinterColumns") or ()):
                errors += _validate_column(column, f"{path}.additionalPrinterColumns[{number}]")
            errors += _validate_subresources(version.get("subresources") or {}, f"{path}.subresources")
        stored = [each for each in versions if each.get("storage")]
        if versions and len(stored) != 1:
            detail = "must have exactly one version marked as storage version"
            errors.append(invalid_value("spec.versions", list(versions), detail))
        return errors

    @staticmethod
    def _validate_conversion(spec: Mapping[str, Any]) -> list[FieldError]:
        conversion = spec.get("conversion") or {}
        strategy = conversion.get("strategy")
        if strategy not in ("None", "Webhook"):
            return [not_supported("spec.conversion.strategy", strategy or "", ["None", "Webhook"])]
        webhook = conversion.get("webhook")
        if strategy == "None":
            if webhook is not None:
                detail = "should not be set when strategy is not set to Webhook"
                return [forbidden_field("spec.conversion.webhook", detail)]
            return []
        if webhook is None:
            return [required("spec.conversion.webhook", "required when strategy is set to Webhook")]
        errors: list[FieldError] = []
        config = webhook.get("clientConfig")
        if config is None:
            errors.append(required("spec.conversion.webhook.clientConfig", "required when strategy is set to Webhook"))
        elif (config.get("url") is None) == (config.get("service") is None):
            detail = "exactly one of url or service is required"
            errors.append(required("spec.conversion.webhook.clientConfig", detail))
        if not webhook.get("conversionReviewVersions"):
            errors.append(required("spec.conversion.webhook.conversionReviewVersions"))
        return errors

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        errors = list(self.validate(new)) if new["spec"] != old["spec"] else []
        established = any(
            each.get("type") == "Established" and each.get("status") == "True"
            for each in (old.get("status") or {}).get("conditions") or ()
        )
        if established:
            for name in ("scope", "group"):
                errors += immutable(new["spec"].get(name), old["spec"].get(name), f"spec.{name}")
            for name in ("kind", "plural"):
                now, was = new["spec"]["names"].get(name), old["spec"]["names"].get(name)
                errors += immutable(now, was, f"spec.names.{name}")
        known = {each.get("name") for each in new["spec"].get("versions") or ()}
        for index, version in enumerate((new.get("status") or {}).get("storedVersions") or ()):
            if version not in known:
                errors.append(
                    invalid_value(
                        f"status.storedVersions[{index}]",
                        version,
                        "missing from spec.versions; "
                        f"{version} was previously a storage version, and must remain in spec.versions until a storage "
                        f"migration ensures no data remains persisted in {version} and removes {version} from "
                        "status.storedVersions",
                    )
                )
        return errors

    def begin_deletion(self, obj: Object) -> None:
        """See `Strategy.begin_deletion`."""
        now = obj["metadata"]["deletionTimestamp"]
        conditions = [
            each for each in (obj.get("status") or {}).get("conditions") or () if each["type"] != "Terminating"
        ]
        terminating = {
            "type": "Terminating",
            "status": "True",
            "reason": "InstanceDeletionPending",
            "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
            "lastTransitionTime": now,
        }
        obj["status"] = {**(obj.get("status") or {}), "conditions": [*conditions, terminating]}


def _validate_column(column: Mapping[str, Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not column.get("name"):
        errors.append(required(f"{path}.name"))
    kind = column.get("type") or ""
    if not kind:
        errors.append(required(f"{path}.type", f"must be one of {','.join(_COLUMN_TYPES)}"))
    elif kind not in _COLUMN_TYPES:
        errors.append(invalid_value(f"{path}.type", kind, f"must be one of {','.join(_COLUMN_TYPES)}"))
    if column.get("format") and column["format"] not in _COLUMN_FORMATS:
        errors.append(invalid_value(f"{path}.format", column["format"], f"must be one of {','.join(_COLUMN_FORMATS)}"))
    text = column.get("jsonPath") or ""
    if not text:
        errors.append(required(f"{path}.jsonPath"))
    else:
        try:
            jsonpath.compile_path(text)
        except jsonpath.BadPath as error:
            errors.append(invalid_value(f"{path}.jsonPath", text, str(error)))
    return errors


def _validate_subresources(found: Mapping[str, Any], path: str) -> list[FieldError]:
    scale = found.get("scale")
    if scale is None:
        return []
    errors: list[FieldError] = []
    for name, prefix in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        text = scale.get(name) or ""
        if not text:
            errors.append(required(f"{path}.scale.{name}"))
        elif not text.startswith(prefix) or "[" in text:
            errors.append(
                invalid_value(f"{path}.scale.{name}", text, f"should be a json path under {prefix.rstrip('.')}")
            )
    selector = scale.get("labelSelectorPath")
    if selector and not selector.startswith((".status.", ".spec.")):
        errors.append(
            invalid_value(
                f"{path}.scale.labelSelectorPath", selector, "should be a json path under either .spec or .status"
            )
        )
    return errors


def check_rules(schema: Any, path: str) -> list[FieldError]:
    """The CEL rules of a schema."""
    from windlass.kube.cel.validation import check_schema

    return check_schema(schema, path)
