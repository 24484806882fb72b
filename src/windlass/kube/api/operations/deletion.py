"""Delete an object: at once, after its grace period, or when its finalizers have gone.

    preconditions ─ admission ─┬ nothing holds it ────────────▶ removed
                               └ finalizers, grace period ────▶ deletionTimestamp set; the last update removes it

How dependents go follows from finalizers, which the garbage collector works off: "orphan" (their references are
removed), "foregroundDeletion" (they go first), none (they go afterwards).

Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/#cascading-deletion and
https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/delete-options/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.api import objects, status
from windlass.kube.api.operations import updating
from windlass.kube.api.operations.environment import Actor, Environment, Written, from_stored, stored_form
from windlass.kube.api.operations.metadata import FOREGROUND, ORPHAN
from windlass.kube.api.resource import Object, Resource
from windlass.store import Mismatch, Record

DELETE = "DELETE"
_ATTEMPTS = 30
_POLICIES = ("Foreground", "Background", "Orphan")


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """What a client may say of a deletion. `grace_period` in seconds, None where it is the object's own."""

    grace_period: int | None = None
    uid: str | None = None
    resource_version: str | None = None
    propagation: str = ""
    orphan_dependents: bool | None = None

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> DeleteOptions:
        """From a DeleteOptions object.

        Raises:
            StatusError: 422, a value is none of the allowed ones.
        """
        preconditions = body.get("preconditions") or {}
        grace = body.get("gracePeriodSeconds")
        policy = body.get("propagationPolicy")
        orphan = body.get("orphanDependents")
        errors = []
        if isinstance(grace, bool) or not isinstance(grace, int | None):
            raise status.bad_request(
                "json: cannot unmarshal into Go struct field DeleteOptions.gracePeriodSeconds of type int64"
            )
        if policy is not None and orphan is not None:
            errors.append(
                status.invalid_value(
                    "propagationPolicy",
                    policy,
                    "orphanDependents and deletionPropagation cannot be both set",
                )
            )
        if policy is not None and policy not in _POLICIES:
            errors.append(status.not_supported("propagationPolicy", policy, [*_POLICIES, "nil"]))
        if errors:
            raise status.invalid("DeleteOptions", "meta.k8s.io", "", errors)
        return cls(
            grace_period=grace,
            uid=preconditions.get("uid"),
            resource_version=preconditions.get("resourceVersion"),
            propagation=policy or "",
            orphan_dependents=orphan,
        )


async def delete(
    env: Environment, resource: Resource, namespace: str, name: str, options: DeleteOptions, actor: Actor
) -> Written:
    """Delete the object that has a name. `Written.deleted` tells whether it is gone already.

    Raises:
        StatusError: 404, 409 (preconditions), or what admission raises.
    """
    key = resource.storage.key(namespace, name)
    for _ in range(_ATTEMPTS):
        record = env.store.get(key)
        if record is None:
            raise status.not_found(resource.plural, resource.group, name)
        live = await from_stored(env, resource, record)
        _check_preconditions(resource, live, options)
        request = AdmissionRequest(DELETE, resource, "", namespace, name, None, live, actor)
        for waiting in (env.admission.mutate(request), env.admission.validate(request)):
            if waiting is not None:
                await waiting
        new, is_immediate = _begin(env, resource, live, options)
        try:
            if is_immediate:
                return await _remove(env, resource, key, record, new, actor)
            if new == live:
                return Written(record.value, live)
            value = await stored_form(env, resource, new)
            if actor.dry_run:
                return Written(objects.stamp(value, record.mod_revision), new)
            committed = await env.store.commit(key, value, expect=record.mod_revision)
        except Mismatch:
            await env.store.settle()
            continue
        return Written(committed.value, new)
    raise status.conflict(resource.plural, resource.group, name, status.STALE)


def _check_preconditions(resource: Resource, live: Object, options: DeleteOptions) -> None:
    found = live["metadata"]
    for wanted, label, actual in (
        (options.uid, "UID", found.get("uid")),
        (options.resource_version, "ResourceVersion", found.get("resourceVersion")),
    ):
        if wanted is not None and wanted != actual:
            why = (
                f"Precondition failed: {label} in precondition: {wanted}, {label} in object meta: {actual}"
                if label == "UID"
                else "the ResourceVersion in the precondition "
                f"({wanted}) does not match the ResourceVersion in record ({actual}). The object might "
                "have been modified"
            )
            raise status.conflict(resource.plural, resource.group, found["name"], why)


def _begin(env: Environment, resource: Resource, live: Object, options: DeleteOptions) -> tuple[Object, bool]:
    """The object with its deletion begun, and whether nothing holds it."""
    new = objects.copy(live)
    found = new["metadata"]
    finalizers = _finalizers(resource, list(found.get("finalizers") or ()), options)
    if finalizers:
        found["finalizers"] = finalizers
    else:
        found.pop("finalizers", None)
    grace = max(resource.strategy.grace_period(live, options.grace_period) or 0, 0)
    if found.get("deletionTimestamp"):
        # A second request may shorten the wait, never lengthen it.
        before = found.get("deletionGracePeriodSeconds") or 0
        if grace < before:
            asked = objects.seconds(found["deletionTimestamp"]) - before
            found["deletionTimestamp"] = objects.timestamp(asked + grace)
            found["deletionGracePeriodSeconds"] = grace
    else:
        holds = finalizers or resource.strategy.holds(new)
        if not grace and not holds:
            return new, True
        found["deletionTimestamp"] = objects.timestamp(env.now() + grace)
        found["deletionGracePeriodSeconds"] = grace
        if resource.strategy.has_generation and "generation" in found:
            found["generation"] += 1
        resource.strategy.begin_deletion(new)
    return new, updating.is_finished(resource, new)


def _finalizers(resource: Resource, finalizers: list[str], options: DeleteOptions) -> list[str]:
    """The finalizers that the propagation policy asks for; what none asks for is the object's own choice."""
    policy = options.propagation
    if options.orphan_dependents is not None:
        policy = "Orphan" if options.orphan_dependents else "Background"
    if not policy or not resource.strategy.has_dependents:
        return finalizers
    wanted = {"Orphan": ORPHAN, "Foreground": FOREGROUND}.get(policy)
    kept = [each for each in finalizers if each not in (ORPHAN, FOREGROUND) or each == wanted]
    if wanted is not None and wanted not in kept:
        kept.append(wanted)
    return kept


async def _remove(
    env: Environment, resource: Resource, key: bytes, record: Record, new: Object, actor: Actor
) -> Written:
    if not actor.dry_run:
        await env.store.commit(key, None, expect=record.mod_revision)
    return Written(record.value, new, deleted=True)
