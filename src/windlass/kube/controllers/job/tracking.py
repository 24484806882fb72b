"""Counting pods that have ended: exactly once each, also where the controller dies in between.

    pod ended, with finalizer ─▶ status.uncountedTerminatedPods ─▶ finalizer removed ─▶ status.succeeded / failed

A pod stays until its finalizer is gone, and it is in the list before that: so what is in the list and has no finalizer
any longer is counted, and what is not in it yet cannot have gone.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/#job-tracking-with-finalizers
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from windlass.kube.api.resource import Object
from windlass.kube.controllers.job import indexes, pods

_KINDS = ("succeeded", "failed")


def uncounted(status: Object) -> dict[str, set[str]]:
    """The uids of pods that are in the list."""
    found = status.get("uncountedTerminatedPods") or {}
    return {kind: set(found.get(kind) or ()) for kind in _KINDS}


def settle(status: Object, by_uid: Mapping[str, Object]) -> None:
    """Count what is in the list and has lost its finalizer, or is gone."""
    left: Object = {}
    for kind, uids in uncounted(status).items():
        waiting = {uid for uid in uids if uid in by_uid and pods.is_tracked(by_uid[uid])}
        if counted := len(uids) - len(waiting):
            status[kind] = int(status.get(kind) or 0) + counted
        if waiting:
            left[kind] = sorted(waiting)
    status["uncountedTerminatedPods"] = left


def enlist(status: Object, succeeded: Iterable[Object], failed: Iterable[Object]) -> None:
    """Put pods that have ended into the list."""
    listed = uncounted(status)
    listed["succeeded"] |= {each["metadata"]["uid"] for each in succeeded}
    listed["failed"] |= {each["metadata"]["uid"] for each in failed}
    status["uncountedTerminatedPods"] = {kind: sorted(uids) for kind, uids in listed.items() if uids}


def completed(status: Object, spec: Object, succeeded: Sequence[Object]) -> indexes.Indexes:
    """The indexes that are done, with those of pods that have just succeeded."""
    before = indexes.parse(status.get("completedIndexes"), int(spec["completions"]))
    own = (pods.index_of(each) for each in succeeded)
    return before | {each for each in own if each is not None and each < int(spec["completions"])}
