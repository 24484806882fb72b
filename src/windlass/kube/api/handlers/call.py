"""One request to a resource, as the handlers see it."""

from __future__ import annotations

from typing import Any

from windlass.http import Request
from windlass.kube.api.identity import User
from windlass.kube.api.negotiation import PLAIN, Form
from windlass.kube.api.operations.environment import Actor, Environment
from windlass.kube.api.request import Options, RequestInfo
from windlass.kube.api.resource import Resource

MAX_BODY = 3 * 1024 * 1024
"""Bytes of a request's body, as upstream's limit."""
_LONGEST_MANAGER = 128


class Call:
    """A request, who asks, what is asked, and the answer's form.

    Attributes:
        extras: further headers of the answer (Warning, for one).
        body: the decoded body where a handler kept it for the audit log.
    """

    __slots__ = ("actor", "body", "env", "extras", "form", "info", "options", "request", "resource", "result")

    def __init__(
        self, env: Environment, request: Request, info: RequestInfo, options: Options, user: User, resource: Resource
    ) -> None:
        self.env = env
        self.request = request
        self.info = info
        self.options = options
        self.resource = resource
        self.form: Form = PLAIN
        self.actor = Actor(user)
        self.extras: list[tuple[str, str]] = []
        self.body: Any = None
        self.result: Any = None

    @property
    def namespace(self) -> str:
        """The namespace of the path, "" for resources of the whole cluster."""
        return self.info.namespace if self.resource.namespaced else ""

    def begin_write(self, kind: str) -> None:
        """Take over the options that all writes share; `kind` is that of the options ("CreateOptions").

        Raises:
            StatusError: 422, an option is none of the allowed ones.
        """
        self.actor.dry_run = self.options.dry_run
        self.actor.manager = self._manager()
        found: dict[str, Any] = {"kind": kind, "apiVersion": "meta.k8s.io/v1"}
        for name in ("fieldManager", "fieldValidation"):
            if text := self.options.text(name):
                found[name] = text
        if self.actor.dry_run:
            found["dryRun"] = ["All"]
        if self.options.given("force"):
            found["force"] = self.options.flag("force")
        self.actor.options = found

    def _manager(self) -> str:
        """The field manager: the option, or the program's name from the header User-Agent."""
        from windlass.kube.api import status

        text = self.options.text("fieldManager")
        if not text:
            return self.request.headers.get("user-agent", "").partition("/")[0][:_LONGEST_MANAGER] or "unknown"
        errors = []
        if len(text.encode()) > _LONGEST_MANAGER:
            errors.append(status.too_long("fieldManager", _LONGEST_MANAGER))
        if not text.isprintable():
            errors.append(status.invalid_value("fieldManager", text, "should only contain printable characters"))
        if errors:
            raise status.invalid(str(self.actor.options.get("kind", "PatchOptions")), "meta.k8s.io", "", errors)
        return text
