"""`windlass server`: arguments, logging, signals. SIGTERM and SIGINT stop it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from windlass.errors import WindlassError
from windlass.kube.server.arguments import parse_arguments

if TYPE_CHECKING:
    from windlass.kube.server.arguments import Arguments


def main(argv: list[str]) -> int:
    """Run a server until a signal ends it; the exit status."""
    arguments = parse_arguments(argv)
    return run(lambda: _serve(arguments), "server", arguments.log_level)


def run(serve: Callable[[], Coroutine[Any, Any, int]], name: str, log_level: str) -> int:
    """Run a program of this kind: its log, its loop, and what is said where it does not start."""
    import asyncio
    import logging

    logging.basicConfig(
        level=log_level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        return asyncio.run(serve())
    except (WindlassError, OSError) as error:
        print(f"failed to start {name}: {error}", file=sys.stderr)  # noqa: T201
        return 1


class Program(Protocol):
    """What is started and stopped."""

    async def start(self) -> None:
        """Raises WindlassError, OSError."""

    async def stop(self) -> None:
        """Let go of everything."""


async def until_signal(program: Program) -> int:
    """Start a program and stop it at SIGTERM or SIGINT, also while it starts."""
    import asyncio
    import gc
    import signal

    wanted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, wanted.set)
    starting, stopping = loop.create_task(program.start()), loop.create_task(wanted.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return 0
    try:
        await starting
        # What was made so far stays; later collections need not look at it again.
        gc.collect()
        gc.freeze()
        await stopping
    finally:
        stopping.cancel()
        await program.stop()
    return 0


async def _serve(arguments: Arguments) -> int:
    from windlass.kube.server.assembly import Cluster

    return await until_signal(Cluster(arguments))
