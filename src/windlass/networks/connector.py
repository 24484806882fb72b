"""Sandboxes and what is plugged into them: where prepared ones come from, and how interfaces come and go.

```
 take      prepared, default bridge plugged in   ─┐
           prepared, empty; then plug             ├─▶ sandbox, plug        (a container is about to start)
           made on the spot (IPv6)               ─┘
 join      a running container gets one more interface        leave    it loses one
 route     which of its networks is the way out
```
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

from windlass.kernel.netlink import link, route
from windlass.kernel.netlink.connection import Message, NetlinkSocket
from windlass.networks.drivers.bridge import BridgeNetwork
from windlass.networks.drivers.driver import Driver, Plug, PlugRequest
from windlass.networks.pool import WarmPool
from windlass.networks.reaper import remove
from windlass.networks.sandbox import Sandbox, Sandboxes
from windlass.networks.settings import Names

T = TypeVar("T")

_PLAIN_LIMIT = 4
_SHARE = 8


class Prepared(NamedTuple):
    """A sandbox that is plugged into the default bridge already."""

    sandbox: Sandbox
    plug: Plug


class Connector:
    """Makes and changes the sandboxes of one daemon."""

    def __init__(
        self,
        netlink: NetlinkSocket,
        sandboxes: Sandboxes,
        run: Callable[..., Awaitable[Any]],
        *,
        names: Names,
        limit: int,
    ) -> None:
        """`run` calls a function in a thread; `limit` bounds how many sandboxes wait prepared."""
        self._netlink, self._sandboxes, self._run, self._names = netlink, sandboxes, run, names
        self._default: BridgeNetwork | None = None
        self._plain = WarmPool("sandbox", sandboxes.make, self._discard, limit=min(limit, _PLAIN_LIMIT))
        self._plugged = WarmPool("plugged sandbox", self._prepare, self._discard_prepared, limit=limit)
        # The one thread that steps into running containers' namespaces.
        self._visitor = ThreadPoolExecutor(1, thread_name_prefix="sandbox-visitor")

    def set_default(self, network: BridgeNetwork) -> None:
        """The network for which sandboxes are prepared, before the first is taken."""
        self._default = network
        # What waits prepared has addresses that others may want.
        self._plugged.limit = min(self._plugged.limit, network.capacity // _SHARE)

    # -- before a container starts

    async def take(self, driver: Driver, request: PlugRequest, *, ipv6: bool) -> tuple[Sandbox, Plug]:
        """A sandbox with an interface of the network. Raises WindlassError, OSError."""
        if driver is self._default and request == PlugRequest():
            prepared = await _taken(self._plugged.take())
            return prepared.sandbox, prepared.plug
        # Nothing that is prepared has IPv6, except for the default bridge.
        sandbox = (
            await self._run(partial(self._sandboxes.make, ipv6=True)) if ipv6 else await _taken(self._plain.take())
        )
        try:
            return sandbox, await self._run(driver.plug, sandbox, request)
        except BaseException:
            await self._run(self._discard, sandbox)
            raise

    async def drop(self, sandbox: Sandbox) -> None:
        """Give up a sandbox that no container has used; its links are left to the reaper. Raises OSError."""
        await self._run(self._discard, sandbox)

    async def remove(self, path: str) -> None:
        """A container has ended: its sandbox goes; its links are left to the reaper. Raises OSError, ValueError."""
        await self._run(self._sandboxes.remove, path)

    def _prepare(self) -> Prepared:
        assert self._default is not None
        sandbox = self._sandboxes.make(ipv6=self._default.config.ipv6 is not None)
        try:
            return Prepared(sandbox, self._default.plug(sandbox, PlugRequest()))
        except BaseException:
            self._discard(sandbox)
            raise

    def _discard(self, sandbox: Sandbox) -> None:
        sandbox.close()
        self._sandboxes.remove(sandbox.path)

    def _discard_prepared(self, *prepared: Prepared) -> None:
        assert self._default is not None
        for each in prepared:
            self._discard(each.sandbox)
        remove(self._netlink, {each.plug.host_link for each in prepared}, group=self._names.dead_group)
        for each in prepared:
            self._default.release(each.plug)

    # -- while a container runs

    async def visit(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in the thread that may step into other namespaces (with `Sandboxes.enter`)."""
        return await asyncio.get_running_loop().run_in_executor(self._visitor, partial(function, *arguments))

    async def join(self, path: str, driver: Driver, request: PlugRequest, *, ipv6: bool) -> Plug:
        """One more interface for the sandbox at `path`. Raises WindlassError, OSError."""
        return await self.visit(self._join, path, driver, request, ipv6)

    def _join(self, path: str, driver: Driver, request: PlugRequest, ipv6: bool) -> Plug:
        with self._sandboxes.open(path, ipv6=ipv6) as sandbox:
            return driver.plug(sandbox, request)

    async def leave(self, plug: Plug) -> None:
        """Take an interface away at once. Raises OSError."""
        await self._run(partial(remove, self._netlink, {plug.host_link}, group=self._names.dead_group))

    async def route(self, path: str, plugs: Sequence[Plug]) -> None:
        """Make the first of the plugs that has a gateway the way out of the sandbox, for each IP version."""
        await self.visit(self._route, path, plugs)

    def _route(self, path: str, plugs: Sequence[Plug]) -> None:
        with self._sandboxes.enter(path) as netlink:
            changes: list[Message] = []
            for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
                everywhere = route.default_network(version)
                ways = [(plug, plug.gateway if version == 4 else plug.gateway6) for plug in plugs]
                way, gateway = next(((plug, each) for plug, each in ways if each is not None), (None, None))
                present = route.read_routes(netlink, family, table=route.TABLE_MAIN)
                old = [each for each in present if each.destination == everywhere and each.gateway is not None]
                index = link.read_link(netlink, way.interface).index if way is not None else 0
                if [(each.gateway, each.index) for each in old] == ([(gateway, index)] if way is not None else []):
                    continue
                changes += [
                    route.delete_route(everywhere, gateway=each.gateway, index=each.index, priority=each.priority)
                    for each in old
                ]
                if gateway is not None:
                    changes.append(route.new_route(everywhere, gateway=gateway, index=index))
            if changes:
                netlink.request(*changes)

    # -- the end

    def close(self) -> None:
        """Dispose of what waits prepared, and end the threads. Blocks."""
        for sandbox in self._plain.close():
            self._discard(sandbox)
        if prepared := self._plugged.close():
            self._discard_prepared(*prepared)
        self._visitor.shutdown()


async def _taken(future: Future[T]) -> T:
    """The result of a pool's future, without a turn of the event loop where it is there already."""
    return future.result() if future.done() else await asyncio.wrap_future(future)
