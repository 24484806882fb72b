"""Which FlowSchema a request belongs to, and which flow within it.

Source: https://kubernetes.io/docs/concepts/cluster-administration/flow-control/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from windlass.kube.api.identity import SERVICE_ACCOUNT_PREFIX, Attributes, User
from windlass.kube.api.reader import Object


def sort_schemas(schemas: Sequence[Object]) -> list[Object]:
    """By matching precedence, then by name: the first that matches is the request's."""
    return sorted(schemas, key=lambda item: (item["spec"].get("matchingPrecedence", 1000), item["metadata"]["name"]))


def matches(schema: Object, asked: Attributes) -> bool:
    """Whether one of the schema's rules has a subject and a thing asked that fit."""
    return any(
        any(_subject(subject, asked.user) for subject in rule.get("subjects") or ()) and _asked(rule, asked)
        for rule in schema["spec"].get("rules") or ()
    )


def flow_of(schema: Object, asked: Attributes) -> str:
    """The flow's name: by user, by namespace, or one for all."""
    method = (schema["spec"].get("distinguisherMethod") or {}).get("type")
    return asked.user.name if method == "ByUser" else asked.namespace if method == "ByNamespace" else ""


def _subject(subject: Mapping[str, Any], user: User) -> bool:
    kind = subject.get("kind")
    if kind == "User":
        return subject["user"]["name"] in ("*", user.name)
    if kind == "Group":
        name = subject["group"]["name"]
        return name == "*" or name in user.groups
    account = subject.get("serviceAccount") or {}
    begin = f"{SERVICE_ACCOUNT_PREFIX}{account.get('namespace')}:"
    name = account.get("name")
    return user.name.startswith(begin) if name == "*" else user.name == f"{begin}{name}"


def _asked(rule: Mapping[str, Any], asked: Attributes) -> bool:
    if not asked.is_resource:
        return any(_path(item, asked) for item in rule.get("nonResourceRules") or ())
    return any(_resource(item, asked) for item in rule.get("resourceRules") or ())


def _path(item: Mapping[str, Any], asked: Attributes) -> bool:
    if not {"*", asked.verb} & set(item["verbs"]):
        return False
    return any(
        url in ("*", asked.path) or (url.endswith("/*") and asked.path.startswith(url[:-1]))
        for url in item["nonResourceURLs"]
    )


def _resource(item: Mapping[str, Any], asked: Attributes) -> bool:
    resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    if not ({"*", asked.verb} & set(item["verbs"]) and {"*", asked.group} & set(item["apiGroups"])):
        return False
    if not {"*", resource} & set(item["resources"]):
        return False
    if not asked.namespace:
        return bool(item.get("clusterScope"))
    return bool({"*", asked.namespace} & set(item.get("namespaces") or ()))
