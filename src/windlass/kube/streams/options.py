"""The options of a pod's log and of a command's streams, as they stand in a query. Pure.

Source: PodLogOptions, PodExecOptions and PodAttachOptions of
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from windlass.kube.api import status, times
from windlass.kube.api.request import Options

_STREAMS: Final = ("All", "Stderr", "Stdout")
_KIND: Final = "PodLogOptions"


@dataclass(frozen=True, kw_only=True, slots=True)
class LogOptions:
    """Attributes:

    since: seconds since 1970, None for all; it comes from sinceTime.
    since_seconds: the same, counted back from now.
    tail: the last so many lines, None for all; `limit`: so many bytes at most.
    """

    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since: float | None = None
    since_seconds: int | None = None
    tail: int | None = None
    limit: int | None = None
    stream: str = "All"
    insecure: bool = False

    def query(self) -> list[tuple[str, str]]:
        """What a kubelet is asked."""
        found = [(name, "true") for name in ("follow", "previous", "timestamps") if getattr(self, name)]
        if self.since is not None:
            found.append(("sinceTime", times.format_time(self.since)))
        for name, value in (
            ("sinceSeconds", self.since_seconds),
            ("tailLines", self.tail),
            ("limitBytes", self.limit),
        ):
            if value is not None:
                found.append((name, str(value)))
        return [*found, ("stream", self.stream)]


def log_options(options: Options, name: str) -> LogOptions:
    """The options of the log of a pod.

    Raises:
        StatusError: 400 (no such value), 422 (against the rules).
    """
    since: float | None = None
    if text := options.text("sinceTime"):
        try:
            since = times.parse_time(text)
        except ValueError as error:
            raise status.bad_request(str(error)) from None
    found = LogOptions(
        container=options.text("container"),
        follow=options.flag("follow"),
        previous=options.flag("previous"),
        timestamps=options.flag("timestamps"),
        since=since,
        since_seconds=options.number("sinceSeconds"),
        tail=options.number("tailLines"),
        limit=options.number("limitBytes"),
        stream=options.text("stream") or "All",
        insecure=options.flag("insecureSkipTLSVerifyBackend"),
    )
    if errors := _errors(found):
        raise status.invalid(_KIND, "", name, errors)
    return found


def _errors(found: LogOptions) -> list[status.FieldError]:
    errors = []
    if found.tail is not None and found.tail < 0:
        errors.append(status.invalid_value("tailLines", found.tail, "must be greater than or equal to 0"))
    if found.limit is not None and found.limit < 1:
        errors.append(status.invalid_value("limitBytes", found.limit, "must be greater than 0"))
    if found.since is not None and found.since_seconds is not None:
        text = "at most one of `sinceTime` or `sinceSeconds` may be specified"
        errors.append(status.forbidden_field("", text))
    elif found.since_seconds is not None and found.since_seconds < 1:
        errors.append(status.invalid_value("sinceSeconds", found.since_seconds, "must be greater than 0"))
    if found.stream not in _STREAMS:
        errors.append(status.not_supported("stream", found.stream, list(_STREAMS)))
    elif found.stream != "All" and found.tail is not None:
        text = "`tailLines` and specific `stream` are mutually exclusive for now"
        errors.append(status.forbidden_field("", text))
    return errors


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The streams of a command that a client wants. With a terminal there is one output."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False

    def query(self) -> list[tuple[str, str]]:
        """What a kubelet is asked."""
        pairs = (("input", self.stdin), ("output", self.stdout), ("error", self.stderr), ("tty", self.tty))
        return [(name, "1") for name, wanted in pairs if wanted]


def wanted_of_client(options: Options) -> Wanted:
    """As a client asks the API server. Raises StatusError: 400."""
    return _checked(options, "stdin", "stdout", "stderr")


def wanted_of_server(options: Options) -> Wanted:
    """As an API server asks a kubelet. Raises StatusError: 400."""
    return _checked(options, "input", "output", "error")


def _checked(options: Options, stdin: str, stdout: str, stderr: str) -> Wanted:
    tty = options.flag("tty")
    found = Wanted(
        stdin=options.flag(stdin),
        stdout=options.flag(stdout),
        stderr=options.flag(stderr) and not tty,
        tty=tty,
    )
    if not (found.stdin or found.stdout or found.stderr):
        raise status.bad_request("you must specify at least 1 of stdin, stdout, stderr")
    return found
