"""Authorizers in the configured order, and how a refusal reads.

    system:masters ─▶ allowed
    Node ─▶ RBAC ─▶ Webhook …: the first ALLOW or DENY is the answer; nobody's opinion is a refusal with all reasons

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from windlass.kube.api.identity import MASTERS, NO_OPINION, Attributes, Authorizer, Decision, Verdict
from windlass.kube.api.status import StatusError, forbidden

_MASTER = Verdict(Decision.ALLOW)


class AlwaysAllow:
    """Everybody may do everything."""

    def authorize(self, _attributes: Attributes, /) -> Verdict:
        """ALLOW."""
        return _MASTER


class AlwaysDeny:
    """Nobody may do anything."""

    def authorize(self, _attributes: Attributes, /) -> Verdict:
        """No opinion, which at the chain's end refuses."""
        return Verdict(Decision.NO_OPINION, "Everything is forbidden.")


class Chain:
    """Asks each in turn; answers at once as long as everybody asked does."""

    def __init__(self, authorizers: Sequence[Authorizer]) -> None:
        self._authorizers = tuple(authorizers)

    def replace(self, authorizers: Sequence[Authorizer]) -> None:
        """Ask others from the next request on."""
        self._authorizers = tuple(authorizers)

    def authorize(self, attributes: Attributes, /) -> Verdict | Awaitable[Verdict]:
        """The verdict, or an awaitable where a webhook has to be asked."""
        if MASTERS in attributes.user.groups:
            return _MASTER
        reasons: list[str] = []
        authorizers = self._authorizers
        for position, authorizer in enumerate(authorizers):
            verdict = authorizer.authorize(attributes)
            if not isinstance(verdict, Verdict):
                return _go_on(attributes, verdict, authorizers[position + 1 :], reasons)
            if verdict.decision is not Decision.NO_OPINION:
                return verdict
            if verdict.reason:
                reasons.append(verdict.reason)
        return _nobody(reasons)


async def _go_on(
    attributes: Attributes, pending: Awaitable[Verdict], left: Sequence[Authorizer], reasons: list[str]
) -> Verdict:
    answer: Verdict | Awaitable[Verdict] = pending
    for authorizer in (*left, None):
        verdict = answer if isinstance(answer, Verdict) else await answer
        if verdict.decision is not Decision.NO_OPINION:
            return verdict
        if verdict.reason:
            reasons.append(verdict.reason)
        if authorizer is not None:
            answer = authorizer.authorize(attributes)
    return _nobody(reasons)


async def decide(authorizer: Authorizer, attributes: Attributes) -> Verdict:
    """The verdict, waited for where needed."""
    verdict = authorizer.authorize(attributes)
    return verdict if isinstance(verdict, Verdict) else await verdict


def refusal(attributes: Attributes, reason: str = "") -> StatusError:
    """403 in upstream's words."""
    end = f": {reason}" if reason else ""
    user = attributes.user.name
    if not attributes.is_resource:
        text = f'User "{user}" cannot {attributes.verb} path "{attributes.path}"{end}'
        return StatusError(403, "Forbidden", f"forbidden: {text}", details={})
    resource = attributes.resource + (f"/{attributes.subresource}" if attributes.subresource else "")
    where = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    text = f'User "{user}" cannot {attributes.verb} resource "{resource}" in API group "{attributes.group}" {where}'
    return forbidden(attributes.resource, attributes.group, attributes.name, text + end)


def _nobody(reasons: list[str]) -> Verdict:
    return Verdict(Decision.NO_OPINION, "\n".join(reasons)) if reasons else NO_OPINION
