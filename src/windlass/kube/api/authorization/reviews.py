"""The review APIs: objects in, the same objects with `status` out. Nothing is stored.

    SubjectAccessReview, LocalSubjectAccessReview, SelfSubjectAccessReview   may this user do this?
    SelfSubjectRulesReview                                                   what may I do in this namespace?
    SelfSubjectReview                                                        who am I?
    TokenReview                                                              whose is this token?

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from windlass.kube.api.authorization.chain import decide
from windlass.kube.api.authorization.rbac import RBAC
from windlass.kube.api.authorization.rules import Rule
from windlass.kube.api.identity import MASTERS, Attributes, Authorizer, Decision, Requirement, User
from windlass.kube.api.reader import Object
from windlass.kube.api.status import bad_request, invalid, invalid_value, required

TokenCheck = Callable[[str, Sequence[str]], Awaitable[tuple[User, Sequence[str]] | None]]
"""Token and wanted audiences → its user and the audiences that both sides share; raises StatusError where it is bad."""


async def subject_access_review(review: Object, authorizer: Authorizer) -> Object:
    """For any user; `spec.user` or `spec.groups` say which."""
    spec = review.get("spec") or {}
    _check(spec, "SubjectAccessReview", subject=True)
    extra = {key.lower(): tuple(values) for key, values in (spec.get("extra") or {}).items()}
    user = User(spec.get("user", ""), spec.get("uid", ""), tuple(spec.get("groups") or ()), extra)
    return await _access(review, user, authorizer)


async def local_subject_access_review(review: Object, namespace: str, authorizer: Authorizer) -> Object:
    """For any user within the namespace of the request."""
    attributes = (review.get("spec") or {}).get("resourceAttributes")
    if attributes is None:
        error = required("spec.resourceAttributes", "must be specified for a LocalSubjectAccessReview")
        raise invalid("LocalSubjectAccessReview", "authorization.k8s.io", "", [error])
    asked = attributes.get("namespace", "")
    if asked != namespace:
        raise bad_request(f"spec.resourceAttributes.namespace must match namespace: {namespace}")
    return await subject_access_review(review, authorizer)


async def self_subject_access_review(review: Object, user: User, authorizer: Authorizer) -> Object:
    """For who asks."""
    _check(review.get("spec") or {}, "SelfSubjectAccessReview", subject=False)
    return await _access(review, user, authorizer)


def self_subject_rules_review(review: Object, user: User, rbac: RBAC | None, *, complete: bool) -> Object:
    """All rules of who asks in a namespace; `complete` where no other authorizer has a say."""
    namespace = (review.get("spec") or {}).get("namespace", "")
    if not namespace:
        raise bad_request("no namespace on request")
    rules = rbac.rules_for(user, namespace) if rbac else []
    if MASTERS in user.groups:
        everything = frozenset("*")
        rules = [Rule(everything, everything, everything), Rule(everything, urls=("*",)), *rules]
    status: dict[str, Any] = {
        "resourceRules": [rule.to_json() for rule in rules if not rule.urls],
        "nonResourceRules": [rule.to_json() for rule in rules if rule.urls],
        "incomplete": not complete,
    }
    if not complete:
        status["evaluationError"] = "webhook authorizer does not support user rule resolution"
    return {**review, "status": status}


def self_subject_review(review: Object, user: User) -> Object:
    """Who asks, after impersonation."""
    return {**review, "status": {"userInfo": user.to_json()}}


async def token_review(review: Object, check: TokenCheck) -> Object:
    """Whose token it is."""
    spec = review.get("spec") or {}
    token = spec.get("token", "")
    if not token:
        raise bad_request("token is required for TokenReview in authentication")
    try:
        found = await check(token, tuple(spec.get("audiences") or ()))
    except PermissionError as error:
        return {**review, "status": {"user": {}, "error": str(error)}}
    if found is None:
        return {**review, "status": {"user": {}}}
    user, audiences = found
    status: dict[str, Any] = {"authenticated": True, "user": user.to_json()}
    if audiences:
        status["audiences"] = list(audiences)
    return {**review, "status": status}


def attributes_of(spec: Mapping[str, Any], user: User) -> Attributes:
    """What a review's spec asks."""
    resource = spec.get("resourceAttributes")
    if resource is None:
        other = spec["nonResourceAttributes"]
        return Attributes(user, other.get("verb", ""), path=other.get("path", ""), is_resource=False)
    return Attributes(
        user,
        resource.get("verb", ""),
        resource.get("group", ""),
        resource.get("version", "") or "*",
        resource.get("resource", ""),
        resource.get("subresource", ""),
        resource.get("namespace", ""),
        resource.get("name", ""),
        field_selector=_requirements(resource.get("fieldSelector")),
        label_selector=_requirements(resource.get("labelSelector")),
    )


async def _access(review: Object, user: User, authorizer: Authorizer) -> Object:
    verdict = await decide(authorizer, attributes_of(review["spec"], user))
    status: dict[str, Any] = {"allowed": verdict.allowed}
    if verdict.decision is Decision.DENY:
        status["denied"] = True
    if verdict.reason:
        status["reason"] = verdict.reason
    return {**review, "status": status}


def _check(spec: Mapping[str, Any], kind: str, *, subject: bool) -> None:
    errors = []
    both = spec.get("resourceAttributes") is not None and spec.get("nonResourceAttributes") is not None
    neither = spec.get("resourceAttributes") is None and spec.get("nonResourceAttributes") is None
    if both:
        text = "cannot be specified in combination with resourceAttributes"
        errors.append(invalid_value("spec.nonResourceAttributes", spec["nonResourceAttributes"], text))
    if neither:
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        errors.append(invalid_value("spec.resourceAttributes", None, text))
    if subject and not spec.get("user") and not spec.get("groups"):
        errors.append(
            invalid_value("spec.user", spec.get("user", ""), "at least one of user or group must be specified")
        )
    if errors:
        raise invalid(kind, "authorization.k8s.io", "", errors)


def _requirements(selector: Mapping[str, Any] | None) -> Sequence[Requirement] | None:
    if not selector or "requirements" not in selector:
        return None
    return tuple(
        Requirement(item.get("key", ""), item.get("operator", ""), tuple(item.get("values") or ()))
        for item in selector["requirements"] or ()
    )
