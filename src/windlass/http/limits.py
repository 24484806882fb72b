"""What one client may take: sizes, counts and seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a server. Sizes are bytes, times are seconds; `None` means no bound."""

    head_size: int = 128 * 1024  # request line and fields together; registry credentials travel in fields
    head_fields: int = 200
    head_timeout: float = 60.0  # from the first byte of a head to its last (slow loris)
    idle_timeout: float | None = 900.0  # between requests on a kept connection
    body_timeout: float | None = 60.0  # no byte of a body that a handler wants at once, as by `Request.read`
    linger_timeout: float = 1.0  # how long bytes are thrown away after the last answer, so that it is not lost
    connections: int = 10_000  # above: the longest idle connection is closed, or the new one gets 503
    buffer: int = 256 * 1024  # bytes held for a handler or a slow client before we stop reading or producing
