"""postStart and preStop: what a container's lifecycle hooks do.

Source: https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from windlass.errors import WindlassError
from windlass.kube.node import handlers
from windlass.kube.node.handlers import Answer

Object = dict[str, Any]


async def run(
    hook: Object, container: Object, address: str, execute: Callable[[list[str]], Awaitable[tuple[int, bytes]]]
) -> Answer:
    """Run a hook to its end."""
    if (sleep := hook.get("sleep")) is not None:
        await asyncio.sleep(sleep.get("seconds") or 0)
        return Answer(True, "")
    if action := hook.get("httpGet"):
        return await handlers.http(container, action, address)
    if action := hook.get("tcpSocket"):
        return await handlers.tcp(container, action, address)
    command = list((hook.get("exec") or {}).get("command") or ())
    if not command:
        return Answer(False, f"invalid handler: {', '.join(hook) or 'it is empty'}")
    try:
        code, output = await execute(command)
    except WindlassError as error:
        return Answer(False, str(error))
    if code == 0:
        return Answer(True, "")
    shown = output.decode(errors="replace")
    return Answer(False, f"command '{' '.join(command)}' exited with {code}: {shown}")
