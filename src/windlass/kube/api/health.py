"""/healthz, /livez, /readyz: each check by name.

    GET /readyz            ok
    GET /readyz?verbose    [+]ping ok …
    GET /livez/ping        one check
    ?exclude=name          without one

Source: https://kubernetes.io/docs/reference/using-api/health-checks/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from windlass.http import Response

Check = Callable[[], str]
"""What is wrong, "" where nothing is."""

_TEXT = [
    ("Content-Type", "text/plain; charset=utf-8"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-cache, private"),
]


class Health:
    """The checks of a server. `live` decides /livez and /healthz; /readyz asks `ready` beside it."""

    def __init__(self, live: Mapping[str, Check], ready: Mapping[str, Check]) -> None:
        self._groups: dict[str, dict[str, Check]] = {
            "healthz": dict(live),
            "livez": dict(live),
            "readyz": {**live, **ready},
        }

    def answer(self, path: str, query: list[tuple[str, str]]) -> Response | None:
        """The answer to a path below these three; None where it is none."""
        group, _, name = path.strip("/").partition("/")
        checks = self._groups.get(group)
        if checks is None:
            return None
        if name:
            if name not in checks:
                return Response(404, _TEXT, b"404 page not found\n")
            problem = checks[name]()
            if problem:
                return Response(500, _TEXT, f"internal server error: {problem}\n".encode())
            return Response(200, _TEXT, b"ok")
        excluded = {value for key, value in query if key == "exclude"}
        verbose = any(key == "verbose" for key, _ in query)
        lines, failed = [], False
        for each, check in checks.items():
            if each in excluded:
                lines.append(f"[+]{each} excluded: ok")
                continue
            problem = check()
            failed = failed or bool(problem)
            lines.append(f"[-]{each} failed: reason withheld" if problem else f"[+]{each} ok")
        if failed:
            return Response(500, _TEXT, "\n".join([*lines, f"{group} check failed", ""]).encode())
        if verbose:
            return Response(200, _TEXT, "\n".join([*lines, f"{group} check passed", ""]).encode())
        return Response(200, _TEXT, b"ok")
