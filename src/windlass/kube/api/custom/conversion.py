"""Between the versions of a custom resource: by name alone, or by asking a webhook.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from windlass.kube.api import objects, status
from windlass.kube.api.resource import Object, Resource
from windlass.kube.api.webhooks import WebhookCaller, WebhookError

_SECONDS = 30.0


class Conversion:
    """The conversion of one definition."""

    def __init__(self, spec: dict[str, Any], caller: WebhookCaller) -> None:
        found = spec.get("conversion") or {}
        self._webhook = found.get("webhook") if found.get("strategy") == "Webhook" else None
        self._caller = caller
        self._name = f"{spec['names']['plural']}.{spec['group']}"

    def convert(self, items: list[Object], resource: Resource) -> list[Object] | Awaitable[list[Object]]:
        """Objects in the version of `resource`."""
        others = [obj for obj in items if obj.get("apiVersion") != resource.api_version]
        if not others:
            return items
        if self._webhook is None:
            return [{**obj, "apiVersion": resource.api_version} for obj in items]
        return self._ask(items, others, resource)

    async def _ask(self, items: list[Object], others: list[Object], resource: Resource) -> list[Object]:
        assert self._webhook is not None
        uid = objects.new_uid()
        review = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "ConversionReview",
            "request": {"uid": uid, "desiredAPIVersion": resource.api_version, "objects": others},
        }
        try:
            answer = await self._caller.call(self._webhook["clientConfig"], review, seconds=_SECONDS)
        except WebhookError as error:
            raise self._failed(resource, str(error)) from None
        found = answer.get("response") or {}
        if found.get("uid") != uid:
            raise self._failed(resource, f"expected response.uid={uid!r}, got {found.get('uid')!r}")
        if (found.get("result") or {}).get("status") != "Success":
            message = (found.get("result") or {}).get("message") or "no result"
            raise self._failed(resource, message)
        converted = found.get("convertedObjects") or []
        if len(converted) != len(others):
            why = f"expected {len(others)} converted objects, got {len(converted)}"
            raise self._failed(resource, why)
        for before, after in zip(others, converted, strict=True):
            _keep_identity(self._failed, resource, before, after)
        results = iter(converted)
        return [obj if obj.get("apiVersion") == resource.api_version else next(results) for obj in items]

    def _failed(self, resource: Resource, why: str) -> status.StatusError:
        return status.internal_error(
            f"conversion webhook for {resource.api_version}, Kind={resource.kind} failed: {why}"
        )


def _keep_identity(failed: Any, resource: Resource, before: Object, after: Object) -> None:
    """A webhook may change labels and annotations, never who an object is."""
    if after.get("apiVersion") != resource.api_version or after.get("kind") != before.get("kind"):
        raise failed(resource, "the converted object has another version or kind")
    for name in ("name", "namespace", "uid"):
        if (after.get("metadata") or {}).get(name) != before["metadata"].get(name):
            raise failed(resource, f"must have the same {name}")
    kept = {name: value for name, value in before["metadata"].items() if name not in ("labels", "annotations")}
    for name in ("labels", "annotations"):
        if (after.get("metadata") or {}).get(name):
            kept[name] = after["metadata"][name]
    after["metadata"] = kept
