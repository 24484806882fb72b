"""SPDY/3.1: many streams on one connection, as Kubernetes' older clients speak it after an HTTP/1.1 upgrade.

frames    bytes to frames and back (pure)
session   a connection's streams, over anything that carries bytes both ways: a hijacked connection, a WebSocket

Nobody who speaks this to us counts windows (moby/spdystream ignores WINDOW_UPDATE), so neither do we: a stream whose
data nobody takes holds the connection back instead.

Specification: https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/
"""

from windlass.http.spdy.frames import SPDYError
from windlass.http.spdy.session import ByteStream, Session, Stream

__all__ = ["ByteStream", "SPDYError", "Session", "Stream"]
