"""Asks webhooks: the mutating ones one after another, the validating ones at once.

mutating    in order of configuration and name; what one changes the next one sees. Those with
            reinvocationPolicy IfNeeded are asked once more where something changed after them
validating  all at once; the first refusal is the answer
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.admission.chain import Answer, Plugin
from windlass.kube.admission.expressions import Conditions, review_request, variables
from windlass.kube.admission.matching import is_exempt, matched_resource, seen, selectors_match
from windlass.kube.api import objects, status
from windlass.kube.api.identity import Authorizer
from windlass.kube.api.operations.environment import convert
from windlass.kube.api.patch import json_patch
from windlass.kube.api.reader import Reader
from windlass.kube.api.registry import Registry
from windlass.kube.api.resource import Resource
from windlass.kube.api.shaping import shape
from windlass.kube.api.webhooks import WebhookCaller, WebhookError
from windlass.kube.cel import CompileError, EvaluationError

_GROUP = "admissionregistration.k8s.io"


class Hook(NamedTuple):
    """One webhook of one configuration."""

    configuration: str
    webhook: Mapping[str, Any]
    conditions: Conditions | None


class _Webhooks(Plugin):
    """What both kinds share: the configurations, in order."""

    plural = ""

    def __init__(self, reader: Reader, registry: Registry, caller: WebhookCaller, authorizer: Authorizer) -> None:
        self._reader = reader
        self._registry = registry
        self._caller = caller
        self._authorizer = authorizer
        self._hooks: list[Hook] | None = None
        reader.subscribe(_GROUP, self.plural, lambda _event, _obj: self._forget())

    def _forget(self) -> None:
        self._hooks = None

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """Everything but what extensions are repaired by."""
        return not is_exempt(group, resource)

    def _all(self) -> Sequence[Hook]:
        if self._hooks is None:
            self._hooks = list(self._build())
        return self._hooks

    def _build(self) -> Iterator[Hook]:
        for configuration in sorted(self._reader.list(_GROUP, self.plural), key=objects.name_of):
            for webhook in configuration.get("webhooks") or ():
                conditions = None
                if found := webhook.get("matchConditions"):
                    try:
                        conditions = Conditions(found)
                    except CompileError:
                        continue  # refused when it is written; an old one that no longer compiles matches nothing
                yield Hook(objects.name_of(configuration), webhook, conditions)

    async def _matches(self, hook: Hook, request: AdmissionRequest) -> Resource | None:
        """The version in which a webhook sees a request; None where it does not look at it.

        Raises:
            StatusError: its conditions fail and its failurePolicy is Fail.
        """
        webhook = hook.webhook
        seen_as = matched_resource(
            webhook.get("rules") or (), webhook.get("matchPolicy", "Equivalent"), request, self._registry
        )
        if seen_as is None or not selectors_match(webhook, request, self._reader):
            return None
        if hook.conditions is not None:
            obj, old = await seen(request, seen_as)
            try:
                if not hook.conditions.hold(variables(request, seen_as, obj, old, self._authorizer)):
                    return None
            except EvaluationError as error:
                if webhook.get("failurePolicy") == "Ignore":
                    return None
                raise status.forbidden(
                    request.resource.plural, request.resource.group, request.name, str(error)
                ) from None
        return seen_as

    async def _ask(self, hook: Hook, request: AdmissionRequest, seen_as: Resource) -> Mapping[str, Any] | None:
        """A webhook's answer; None where it failed and may.

        Raises:
            StatusError: it failed and may not.
        """
        webhook = hook.webhook
        name = webhook["name"]
        if request.actor.dry_run and webhook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            raise status.bad_request(f'admission webhook "{name}" does not support dry run')
        obj, old = await seen(request, seen_as)
        review = {
            "kind": "AdmissionReview",
            "apiVersion": "admission.k8s.io/v1",
            "request": review_request(request, seen_as, obj, old),
        }
        try:
            answer = await self._caller.call(
                webhook["clientConfig"], review, seconds=float(webhook.get("timeoutSeconds", 10))
            )
            found = answer.get("response")
            if not isinstance(found, dict):
                raise WebhookError("webhook response was absent")
            if found.get("uid") != request.uid:
                raise WebhookError(f'expected response.uid="{request.uid}", got "{found.get("uid")}"')
        except WebhookError as error:
            if webhook.get("failurePolicy") == "Ignore":
                return None
            raise status.internal_error(f'failed calling webhook "{name}": {error}') from None
        for text in found.get("warnings") or ():
            request.actor.warn(str(text))
        for key, value in (found.get("auditAnnotations") or {}).items():
            request.actor.annotations[f"{name}/{key}"] = str(value)
        return found

    def _refusal(self, hook: Hook, answer: Mapping[str, Any]) -> status.StatusError:
        name = hook.webhook["name"]
        found = answer.get("status") or {}
        if found.get("message"):
            text = f'admission webhook "{name}" denied the request: {found["message"]}'
        elif found.get("reason"):
            text = f'admission webhook "{name}" denied the request: {found["reason"]}'
        else:
            text = f'admission webhook "{name}" denied the request without explanation'
        code = found.get("code") or 400
        if not isinstance(code, int) or not 400 <= code < 600:
            code = 400
        reason = found.get("reason") or {403: "Forbidden", 400: "BadRequest"}.get(code, "")
        return status.StatusError(code, str(reason), text, details=found.get("details") or {})


class ValidatingAdmissionWebhook(_Webhooks):
    """Webhooks that refuse."""

    name = "ValidatingAdmissionWebhook"
    plural = "validatingwebhookconfigurations"

    def validate(self, request: AdmissionRequest) -> Answer:
        """Ask all that look at the request."""
        hooks = self._all()
        return self._validate(hooks, request) if hooks else None

    async def _validate(self, hooks: Sequence[Hook], request: AdmissionRequest) -> None:
        asked = []
        for hook in hooks:
            seen_as = await self._matches(hook, request)
            if seen_as is not None:
                asked.append((hook, seen_as))
        answers = await asyncio.gather(
            *(self._ask(hook, request, seen_as) for hook, seen_as in asked), return_exceptions=True
        )
        for (hook, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            if answer is not None and not answer.get("allowed"):
                raise self._refusal(hook, answer)


class MutatingAdmissionWebhook(_Webhooks):
    """Webhooks that change."""

    name = "MutatingAdmissionWebhook"
    plural = "mutatingwebhookconfigurations"

    def mutate(self, request: AdmissionRequest) -> Answer:
        """Ask all that look at the request, in order."""
        hooks = self._all()
        return self._mutate(hooks, request) if hooks else None

    async def _mutate(self, hooks: Sequence[Hook], request: AdmissionRequest) -> None:
        changed_after: dict[int, bool] = {}
        for index, hook in enumerate(hooks):
            changed = await self._apply(hook, request)
            if changed is None:
                continue
            if changed:
                changed_after = dict.fromkeys(changed_after, True)
            if hook.webhook.get("reinvocationPolicy") == "IfNeeded":
                changed_after[index] = False
        for index, needed in changed_after.items():
            if needed:
                await self._apply(hooks[index], request)

    async def _apply(self, hook: Hook, request: AdmissionRequest) -> bool | None:
        """Whether a webhook changed the object; None where it does not look at it."""
        seen_as = await self._matches(hook, request)
        if seen_as is None:
            return None
        answer = await self._ask(hook, request, seen_as)
        if answer is None:
            return False
        if not answer.get("allowed"):
            raise self._refusal(hook, answer)
        patch = answer.get("patch")
        if not patch or request.obj is None:
            return False
        name = hook.webhook["name"]
        if answer.get("patchType") != "JSONPatch":
            raise status.internal_error(
                f'failed calling webhook "{name}": unsupported patch type "{answer.get("patchType")}"'
            )
        try:
            operations = orjson.loads(base64.b64decode(patch, validate=True))
        except (binascii.Error, orjson.JSONDecodeError, ValueError) as error:
            raise status.internal_error(f'failed calling webhook "{name}": {error}') from None
        before = request.obj
        obj = objects.copy(before)
        if seen_as is not request.resource:
            obj = await convert(seen_as, obj)
        try:
            obj = json_patch.apply(obj, operations)
        except status.StatusError as error:
            raise status.internal_error(f'admission webhook "{name}" returned a patch that fails: {error}') from None
        obj = await convert(request.resource, obj)
        try:
            shape(obj, request.resource)
        except status.StatusError as error:
            raise status.internal_error(f'admission webhook "{name}" made another object: {error}') from None
        request.resource.strategy.default(obj)
        request.obj = obj
        return bool(obj != before)
