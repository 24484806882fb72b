"""Waiting for links to go, so that addresses are free again only when nobody has them.

A container's links go with its network namespace, and the kernel frees namespaces in the background, many at once:
that is fifty times cheaper than to remove links one by one, each with a wait for all readers. So detaching takes a
sandbox's name away and leaves its host links to the reaper, which looks after a few milliseconds, again a little
later, and removes what still stands after a grace time (a process that somebody moved into the namespace keeps it
alive) as one group.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from windlass.kernel.netlink import link
from windlass.kernel.netlink.connection import NetlinkSocket

log = logging.getLogger(__name__)

FIRST_LOOK_SECONDS = 0.004
LAST_LOOK_SECONDS = 0.064
GRACE_SECONDS = 0.3


class Reaper:
    """The links of one daemon that are about to go."""

    def __init__(self, netlink: NetlinkSocket, run: Callable[..., Awaitable[Any]], *, group: int) -> None:
        """`run` calls a function in a thread; `group` is the link group into which links go to be removed."""
        self._netlink, self._run, self._group = netlink, run, group
        self._pending: dict[str, tuple[Callable[[], None], float]] = {}
        self._task: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def expect(self, name: str, gone: Callable[[], None]) -> None:
        """Call `gone` when the link has gone, and see to it that it goes."""
        self._pending[name] = (gone, asyncio.get_running_loop().time())
        self._empty.clear()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def settle(self) -> None:
        """Wait until all expected links have gone."""
        await self._empty.wait()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        delay = FIRST_LOOK_SECONDS
        while self._pending:
            await asyncio.sleep(delay)
            delay = min(delay * 2, LAST_LOOK_SECONDS)
            names = list(self._pending)
            late = {name for name in names if self._pending[name][1] < loop.time() - GRACE_SECONDS}
            try:
                gone = await self._run(self._look, names, late)
            except (OSError, ValueError) as error:
                log.warning("cannot remove links: %s", error)
                continue
            for name in gone:
                self._pending.pop(name)[0]()
        self._empty.set()

    def _look(self, names: list[str], late: set[str]) -> list[str]:
        """Which of the links have gone, after those that are late were removed."""
        if late:
            remove(self._netlink, late, group=self._group)
        outcome = self._netlink.attempt(*(link.get_link(name) for name in names))
        return [
            name
            for name, error in zip(names, outcome, strict=True)
            if error is not None and error.errno == errno.ENODEV
        ]


def remove(netlink: NetlinkSocket, names: set[str], *, group: int) -> None:
    """Remove links together; those that have gone meanwhile are no error. Raises OSError."""
    marked = netlink.attempt(*(link.set_link(name, group=group) for name in sorted(names)))
    if any(error is None for error in marked):
        error = netlink.attempt(link.delete_link_group(group))[0]
        if error is not None and error.errno != errno.ENODEV:
            raise error
