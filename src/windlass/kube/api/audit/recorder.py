"""One request's audit events: what the policy wants of it, at the stages where it wants it.

Source: https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson

from windlass.kube.api import objects, times
from windlass.kube.api.audit.policy import Choice, Policy
from windlass.kube.api.identity import Attributes, User

Sink = Callable[[dict[str, Any]], None]


class Recorder:
    """Writes the events of a server's requests to a sink."""

    def __init__(self, policy: Policy, sink: Sink, now: Callable[[], float] = time.time) -> None:
        self._policy = policy
        self._sink = sink
        self._now = now

    def begin(self, asked: Attributes, target: str, source: str, agent: str, impersonator: User | None) -> Entry | None:
        """A request was received; None where nothing is recorded of it."""
        choice = self._policy.choose(asked)
        if choice.level == "None":
            return None
        user = impersonator or asked.user
        event: dict[str, Any] = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": choice.level,
            "auditID": objects.new_uid(),
            "stage": "RequestReceived",
            "requestURI": target,
            "verb": asked.verb,
            "user": user.to_json(),
            "sourceIPs": [source],
            "userAgent": agent,
            "requestReceivedTimestamp": times.format_micro_time(self._now()),
        }
        if impersonator is not None:
            event["impersonatedUser"] = asked.user.to_json()
        if asked.is_resource:
            reference = {
                "resource": asked.resource,
                "namespace": asked.namespace,
                "name": asked.name,
                "apiGroup": asked.group,
                "apiVersion": asked.version,
                "subresource": asked.subresource,
            }
            event["objectRef"] = {name: value for name, value in reference.items() if value}
        entry = Entry(self, choice, event)
        entry.stage("RequestReceived")
        return entry

    def write(self, event: dict[str, Any]) -> None:
        """Stamp and write an event."""
        self._sink({**event, "stageTimestamp": times.format_micro_time(self._now())})


class Entry:
    """What is recorded of one request."""

    def __init__(self, recorder: Recorder, choice: Choice, event: dict[str, Any]) -> None:
        self._recorder = recorder
        self._choice = choice
        self._event = event

    @property
    def id(self) -> str:
        """The audit ID, which the client sees in a header."""
        return str(self._event["auditID"])

    def stage(self, stage: str) -> None:
        """Write the event at a stage, if the policy wants it."""
        self._event["stage"] = stage
        if self._choice.records(stage):
            self._recorder.write(self._event)

    def request(self, body: Any) -> None:
        """The request's object."""
        if self._choice.level in ("Request", "RequestResponse") and body is not None:
            self._event["requestObject"] = self._trimmed(body)

    def complete(
        self, code: int, body: bytes, annotations: dict[str, str], message: str = "", reason: str = ""
    ) -> None:
        """The answer was made."""
        found: dict[str, Any] = {"metadata": {}, "code": code}
        if code >= 400:
            found.update(status="Failure", message=message, reason=reason)
        self._event["responseStatus"] = found
        if annotations:
            self._event["annotations"] = dict(annotations)
        if self._choice.level == "RequestResponse" and body[:1] == b"{":
            self._event["responseObject"] = self._trimmed(orjson.loads(body))
        self.stage("ResponseComplete")

    def _trimmed(self, body: Any) -> Any:
        if self._choice.omit_managed_fields and isinstance(body, dict) and isinstance(body.get("metadata"), dict):
            metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
            return {**body, "metadata": metadata}
        return body
