"""The HTTP/1.1 server with upgrades and hijacked streams that the APIs stand on.

No library does what both APIs need together: raw streams with half-close in both directions, upgrades that find the
bytes already read, bodies and answers of any length with back-pressure, client certificates, and speed. So this is a
small server of our own on asyncio's sockets, with httptools (llhttp) reading the heads.

    listeners   sockets: unix (made atomically with their mode), tcp, inherited from systemd
        │
    server      accepts, counts, sweeps deadlines, shuts down          tls   TLS over memory BIOs, half-close safe
        │
    connection  one per socket: head → handler → answer, in order; or, once hijacked, a `Duplex`
        │
    head        request line and fields (httptools)       framing   bodies: by length, chunked (pure functions)
        │
    message     Request, Response, StreamResponse: what a handler sees and gives       websocket  over a `Duplex`

Specifications: RFC 9110 (semantics), RFC 9112 (HTTP/1.1), RFC 6455 (WebSocket).
"""

from windlass.http.duplex import Duplex
from windlass.http.limits import Limits
from windlass.http.message import Handler, Request, Response, StreamResponse
from windlass.http.server import Server

__all__ = ["Duplex", "Handler", "Limits", "Request", "Response", "Server", "StreamResponse"]
