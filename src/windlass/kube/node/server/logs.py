"""/containerLogs: what a container has printed, of the run that goes on or was the last, or of the one before.

Source: https://kubernetes.io/docs/concepts/cluster-administration/logging/
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from windlass.errors import WindlassError
from windlass.http import StreamResponse
from windlass.kube.api.status import StatusError
from windlass.kube.node.runtime import Found
from windlass.kube.node.server.ask import Ask, refused
from windlass.kube.node.server.pods import PodFinder, spec_of, status_of
from windlass.kube.streams.options import LogOptions, log_options
from windlass.logs.entry import LogEntry
from windlass.logs.frames import format_time

Object = dict[str, Any]
_SECOND = 10**9


class ContainerLogs:
    """See the module."""

    def __init__(self, finder: PodFinder) -> None:
        self._finder = finder

    async def __call__(self, ask: Ask) -> StreamResponse:
        """GET /containerLogs/{namespace}/{pod}/{container}. Raises StatusError."""
        parts = ask.parts("/containerLogs/")
        if len(parts) != 3:
            raise refused(404, "404 page not found")
        namespace, name, container = parts
        options = log_options(ask.options, name)
        pod = self._finder.pod(namespace, name, f'pod "{name}" does not exist')
        if spec_of(pod, container) is None:
            raise refused(404, f'container "{container}" not found in pod "{name}"')
        run = chosen(
            self._finder.attempts(pod, container), status_of(pod, container), container, name, previous=options.previous
        )
        since = int(options.since * _SECOND) if options.since is not None else 0
        if options.since_seconds is not None:
            since = time.time_ns() - options.since_seconds * _SECOND
        try:
            batches = await self._finder.runtime.engine.container_logs(
                run.id,
                follow=options.follow,
                stdout=options.stream != "Stderr",
                stderr=options.stream != "Stdout",
                since=since,
                until=None,
                tail=-1 if options.tail is None else options.tail,
                details=False,
            )
        except WindlassError as error:
            raise refused(400, str(error)) from None
        return StreamResponse(200, [("Content-Type", "text/plain")], _rendered(batches, options))


def chosen(attempts: Sequence[Found], known: Object, container: str, pod: str, *, previous: bool) -> Found:
    """The run whose log is asked for. Pure.

    Raises:
        StatusError: 400, there is none, and why.
    """
    runs = [each for each in attempts if each.was_started or each.failure]
    if previous:
        last = (known.get("lastState") or {}).get("terminated") or {}
        identity = str(last.get("containerID", "")).rpartition("/")[2]
        ended = [each for each in runs if each.id == identity] or [each for each in runs[:-1] if each.ended]
        if not ended:
            raise _missing(f'previous terminated container "{container}" in pod "{pod}" not found')
        return ended[-1]
    if runs:
        return runs[-1]
    about = f'container "{container}" in pod "{pod}" is'
    state = known.get("state") or {}
    if "terminated" in state:
        raise _missing(f"{about} terminated")
    reason = (state.get("waiting") or {}).get("reason")
    if not known or not state:
        raise _missing(f'container "{container}" in pod "{pod}" is not available')
    match reason:
        case "ErrImagePull":
            raise _missing(f"{about} waiting to start: image can't be pulled")
        case "ImagePullBackOff":
            raise _missing(f"{about} waiting to start: trying and failing to pull image")
        case None:
            raise _missing(f"{about} waiting to start - no logs yet")
        case _:
            raise _missing(f"{about} waiting to start: {reason}")


def _missing(message: str) -> StatusError:
    return refused(400, message)


async def _rendered(batches: AsyncIterator[Sequence[LogEntry]], options: LogOptions) -> AsyncIterator[bytes]:
    left = options.limit
    lines = _Lines(timestamps=options.timestamps)
    try:
        async for batch in batches:
            data = lines.render(batch)
            if left is not None:
                data = data[:left]
                left -= len(data)
            yield data
            if left == 0:
                return
    finally:
        close = getattr(batches, "aclose", None)
        if close is not None:
            await close()


class _Lines:
    """Entries as text. A long line comes in several entries; its time stands before it once."""

    def __init__(self, *, timestamps: bool) -> None:
        self._timestamps = timestamps
        self._is_new = {"stdout": True, "stderr": True}

    def render(self, batch: Sequence[LogEntry]) -> bytes:
        """The text of some entries."""
        if not self._timestamps:
            return b"".join([entry.line for entry in batch])
        parts = []
        for entry in batch:
            if self._is_new[entry.stream]:
                parts.append(format_time(entry.time_ns, fixed=True).encode() + b" ")
            parts.append(entry.line)
            self._is_new[entry.stream] = entry.line.endswith(b"\n")
        return b"".join(parts)
