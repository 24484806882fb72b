"""A request to a kubelet, be it its own HTTPS or the API server's of the same process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from windlass.http import Request
from windlass.kube.api.request import Options
from windlass.kube.api.status import StatusError


@dataclass(frozen=True, slots=True)
class Ask:
    """Attributes:

    request: the client's, whose connection a stream takes over; None where somebody in the process reads a page.
    """

    method: str
    path: str
    query: Sequence[tuple[str, str]]
    request: Request | None = None

    @property
    def options(self) -> Options:
        """The query."""
        return Options(list(self.query))

    def parts(self, below: str) -> list[str]:
        """What follows in the path, segment by segment."""
        return [part for part in self.path.removeprefix(below).split("/") if part]

    def connection(self) -> Request:
        """The client's request, for what is more than a page. Raises StatusError: 400."""
        if self.request is None:
            raise StatusError(400, "BadRequest", "Upgrade request required")
        return self.request


def refused(code: int, message: str) -> StatusError:
    """A refusal as kubelets say it: a code and a text."""
    reasons = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed"}
    return StatusError(code, reasons.get(code, "InternalError"), message)
