"""OCI runtimes by name: our own, those of daemon.json, and well-known ones that are installed.

windlass                  our own, the default
io.containerd.runc.v2     our own: the name by which Docker's API calls "the usual one"
<name>                    from `runtimes` in daemon.json or --add-runtime: path and arguments
runc crun kata-runtime runsc youki   the program of that name, if it is on the PATH
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from windlass.engine.settings import EngineSettings
from windlass.errors import InvalidParameter

OWN: Final = "windlass"
_OWN_NAMES: Final = frozenset({OWN, "io.containerd.runc.v2"})
WELL_KNOWN: Final = ("crun", "kata-runtime", "runc", "runsc", "youki")


class Runtime(NamedTuple):
    """A runtime that a container can be run by; `path` is empty for our own."""

    name: str
    path: str = ""
    args: tuple[str, ...] = ()

    @property
    def own(self) -> bool:
        """Whether it is ours."""
        return not self.path


class Runtimes:
    """The runtimes of this host. `which` finds a program on the PATH."""

    def __init__(self, settings: EngineSettings, *, which: Callable[[str], str | None] = shutil.which) -> None:
        self._which = which
        self._configured: dict[str, Runtime] = {}
        for name, options in settings.runtimes.items():
            self._configured[name] = _configured(name, options)
        self.default = settings.default_runtime or OWN

    def find(self, name: str) -> Runtime:
        """The runtime called `name`, or the default for "". Raises `InvalidParameter`."""
        name = name or self.default
        if (runtime := self._configured.get(name)) is not None:
            if runtime.path and self._which(runtime.path) is None:
                raise InvalidParameter(
                    "error while looking up the specified runtime path: "
                    f'exec: "{runtime.path}": executable file not found in $PATH'
                )
            return runtime
        if name in _OWN_NAMES:
            return Runtime(name)
        if name in WELL_KNOWN and (path := self._which(name)):
            return Runtime(name, path)
        raise InvalidParameter(f"unknown or invalid runtime name: {name}")

    def describe(self) -> dict[str, dict[str, Any]]:
        """The `Runtimes` of `docker info`."""
        found = [Runtime(name, path) for name in WELL_KNOWN if (path := self._which(name))]
        shown = {OWN: Runtime(OWN), "io.containerd.runc.v2": Runtime("io.containerd.runc.v2")}
        shown |= {runtime.name: runtime for runtime in found} | self._configured
        return {
            name: {"path": runtime.path or OWN} | ({"runtimeArgs": list(runtime.args)} if runtime.args else {})
            for name, runtime in sorted(shown.items())
        }


def _configured(name: str, options: Any) -> Runtime:
    path = options.get("path") or ""
    if not path and options.get("runtimeType"):
        kind = str(options["runtimeType"])
        binary = (options.get("options") or {}).get("BinaryName", "")
        if binary:
            path = binary
        elif kind in _OWN_NAMES:
            return Runtime(name)
        else:
            raise InvalidParameter(f"runtime {name}: runtimeType {kind} needs a shim of containerd, which is not used")
    if not path:
        raise InvalidParameter(f"runtime {name}: either a runtimeType or a path must be configured")
    return Runtime(name, path, tuple(options.get("runtimeArgs") or options.get("args") or ()))
