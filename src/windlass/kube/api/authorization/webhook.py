"""Another service decides: it is asked by a SubjectAccessReview, and its answers are remembered for a while.

Source: https://kubernetes.io/docs/reference/access-authn-authz/webhook/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from windlass.kube.api.identity import NO_OPINION, Attributes, Decision, Requirement, Verdict
from windlass.kube.api.kubeconfigfile import KubeconfigServer
from windlass.kube.api.webhooks import WebhookError
from windlass.kube.cel import EvaluationError, Program

log = logging.getLogger(__name__)

_TRIES, _FIRST_PAUSE = 3, 0.2
_REMEMBERED = 8192


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """How a webhook is asked.

    Attributes:
        version: of authorization.k8s.io, "v1" or "v1beta1".
        authorized_ttl, unauthorized_ttl: seconds for which an answer is good.
        timeout: seconds.
        fails_closed: a webhook that cannot be asked refuses; else it has no opinion.
        conditions: programs over `request`; it is only asked where all hold.
    """

    name: str = "default"
    version: str = "v1"
    authorized_ttl: float = 300.0
    unauthorized_ttl: float = 30.0
    timeout: float = 30.0
    fails_closed: bool = False
    conditions: tuple[Program, ...] = field(default=())


class WebhookAuthorizer:
    """Asks the server of a kubeconfig file. `clock` is monotonic seconds."""

    def __init__(self, server: KubeconfigServer, settings: WebhookSettings, clock: Callable[[], float]) -> None:
        self._server = server
        self._settings = settings
        self._clock = clock
        self._known: dict[bytes, tuple[float, Verdict]] = {}

    def authorize(self, attributes: Attributes, /) -> Verdict | Awaitable[Verdict]:
        """See `Authorizer`: at once where the answer is known or nobody is asked."""
        spec = _spec(attributes)
        failure = self._failure("its conditions fail")
        try:
            if not all(program.evaluate({"request": spec}) is True for program in self._settings.conditions):
                return NO_OPINION
        except EvaluationError as error:
            log.error("authorizer %s: %s", self._settings.name, error)
            return failure
        key = orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)
        known = self._known.get(key)
        if known is not None and self._clock() < known[0]:
            return known[1]
        return self._ask(spec, key)

    def _failure(self, why: str) -> Verdict:
        if self._settings.fails_closed:
            return Verdict(Decision.DENY, f"authorizer {self._settings.name}: {why}")
        return NO_OPINION

    async def _ask(self, spec: dict[str, Any], key: bytes) -> Verdict:
        review = {
            "kind": "SubjectAccessReview",
            "apiVersion": f"authorization.k8s.io/{self._settings.version}",
            "metadata": {"creationTimestamp": None},
            "spec": spec if self._settings.version == "v1" else _old_names(spec),
        }
        try:
            status = (await self._post(review)).get("status") or {}
        except WebhookError as error:
            log.error("authorizer %s cannot be asked: %s", self._settings.name, error)
            return self._failure(str(error))
        allowed, denied = status.get("allowed") is True, status.get("denied") is True
        if allowed and denied:
            return self._failure("it both allowed and denied")
        decision = Decision.ALLOW if allowed else Decision.DENY if denied else Decision.NO_OPINION
        verdict = Verdict(decision, str(status.get("reason") or ""))
        seconds = self._settings.authorized_ttl if allowed else self._settings.unauthorized_ttl
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[key] = (self._clock() + seconds, verdict)
        return verdict

    async def _post(self, review: dict[str, Any]) -> dict[str, Any]:
        pause = _FIRST_PAUSE
        for _ in range(_TRIES - 1):
            try:
                return await self._server.post(review, seconds=self._settings.timeout)
            except WebhookError:
                await asyncio.sleep(pause)
                pause *= 1.5
        return await self._server.post(review, seconds=self._settings.timeout)


def _spec(attributes: Attributes) -> dict[str, Any]:
    user = attributes.user
    spec: dict[str, Any] = {"user": user.name}
    if attributes.is_resource:
        found = {
            "namespace": attributes.namespace,
            "verb": attributes.verb,
            "group": attributes.group,
            "version": attributes.version,
            "resource": attributes.resource,
            "subresource": attributes.subresource,
            "name": attributes.name,
        }
        resource: dict[str, Any] = {key: value for key, value in found.items() if value}
        for name, selector in (
            ("fieldSelector", attributes.field_selector),
            ("labelSelector", attributes.label_selector),
        ):
            if selector:
                resource[name] = {"requirements": [_requirement(each) for each in selector]}
        spec["resourceAttributes"] = resource
    else:
        spec["nonResourceAttributes"] = {"path": attributes.path, "verb": attributes.verb}
    if user.groups:
        spec["groups"] = list(user.groups)
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra.items()}
    if user.uid:
        spec["uid"] = user.uid
    return spec


def _requirement(found: Requirement) -> dict[str, Any]:
    values: Sequence[str] = found.values
    return {"key": found.key, "operator": found.operator, **({"values": list(values)} if values else {})}


def _old_names(spec: dict[str, Any]) -> dict[str, Any]:
    """v1beta1 calls the groups "group"."""
    return {("group" if key == "groups" else key): value for key, value in spec.items()}
