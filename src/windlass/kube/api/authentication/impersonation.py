"""Impersonation: act as somebody else, where the authorizer allows the verb "impersonate" on all of it.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation
"""

from __future__ import annotations

from collections.abc import Mapping

from windlass.http.query import unquote
from windlass.kube.api.authorization.chain import decide, refusal
from windlass.kube.api.identity import (
    ALL_AUTHENTICATED,
    ALL_UNAUTHENTICATED,
    ANONYMOUS,
    SERVICE_ACCOUNT_PREFIX,
    Attributes,
    Authorizer,
    User,
)
from windlass.kube.api.status import internal_error

_EXTRA = "impersonate-extra-"
_GROUP = "authentication.k8s.io"


async def impersonate(user: User, headers: Mapping[str, str], authorizer: Authorizer) -> User | None:
    """Who the request wants to be, `None` where it is content with itself. Raises StatusError 403.

    Repeated headers arrive joined by ", ".
    """
    name = headers.get("impersonate-user", "")
    uid = headers.get("impersonate-uid", "")
    groups = _list(headers.get("impersonate-group", ""))
    extra = {
        unquote(header.removeprefix(_EXTRA)).lower(): _list(value)
        for header, value in headers.items()
        if header.startswith(_EXTRA)
    }
    if not name:
        if uid or groups or extra:
            raise internal_error("requested impersonation without impersonating a user")
        return None
    wanted: list[Attributes] = []
    namespace, account = _service_account(name)
    if account:
        wanted.append(Attributes(user, "impersonate", "", "v1", "serviceaccounts", "", namespace, account))
    else:
        wanted.append(Attributes(user, "impersonate", "", "v1", "users", name=name))
    wanted += [Attributes(user, "impersonate", "", "v1", "groups", name=group) for group in groups]
    wanted += [
        Attributes(user, "impersonate", _GROUP, "v1", "userextras", key, name=value)
        for key, values in extra.items()
        for value in values
    ]
    if uid:
        wanted.append(Attributes(user, "impersonate", _GROUP, "v1", "uids", name=uid))
    for attributes in wanted:
        verdict = await decide(authorizer, attributes)
        if not verdict.allowed:
            raise refusal(attributes, verdict.reason)
    if account and not groups:
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    closing = ALL_UNAUTHENTICATED if name == ANONYMOUS else ALL_AUTHENTICATED
    if ALL_AUTHENTICATED not in groups and ALL_UNAUTHENTICATED not in groups:
        groups = (*groups, closing)
    return User(name, uid, groups, extra)


def _list(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _service_account(name: str) -> tuple[str, str]:
    if not name.startswith(SERVICE_ACCOUNT_PREFIX):
        return "", ""
    namespace, _, account = name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
    return (namespace, account) if namespace and account and ":" not in account else ("", "")
