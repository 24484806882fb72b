"""System call filters, compiled once: `<exec-root>/seccomp/<sha256>.bpf`.

The default filter depends on the capabilities only, so nearly all containers of a host share one file. A profile of the
user's is compiled when it is first seen. The file's name is the digest of what is in it; it is written whole and
renamed, so two starts at once are no matter, and a file that is there is right.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from windlass.engine.security import BUILTIN, UNCONFINED
from windlass.errors import InvalidParameter, SystemFailure
from windlass.kernel import seccomp

Document = dict[str, Any]


class Filters:
    """The compiled filters of one engine. `default` is the daemon's `--seccomp-profile`."""

    def __init__(self, directory: Path, *, default: str) -> None:
        self._directory = directory
        self._default = default
        self._paths: dict[tuple[str, frozenset[str]], str] = {}

    def profile_of(self, option: str, *, privileged: bool) -> str:
        """Which profile applies: `unconfined`, `builtin`, or the text of one. Raises `SystemFailure`.

        `option` is the container's `--security-opt seccomp=`.
        """
        if option:
            return option
        if privileged or self._default == UNCONFINED:
            return UNCONFINED
        if self._default in {"", BUILTIN}:
            return BUILTIN
        try:
            return Path(self._default).read_text()
        except OSError as error:
            raise SystemFailure(f"opening seccomp profile ({self._default}) failed: {error}") from None

    def document(self, profile: str, capabilities: Collection[str]) -> Document | None:
        """The OCI `linux.seccomp` of a profile, None for unconfined. Raises `InvalidParameter`."""
        if profile == UNCONFINED:
            return None
        if profile == BUILTIN:
            return seccomp.default_profile(capabilities)
        try:
            return seccomp.load_profile(profile, capabilities)
        except ValueError as error:
            raise InvalidParameter(str(error)) from None

    def path(self, profile: str, capabilities: Collection[str]) -> str | None:
        """The file with the compiled filter, None for unconfined. Raises `InvalidParameter`, `SystemFailure`."""
        if profile == UNCONFINED:
            return None
        key = (profile, frozenset(capabilities))
        known = self._paths.get(key)
        # The exec root is emptied at boot, and sometimes by hand.
        if known is None or not os.path.exists(known):
            document = self.document(profile, capabilities)
            if document is None:
                return None
            try:
                known = self._write(seccomp.compile_filter(document))
            except ValueError as error:
                raise InvalidParameter(f"invalid seccomp profile: {error}") from None
            except OSError as error:
                raise SystemFailure(str(error)) from error
            self._paths[key] = known
        return known

    def _write(self, program: bytes) -> str:
        path = self._directory / f"{hashlib.sha256(program).hexdigest()}.bpf"
        if not path.exists():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_bytes(program)
            temporary.replace(path)
        return str(path)
