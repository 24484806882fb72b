"""AppArmor profiles and SELinux labels of containers, where the kernel has them; an error if asked for and absent."""

from __future__ import annotations

import asyncio
from typing import Final

from windlass.engine.container import Container
from windlass.engine.core import Core
from windlass.engine.security import UNCONFINED, SecurityOptions
from windlass.errors import InvalidParameter, SystemFailure
from windlass.kernel import apparmor, lsm

DEFAULT_PROFILE: Final = "docker-default"
_PARTS: Final = {"user": 0, "role": 1, "type": 2, "level": 3}


class Labels:
    """Chooses labels."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def apparmor_profile(self, container: Container) -> str:
        """The profile of a container's processes, "" without AppArmor. Raises `SystemFailure`."""
        wanted = container.security.apparmor
        if not self._core.host.apparmor:
            if wanted and wanted != UNCONFINED:
                raise SystemFailure(f'AppArmor is not enabled on this host, so there is no profile "{wanted}"')
            return ""
        if wanted:
            return wanted
        if container.host_config["Privileged"]:
            return UNCONFINED
        try:
            # Each time: whoever reloads the host's profiles unloads those that stand in no file.
            await asyncio.to_thread(apparmor.ensure_default_profile, DEFAULT_PROFILE)
        except OSError as error:
            raise SystemFailure(
                f"AppArmor enabled on system but the {DEFAULT_PROFILE} profile could not be loaded: {error}"
            ) from error
        return DEFAULT_PROFILE


def selinux_labels(options: SecurityOptions, *, enabled: bool) -> tuple[str, str]:
    """Process and mount label by `--security-opt label=…`. Raises `InvalidParameter`."""
    if "disable" in options.labels or not enabled:
        return "", ""
    process = ["system_u", "system_r", "container_t", "s0"]
    mount = ["system_u", "object_r", "container_file_t", "s0"]
    for option in options.labels:
        name, _, value = option.partition(":")
        if name == "filetype":
            mount[2] = value
        elif name in _PARTS and value:
            process[_PARTS[name]] = value
            if name in {"user", "level"}:
                mount[_PARTS[name]] = value
        else:
            raise InvalidParameter(f'Bad label option "{option}"')
    for label in (process, mount):
        lsm.check_context(":".join(label))
    return ":".join(process), ":".join(mount)
