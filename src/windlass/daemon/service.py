"""The daemon's life: assemble the engine, serve its API, reload, stop. Containers live on when it ends.

    start    roots and locks ─ PID file ─ sockets (clients may queue from here on)
               ├─ launcher ┐
               ├─ images   │ at once        ─▶ engine (finds what the last daemon left) ─▶ API served, READY=1
               ├─ networks │
               └─ volumes  ┘
    stop     STOPPING=1 ─ API ─ engine ─ networks, volumes, images ─ launcher ─ sockets' names, PID file, locks

A stop undoes the start from its end; a start that fails half-way is undone the same way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from windlass import __version__
from windlass.daemon import checks, hosts, logs
from windlass.daemon.arguments import Arguments
from windlass.daemon.notify import Notifier
from windlass.daemon.settings import RELOADABLE, Settings, load_settings
from windlass.errors import WindlassError
from windlass.http import Server

if TYPE_CHECKING:
    from windlass.engine import Engine

_REQUEST_GRACE: Final = 5.0  # seconds that running requests have when we stop, at most --shutdown-timeout
_log = logging.getLogger("windlass.daemon")


class Daemon:
    """One engine with its sockets. `start`, then `reload` at will, then `stop`."""

    def __init__(self, arguments: Arguments, settings: Settings, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self.listening: list[str] = []
        self._arguments = arguments
        self._environ = environ
        self._notifier = Notifier(environ)
        self._undo = contextlib.AsyncExitStack()
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine of a daemon that has started."""
        assert self._engine is not None
        return self._engine

    async def start(self) -> None:
        """Raises `WindlassError` or `OSError`; nothing is left behind then."""
        begun = time.monotonic()
        try:
            listeners = self._claim()
            engine = await self._assemble()
            await self._serve(engine, listeners)
        except BaseException:
            await self._undo.aclose()
            raise
        self._notifier.ready()
        for address in self.listening:
            _log.info("API listen on %s", address)
        _log.info("Windlass is ready", extra={"fields": {"version": __version__, "ms": _since(begun)}})

    async def stop(self) -> None:
        """Stop serving and let go of everything; containers go on."""
        _log.info("Stopping; containers go on")
        self._notifier.stopping()
        await self._undo.aclose()
        _log.info("Daemon shutdown complete")

    async def reload(self) -> None:
        """Read the configuration again and take over what can change; a bad one changes nothing."""
        assert self._engine is not None
        self._notifier.reloading()
        try:
            fresh = load_settings(self._arguments)
            changed = {name: getattr(fresh, name) for name in RELOADABLE}
            settings = dataclasses.replace(self.settings, **changed)
            self._engine.reload(settings)
        except (WindlassError, OSError) as error:
            _log.error("Error reloading the configuration: %s", error)
        else:
            self.settings = settings
            logs.set_level(settings)
            _log.info("Reloaded configuration", extra={"fields": {k: v for k, v in changed.items() if v}})
        self._notifier.ready()

    # -- the steps of a start, each with its undoing

    def _claim(self) -> list[hosts.Listener]:
        """Roots, locks, PID file and sockets: whatever another daemon could have."""
        settings = self.settings
        for root, mode in ((settings.data_root, 0o710), (settings.exec_root, 0o711)):
            checks.make_root(root, mode)
            self._undo.callback(checks.RootLock(root).release)
        self._undo.callback(checks.PidFile(settings.pid_path).remove)
        listeners = hosts.open_listeners(settings, self._environ)
        self._undo.callback(hosts.close_listeners, listeners)
        return listeners

    async def _assemble(self) -> Engine:
        """The rooms below, at once where they do not need each other, then the engine."""
        # Imported here: --help, --validate and a refused start do not need them.
        from windlass.daemon import assembly

        rooms = await assembly.open_rooms(self.settings)
        for close in rooms.closers:
            self._undo.push_async_callback(close)
        engine = assembly.make_engine(self.settings, rooms)
        self._undo.push_async_callback(engine.stop)
        await engine.start()
        self._engine = engine
        return engine

    async def _serve(self, engine: Engine, listeners: list[hosts.Listener]) -> None:
        from windlass.api.docker.app import DockerAPI, common_headers

        server = Server(DockerAPI(engine), headers=common_headers(experimental=self.settings.experimental))
        grace = min(_REQUEST_GRACE, max(self.settings.shutdown_timeout, 0))
        self._undo.push_async_callback(server.close, grace)
        for listener in listeners:
            await server.listen(listener.sock, tls=listener.tls)
            self.listening.append(listener.address)


def _since(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)
