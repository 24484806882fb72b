"""`windlass server`: arguments, logging, signals. SIGTERM and SIGINT stop it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from windlass.errors import WindlassError
from windlass.kube.server.arguments import parse_arguments

if TYPE_CHECKING:
    from windlass.kube.server.arguments import Arguments


def main(argv: list[str]) -> int:
    """Run a server until a signal ends it; the exit status."""
    arguments = parse_arguments(argv)
    import asyncio
    import logging

    logging.basicConfig(
        level=arguments.log_level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        return asyncio.run(_serve(arguments))
    except (WindlassError, OSError) as error:
        print(f"failed to start server: {error}", file=sys.stderr)  # noqa: T201
        return 1


async def _serve(arguments: Arguments) -> int:
    import asyncio
    import gc
    import signal

    from windlass.kube.server.assembly import Cluster

    wanted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, wanted.set)
    cluster = Cluster(arguments)
    await cluster.start()
    # What was made so far stays; later collections need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        await wanted.wait()
    finally:
        await cluster.stop()
    return 0
