"""Who asks, and what they ask for: the two records that authentication and authorization exchange.

    request ─ authentication ─▶ User ─┐
    request ─ request info ───────────┴▶ Attributes ─ authorization ─▶ Verdict

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/#review-your-request-attributes
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

ANONYMOUS = "system:anonymous"
ALL_AUTHENTICATED = "system:authenticated"
ALL_UNAUTHENTICATED = "system:unauthenticated"
MASTERS = "system:masters"
"""Members may do everything; no authorizer is asked."""
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated (or anonymous) user.

    Attributes:
        name: unique name, "system:serviceaccount:<namespace>:<name>" for service accounts.
        uid: stable identity, "" where the authenticator has none.
        groups: names of groups.
        extra: further attributes by lower-case key.
    """

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """UserInfo of authentication.k8s.io/v1, without empty fields."""
        found: dict[str, Any] = {"username": self.name}
        if self.uid:
            found["uid"] = self.uid
        if self.groups:
            found["groups"] = list(self.groups)
        if self.extra:
            found["extra"] = {key: list(values) for key, values in self.extra.items()}
        return found


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement of a selector. `operator` is "In", "NotIn", "Exists", "DoesNotExist", "Gt" or "Lt"."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is asked, as authorizers see it.

    Attributes:
        verb: "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "impersonate" …;
            for other paths the HTTP method in lower case.
        path: the URL's path.
        is_resource: a resource of the API, not another path.
        field_selector, label_selector: of list, watch and deletecollection; None where none was given.
    """

    user: User
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    is_resource: bool = True
    field_selector: Sequence[Requirement] | None = None
    label_selector: Sequence[Requirement] | None = None


class Decision(enum.Enum):
    """What an authorizer says."""

    ALLOW = "allow"
    DENY = "deny"
    NO_OPINION = "no opinion"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and its reason, which the client sees."""

    decision: Decision
    reason: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the request may go on."""
        return self.decision is Decision.ALLOW


NO_OPINION = Verdict(Decision.NO_OPINION)


class Authorizer(Protocol):
    """Says whether a request may go on. What needs no I/O answers at once; a webhook answers with an awaitable."""

    def authorize(self, attributes: Attributes, /) -> Verdict | Awaitable[Verdict]:
        """The verdict; never raises for a refusal."""
