"""The typed errors that every room raises and the edges translate once.

Each class stands for one answer that a client can act on; `windlass.api.docker` maps it to the Engine API's status
code, `windlass.cli` to an exit code. Kernel rooms raise plain `OSError` with the path or object in it; a room above
turns it into one of these where the cause is the caller's.
"""

from __future__ import annotations


class WindlassError(Exception):
    """Something failed; `str(error)` is the message that the client reads."""


class InvalidParameter(WindlassError):
    """The request itself is wrong (HTTP 400)."""


class Unauthorized(WindlassError):
    """Credentials are missing or wrong (HTTP 401)."""


class Forbidden(WindlassError):
    """The request is understood and refused (HTTP 403)."""


class NotFound(WindlassError):
    """The named object does not exist (HTTP 404)."""


class Conflict(WindlassError):
    """The object's state does not allow the request (HTTP 409)."""


class NotModified(WindlassError):
    """Nothing to do: the object is already in the wanted state (HTTP 304)."""


class NotImplementedByEngine(WindlassError):
    """The request is valid, but this engine or this host cannot serve it (HTTP 501)."""


class Unavailable(WindlassError):
    """A needed part is not there now (HTTP 503)."""


class SystemFailure(WindlassError):
    """The host or a file failed us (HTTP 500)."""
