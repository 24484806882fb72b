"""Which authorizers are asked in which order: by flags, or by an AuthorizationConfiguration that may change any time.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/#using-configuration-file-for-authorization
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from windlass.kube.api import configfile
from windlass.kube.api.authorization.abac import ABAC
from windlass.kube.api.authorization.chain import AlwaysAllow, AlwaysDeny
from windlass.kube.api.authorization.webhook import WebhookAuthorizer, WebhookSettings
from windlass.kube.api.configfile import BadConfiguration, Node
from windlass.kube.api.identity import Authorizer
from windlass.kube.api.kubeconfigfile import KubeconfigServer
from windlass.kube.cel import CompileError, Environment, Program
from windlass.kube.cel.types import BOOL, STRING, Type, list_of, map_of, object_of

KIND = "AuthorizationConfiguration"
VERSIONS = ("apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1")
_MOST_TIMEOUT = 30.0
_MOST_CONDITIONS = 64
_TYPES = ("Node", "RBAC", "ABAC", "Webhook", "AlwaysAllow", "AlwaysDeny")

_REQUIREMENTS = object_of(
    "kubernetes.SelectorRequirements",
    {
        "rawSelector": STRING,
        "requirements": list_of(
            object_of("kubernetes.Requirement", {"key": STRING, "operator": STRING, "values": list_of(STRING)})
        ),
    },
)
_RESOURCE = object_of(
    "kubernetes.ResourceAttributes",
    {
        **dict.fromkeys(("namespace", "verb", "group", "version", "resource", "subresource", "name"), STRING),
        "fieldSelector": _REQUIREMENTS,
        "labelSelector": _REQUIREMENTS,
    },
)
_REQUEST: Type = object_of(
    "kubernetes.SubjectAccessReviewSpec",
    {
        "resourceAttributes": _RESOURCE,
        "nonResourceAttributes": object_of("kubernetes.NonResourceAttributes", {"path": STRING, "verb": STRING}),
        "user": STRING,
        "groups": list_of(STRING),
        "extra": map_of(STRING, list_of(STRING)),
        "uid": STRING,
    },
)
_OF_REQUEST = Environment({"request": _REQUEST})


@dataclass(frozen=True, slots=True)
class Part:
    """One authorizer: its type, and the webhook's server and settings."""

    type: str
    server: Path | None = None
    settings: WebhookSettings | None = None


def load(path: Path) -> tuple[Part, ...]:
    """Read a file. Raises BadConfiguration."""
    root = configfile.load(path, KIND, VERSIONS)
    parts: list[Part] = []
    names: set[tuple[str, str]] = set()
    for node in root.children("authorizers"):
        part = _part(node)
        name = part.settings.name if part.settings is not None else ""
        if (part.type, name) in names:
            raise node.error("name" if name else "type", f'Duplicate value: "{name or part.type}"')
        names.add((part.type, name))
        parts.append(part)
    root.done()
    if not parts:
        raise root.error("authorizers", "Required value: at least one authorization mode must be defined")
    return tuple(parts)


def _part(node: Node) -> Part:
    kind = node.choice("type", _TYPES)
    name = node.text("name", required=True)
    if kind != "Webhook":
        if node.has("webhook"):
            raise node.error("webhook", "may only be specified when type=Webhook")
        node.done()
        return Part(kind)
    if not node.has("webhook"):
        raise node.error("webhook", "Required value: webhook is required when type=Webhook")
    webhook = node.child("webhook")
    node.done()
    timeout = webhook.seconds("timeout", 0.0)
    if not 0 < timeout <= _MOST_TIMEOUT:
        raise webhook.error("timeout", "Invalid value: must be > 0s and <= 30s")
    authorized = webhook.seconds("authorizedTTL", 300.0)
    unauthorized = webhook.seconds("unauthorizedTTL", 30.0)
    if not webhook.flag("cacheAuthorizedRequests", True):
        authorized = 0.0
    if not webhook.flag("cacheUnauthorizedRequests", True):
        unauthorized = 0.0
    version = webhook.choice("subjectAccessReviewVersion", ("v1", "v1beta1"))
    policy = webhook.choice("failurePolicy", ("NoOpinion", "Deny"))
    connection = webhook.child("connectionInfo")
    connection.choice("type", ("KubeConfigFile",))
    file = connection.text("kubeConfigFile", required=True)
    connection.done()
    conditions: list[Program] = []
    condition_version = webhook.text("matchConditionSubjectAccessReviewVersion")
    for each in webhook.children("matchConditions"):
        conditions.append(_condition(each))
    if len(conditions) > _MOST_CONDITIONS:
        raise webhook.error("matchConditions", f"must have at most {_MOST_CONDITIONS} items")
    if conditions and condition_version != "v1":
        raise webhook.error("matchConditionSubjectAccessReviewVersion", 'must be "v1" with matchConditions')
    webhook.done()
    settings = WebhookSettings(name, version, authorized, unauthorized, timeout, policy == "Deny", tuple(conditions))
    return Part(kind, Path(file), settings)


def _condition(node: Node) -> Program:
    source = node.text("expression", required=True)
    node.done()
    try:
        return _OF_REQUEST.compile(source, BOOL)
    except CompileError as error:
        raise node.error("expression", f'Invalid value: "{source}": compilation failed: {error}') from None


class Builder:
    """Makes the authorizers of parts. What looks at the cluster's objects is made once and kept.

    Args:
        node, rbac: make what those types stand for.
        policy_file: ABAC's.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        node: Callable[[], Authorizer],
        rbac: Callable[[], Authorizer],
        policy_file: Path | None,
        clock: Callable[[], float],
    ) -> None:
        self._node = node
        self._rbac = rbac
        self._policy_file = policy_file
        self._clock = clock
        self.servers: list[KubeconfigServer] = []

    def build(self, parts: Sequence[Part]) -> list[Authorizer]:
        """Raises BadConfiguration."""
        return [self._one(part) for part in parts]

    def _one(self, part: Part) -> Authorizer:
        if part.type == "Webhook":
            if part.server is None:
                raise BadConfiguration("authorization mode Webhook needs --authorization-webhook-config-file")
            server = KubeconfigServer(part.server)
            self.servers.append(server)
            return WebhookAuthorizer(server, part.settings or WebhookSettings(), self._clock)
        if part.type == "ABAC":
            if self._policy_file is None:
                raise BadConfiguration("authorization mode ABAC needs --authorization-policy-file")
            return ABAC(self._policy_file)
        if part.type == "RBAC":
            return self._rbac()
        if part.type == "Node":
            return self._node()
        if part.type == "AlwaysAllow":
            return AlwaysAllow()
        if part.type == "AlwaysDeny":
            return AlwaysDeny()
        raise BadConfiguration(f"unknown authorization mode {part.type!r}: it is one of {', '.join(_TYPES)}")
