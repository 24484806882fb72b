"""/portForward: connections to the loopback of a pod's network, whichever address its programs listen on.

A socket belongs to the network namespace of the thread that made it, and works from any: a thread of its own enters the
pod's, makes the socket, and ends.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final

from windlass.engine.rootfs import in_own_thread
from windlass.kernel.namespaces import CLONE_NEWNET, setns
from windlass.kube.node.runtime import PodRuntime
from windlass.kube.node.server.ask import Ask, refused
from windlass.kube.node.server.pods import PodFinder
from windlass.kube.streams import forwarding
from windlass.kube.streams.forwarding import Connection

_LOOPBACKS: Final = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


class PortForward:
    """See the module."""

    def __init__(self, finder: PodFinder) -> None:
        self._finder = finder

    async def __call__(self, ask: Ask) -> None:
        """GET and POST /portForward/{namespace}/{pod}[/{uid}]. Raises StatusError."""
        parts = ask.parts("/portForward/")
        if len(parts) not in (2, 3):
            raise refused(404, "404 page not found")
        pod = self._finder.pod(parts[0], parts[1])
        uid = pod["metadata"]["uid"]
        if len(parts) == 3 and parts[2] != uid:
            raise refused(404, "pod not found")
        runtime = self._finder.runtime
        if runtime.sandbox(uid) is None:
            raise refused(500, f"Internal error occurred: unable to forward port because pod {parts[1]} is not running")
        ports = [_port(text) for value in ask.options.texts("port") for text in value.split(",") if text]

        async def connect(port: int) -> Connection:
            return await _connect(runtime, uid, port)

        await forwarding.serve(ask.connection(), ports, connect, f"{uid}, uid ")


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise refused(400, f'unable to parse "{text}" as a port')
    return int(text)


async def _connect(runtime: PodRuntime, uid: str, port: int) -> Connection:
    sandbox = runtime.sandbox(uid)
    if sandbox is None:
        raise ConnectionRefusedError("the pod is not running")
    namespace = sandbox.netns
    failures = []
    for family, address in _LOOPBACKS:
        try:
            made = await asyncio.to_thread(_socket, namespace, family)
        except OSError as error:  # a host without IPv6, or a pod that ends just now
            failures.append(f"{address}: {_text(error)}")
            continue
        try:
            await asyncio.get_running_loop().sock_connect(made, (address, port))
            return await asyncio.open_connection(sock=made)
        except OSError as error:
            made.close()
            failures.append(f"{address}: {_text(error)}")
    where = f' inside namespace "{namespace}"' if namespace else ""
    raise ConnectionRefusedError(f"failed to connect to localhost:{port}{where}: {'; '.join(failures)}")


def _text(error: OSError) -> str:
    """The kernel's words: asyncio's repeat the address."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


def _socket(namespace: str | None, family: int) -> socket.socket:
    def make() -> socket.socket:
        if namespace is not None:
            place = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                setns(place, CLONE_NEWNET)
            finally:
                os.close(place)
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setblocking(False)
        return made

    return in_own_thread(make)
