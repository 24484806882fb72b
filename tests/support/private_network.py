"""Network namespaces for tests: a test that stands in one of its own, sockets that live in another.

A namespace belongs to a thread, and threads inherit it from the thread that starts them. So a test that is decorated
with `private_network` runs, with its event loop and all threads that it starts, in a thread that has left the host's
network; when it ends, the namespace and everything in it is gone.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from windlass.kernel.namespaces import CLONE_NEWNET, setns, unshare
from windlass.kernel.netlink import link
from windlass.kernel.netlink.connection import NetlinkSocket

T = TypeVar("T")

OWN = "/proc/thread-self/ns/net"


def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a thread of its own and hand on what it returns or raises."""
    result: list[T] = []
    problem: list[BaseException] = []

    def run() -> None:
        try:
            result.append(function(*arguments))
        except BaseException as error:
            problem.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if problem:
        raise problem[0]
    return result[0]


def private_network(test: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a test, plain or async: it runs in a network namespace that has only loopback."""

    @functools.wraps(test)
    def wrapper(*arguments: Any, **fixtures: Any) -> None:
        def stand() -> None:
            unshare(CLONE_NEWNET)
            with NetlinkSocket() as netlink:
                netlink.request(link.set_link("lo", up=True))
            if inspect.iscoroutinefunction(test):
                asyncio.run(test(*arguments, **fixtures))
            else:
                test(*arguments, **fixtures)

        in_thread(stand)

    return wrapper


def inside(namespace: int | str, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in the network namespace of a path or descriptor."""

    def enter() -> T:
        descriptor = os.open(namespace, os.O_RDONLY) if isinstance(namespace, str) else os.dup(namespace)
        try:
            setns(descriptor, CLONE_NEWNET)
        finally:
            os.close(descriptor)
        return function(*arguments)

    return in_thread(enter)


def socket_in(namespace: int | str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket of another namespace; it stays there, whoever uses it."""
    return inside(namespace, socket.socket, family, kind, protocol)


@contextmanager
def new_namespace() -> Iterator[int]:
    """The descriptor of a fresh network namespace with loopback up."""

    def make() -> int:
        unshare(CLONE_NEWNET)
        with NetlinkSocket() as netlink:
            netlink.request(link.set_link("lo", up=True))
        return os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)

    descriptor = in_thread(make)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
