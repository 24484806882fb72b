"""`windlass daemon`: arguments, checks, signals.

SIGTERM, SIGINT   stop (a third one ends at once)        SIGHUP    read the configuration again
SIGUSR1           write the stacks of all tasks to the log
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from windlass import __version__
from windlass.daemon.arguments import Arguments, help_text, parse_arguments
from windlass.errors import WindlassError

if TYPE_CHECKING:
    import logging
    import signal

    from windlass.daemon.settings import Settings

# asyncio, ssl and the rooms are imported where they are needed: --help and wrong flags must not wait for them.

_INSISTENT: Final = 3  # signals after which the end does not wait for anything


def main(argv: list[str]) -> int:
    """Run the daemon with dockerd's flags; returns the exit status."""
    try:
        arguments = parse_arguments(argv)
        if arguments.help:
            sys.stdout.write(help_text())
            return 0
        if arguments.version:
            print(f"windlass version {__version__}")  # noqa: T201
            return 0
        from windlass.daemon.hosts import check_hosts
        from windlass.daemon.settings import load_settings

        settings = load_settings(arguments)
        check_hosts(settings)
    except WindlassError as error:
        print(f"{error}\nSee 'windlass daemon --help'.", file=sys.stderr)  # noqa: T201
        return 1
    if arguments.validate:
        print("configuration OK")  # noqa: T201
        return 0
    return run(arguments, settings)


def run(arguments: Arguments, settings: Settings) -> int:
    """Check the host and serve until a signal ends it; returns the exit status."""
    import asyncio

    from windlass.daemon import checks, logs

    logs.set_up(settings)
    try:
        checks.check_host()
        checks.raise_file_limit()
        checks.ignore_broken_pipes()
        return asyncio.run(_serve(arguments, settings))
    except (WindlassError, OSError) as error:
        print(f"failed to start daemon: {error}", file=sys.stderr)  # noqa: T201
        return 1


async def _serve(arguments: Arguments, settings: Settings) -> int:
    import asyncio
    import gc
    import logging
    import signal

    from windlass.daemon.service import Daemon

    log = logging.getLogger("windlass.daemon")
    for reason in settings.ignored:
        log.warning("Option %s", reason)
    loop = asyncio.get_running_loop()
    loop.set_debug(False)
    daemon = Daemon(arguments, settings, os.environ)
    wanted = asyncio.Event()
    insisted = 0

    def end(number: signal.Signals) -> None:
        nonlocal insisted
        insisted += 1
        log.info("Processing signal '%s'", number.name)
        if insisted >= _INSISTENT:
            log.error("Forcing the end without cleaning up, %d signals were received", insisted)
            os._exit(128 + number)
        wanted.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    loop.add_signal_handler(signal.SIGUSR1, _dump_tasks, log)
    hangups: asyncio.Queue[None] = asyncio.Queue()
    loop.add_signal_handler(signal.SIGHUP, hangups.put_nowait, None)

    starting = asyncio.create_task(daemon.start())
    ending = asyncio.create_task(wanted.wait())
    await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        ending.cancel()
        return 0
    starting.result()
    # What was made so far stays; later collections need not look at it again.
    gc.collect()
    gc.freeze()

    async def reload_at_will() -> None:
        while True:
            await hangups.get()
            await daemon.reload()

    reloading = asyncio.create_task(reload_at_will())
    await ending
    reloading.cancel()
    await asyncio.gather(reloading, return_exceptions=True)
    await daemon.stop()
    return 0


def _dump_tasks(log: logging.Logger) -> None:
    """What every task waits for, for a bug report."""
    import asyncio

    for task in asyncio.all_tasks():
        frames = [f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}" for frame in task.get_stack()]
        log.info("task %s", task.get_name(), extra={"fields": {"coroutine": repr(task.get_coro()), "at": frames}})
