"""The docker command line bound to an engine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

from support.engine import PrivateEngine

Docker = Callable[..., subprocess.CompletedProcess[str]]


def bound_to(engine: PrivateEngine) -> Docker:
    """`docker("run", "--rm", "busybox", "true")`; `check=False` to look at a failure, `input="…"` for its input."""

    def run(
        *arguments: str, check: bool = True, timeout: float = 60, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        if "input" not in options:
            options["stdin"] = subprocess.DEVNULL
        done = subprocess.run(
            ["docker", *arguments],
            env=engine.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            **options,
        )
        if check and done.returncode:
            told = f"{done.stdout}{done.stderr}\n{engine.tail()}"
            raise AssertionError(f"docker {' '.join(arguments)}: {done.returncode}\n{told}")
        return done

    return run
