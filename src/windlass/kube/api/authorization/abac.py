"""ABAC: policies in a file, a line of JSON each. Something is allowed where one line allows it.

Source: https://kubernetes.io/docs/reference/access-authn-authz/abac/
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from windlass.kube.api.configfile import BadConfiguration
from windlass.kube.api.identity import ALL_AUTHENTICATED, Attributes, Decision, Verdict

_VERSION = "abac.authorization.kubernetes.io/v1beta1"
_READ = frozenset({"get", "list", "watch"})
_ALLOWED = Verdict(Decision.ALLOW)
_NOT_FOUND = Verdict(Decision.NO_OPINION, "No policy matched.")
_FIELDS = frozenset({"user", "group", "readonly", "apiGroup", "namespace", "resource", "nonResourcePath"})


@dataclass(frozen=True, slots=True)
class Policy:
    """One line. "*" is everything, "" is nothing."""

    user: str = ""
    group: str = ""
    readonly: bool = False
    api_group: str = ""
    namespace: str = ""
    resource: str = ""
    path: str = ""

    def admits(self, attributes: Attributes) -> bool:
        """Whether it allows what is asked."""
        return (
            self._names_subject(attributes)
            and (not self.readonly or attributes.verb in _READ)
            and (self._names_resource(attributes) if attributes.is_resource else self._names_path(attributes.path))
        )

    def _names_subject(self, attributes: Attributes) -> bool:
        user = attributes.user
        if self.user and self.user not in ("*", user.name):
            return False
        if self.group and self.group != "*" and self.group not in user.groups:
            return False
        return bool(self.user or self.group)

    def _names_resource(self, attributes: Attributes) -> bool:
        return (
            self.namespace in ("*", attributes.namespace)
            and self.resource in ("*", attributes.resource)
            and self.api_group in ("*", attributes.group)
        )

    def _names_path(self, path: str) -> bool:
        if self.path.endswith("*"):
            return path.startswith(self.path[:-1])
        return bool(self.path) and self.path == path


class ABAC:
    """The policies of a file."""

    def __init__(self, path: Path) -> None:
        """Raises BadConfiguration with the line that is wrong."""
        self._policies: list[Policy] = []
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise BadConfiguration(f"{path}: {error}") from None
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith(b"#"):
                continue
            try:
                self._policies.append(_policy(orjson.loads(line)))
            except ValueError as error:
                raise BadConfiguration(f"{path}, line {number}: {error}") from None

    def authorize(self, attributes: Attributes, /) -> Verdict:
        """ALLOW or no opinion."""
        return _ALLOWED if any(policy.admits(attributes) for policy in self._policies) else _NOT_FOUND


def _policy(found: Any) -> Policy:
    if not isinstance(found, dict):
        raise ValueError("expected an object")
    if "apiVersion" not in found:
        return _oldest(_checked(found))
    if found.get("apiVersion") != _VERSION or found.get("kind") != "Policy":
        raise ValueError(f"expected kind Policy of {_VERSION}")
    spec = found.get("spec")
    if not isinstance(spec, dict):
        raise ValueError("spec: expected an object")
    spec = _checked(spec)
    return Policy(
        spec.get("user", ""),
        spec.get("group", ""),
        spec.get("readonly", False),
        spec.get("apiGroup", ""),
        spec.get("namespace", ""),
        spec.get("resource", ""),
        spec.get("nonResourcePath", ""),
    )


def _checked(spec: dict[str, Any]) -> dict[str, Any]:
    for name, value in spec.items():
        if name not in _FIELDS:
            raise ValueError(f"{name}: unknown field")
        if not isinstance(value, bool if name == "readonly" else str):
            raise ValueError(f"{name}: wrong type")
    return spec


def _oldest(spec: dict[str, Any]) -> Policy:
    """A line without a version: what it does not say is everything."""
    user, group = spec.get("user", ""), spec.get("group", "")
    if user == "*" or not (user or group):
        user, group = "", group or ALL_AUTHENTICATED
    elif group == "*":
        group = ALL_AUTHENTICATED
    namespace, resource = spec.get("namespace", ""), spec.get("resource", "")
    path = "*" if not (namespace or resource) else ""
    return Policy(user, group, spec.get("readonly", False), "*", namespace or "*", resource or "*", path)
