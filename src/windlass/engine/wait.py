"""`docker wait`: being told once when a container is not running, when it ends next, or when it is removed.

A waiter is registered at once when it is asked for (the API sends its headers then, and the client starts the
container only after that), so an end that follows at any time is not missed.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from windlass.errors import InvalidParameter

Document = dict[str, Any]

CONDITIONS: Final = ("not-running", "next-exit", "removed")


def check_condition(condition: str) -> str:
    """The condition, with the default for none. Raises `InvalidParameter`."""
    if condition not in ("", *CONDITIONS):
        raise InvalidParameter(f'invalid condition: "{condition}"')
    return condition or "not-running"


def _result(exit_code: int, error: str) -> Document:
    result: Document = {"StatusCode": exit_code}
    if error:
        result["Error"] = {"Message": error}
    return result


class Waiters:
    """Who waits for one container."""

    def __init__(self) -> None:
        self._ends: set[asyncio.Future[Document]] = set()
        self._removals: set[asyncio.Future[Document]] = set()

    def next_end(self) -> asyncio.Future[Document]:
        """Done at the next end of a run, or at the removal."""
        return self._register(self._ends)

    def removal(self) -> asyncio.Future[Document]:
        """Done when the container is removed."""
        return self._register(self._removals)

    def _register(self, waiters: set[asyncio.Future[Document]]) -> asyncio.Future[Document]:
        future: asyncio.Future[Document] = asyncio.get_running_loop().create_future()
        waiters.add(future)
        # A client that goes away cancels its future.
        future.add_done_callback(waiters.discard)
        return future

    @staticmethod
    def already(exit_code: int, error: str) -> asyncio.Future[Document]:
        """For a condition that holds now."""
        future: asyncio.Future[Document] = asyncio.get_running_loop().create_future()
        future.set_result(_result(exit_code, error))
        return future

    def ended(self, exit_code: int, error: str) -> None:
        """Tell those who wait for an end."""
        self._tell(self._ends, _result(exit_code, error))

    def removed(self, exit_code: int, error: str) -> None:
        """Tell everybody: there will be no end any more."""
        result = _result(exit_code, error)
        self._tell(self._removals, result)
        self._tell(self._ends, result)

    @staticmethod
    def _tell(waiters: set[asyncio.Future[Document]], result: Document) -> None:
        for future in list(waiters):
            if not future.done():
                future.set_result(result)
