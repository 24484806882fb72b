"""From a container's record to the OCI runtime configuration, with exactly dockerd's defaults. Pure.

`build(request)` looks at nothing but its argument: what has to be looked up first (the user's numbers, device nodes,
where volumes are, which namespaces to join) is in the request, so every default is a table of tests.

    Config ───────────────┐
    HostConfig ───────────┤                    ┌─ process   args env cwd user capabilities rlimits
    mounts (looked up) ───┼──▶ SpecRequest ──▶ ├─ mounts    /proc /dev … then the user's, parents first
    user, devices, … ─────┘                    └─ linux     namespaces resources devices masks sysctls

The OCI runtime specification: config.md and config-linux.md.
"""

from __future__ import annotations

from windlass.engine.spec.build import SpecRequest, build
from windlass.engine.spec.defaults import default_masked_paths, default_readonly_paths
from windlass.engine.spec.mounts import UserMount
from windlass.engine.spec.resources import linux_resources

__all__ = [
    "SpecRequest",
    "UserMount",
    "build",
    "default_masked_paths",
    "default_readonly_paths",
    "linux_resources",
]
