"""Process 1 of a pod with shareProcessNamespace: a container of its own that holds the PID namespace for the others.

It has no image: its root file system is empty but for the program. It is made before the pod's first container, lives
as long as the pod, and reaps what the containers leave behind.

Source: https://kubernetes.io/docs/tasks/configure-pod-container/share-process-namespace/
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

from windlass.engine.container import Container
from windlass.engine.sandboxes import Sandbox
from windlass.errors import SystemFailure
from windlass.kube.node import runtime
from windlass.kube.node.runtime import PodRuntime
from windlass.runtime import tiny_pause

Object = dict[str, Any]

_PATH: Final = "/pause"
_USER: Final = "65535:65535"
_LAST_TO_GO: Final = -998


class ProcessRoots:
    """All pods'. The program is written to `directory`."""

    def __init__(self, runtime: PodRuntime, directory: Path, lowest_oom_score: int) -> None:
        self._runtime = runtime
        self._oom_score = max(_LAST_TO_GO, lowest_oom_score)
        self._directory = directory

    async def ensure(self, pod: Object, sandbox: Sandbox, cgroup: str) -> str:
        """The running container that holds the pod's PID namespace; its id. Raises WindlassError."""
        uid = pod["metadata"]["uid"]
        for found in self._runtime.process_roots(uid):
            if found.state.running and found.sandbox == sandbox.id:
                return found.id
            await self._runtime.remove(found.id)
        program = await asyncio.to_thread(tiny_pause.PROGRAM.write, str(self._directory))
        if program is None:
            raise SystemFailure(f"there is no pause program for this machine type, {os.uname().machine}")
        identity = await self._runtime.create(sandbox, sandbox.name, _body(sandbox, program, cgroup, self._oom_score))
        await self._runtime.start(identity)
        return identity

    async def remove(self, uid: str) -> None:
        """End a pod's. Raises WindlassError."""
        found: Container
        for found in self._runtime.process_roots(uid):
            await self._runtime.remove(found.id)


def _body(sandbox: Sandbox, program: str, cgroup: str, oom_score: int) -> Object:
    return {
        "Image": "",
        "Entrypoint": [_PATH],
        "User": _USER,
        "Labels": {
            **sandbox.labels,
            runtime.CONTAINER_NAME: runtime.PROCESS_ROOT_NAME,
            runtime.CONTAINER_KIND: runtime.PROCESS_ROOT,
        },
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "CgroupParent": cgroup,
            "CpuShares": 2,
            "OomScoreAdj": oom_score,
            "LogConfig": {"Type": "none"},
            "Mounts": [{"Type": "bind", "Source": program, "Target": _PATH, "ReadOnly": True}],
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges=true"],
        },
    }
