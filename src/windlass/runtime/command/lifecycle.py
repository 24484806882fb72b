"""start and delete: a container's life after its creation (runtime-spec, runtime.md, "Lifecycle").

start    write a byte into start.fifo, remove it, run the poststart hooks
delete   remove the cgroup and the state, run the poststop hooks
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import time
from typing import Any

from windlass.kernel import pidfd
from windlass.kernel.cgroups import CgroupError
from windlass.runtime.command.log import Log
from windlass.runtime.command.store import FIFO, CommandError, Container, Store

_DEATH = 10.0
_ENDED = 0.1


def start(store: Store, options: argparse.Namespace, log: Log) -> int:
    """`start ID`."""
    container = store.load(options.container)
    status = container.status
    if status == "stopped":
        raise CommandError("cannot start a container that has stopped")
    if status != "created":
        raise CommandError("cannot start an already running container")
    open_gate(container)
    run_quietly(container, "poststart", "running", log)
    return 0


def delete(store: Store, options: argparse.Namespace, log: Log) -> int:
    """`delete [--force] ID`."""
    try:
        container = store.load(options.container)
    except CommandError:
        if not options.force:
            raise
        if store.exists(options.container):  # a creation that was cut off
            store.remove(options.container)
        return 0
    status = container.status
    if status == "created" or (status != "stopped" and options.force):
        _kill(container)
    elif status != "stopped" and not _ends_soon(container):
        raise CommandError(f"cannot delete container {options.container} that is not stopped: {status}")
    destroy(store, container, log)
    return 0


def open_gate(container: Container) -> None:
    """Let the init go on.

    Raises:
        CommandError: it has ended, or somebody else has started it.
    """
    path = container.directory / FIFO
    try:
        # Without a reader there is nobody to start: this fails at once instead of waiting.
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            raise CommandError("cannot start a container that has stopped") from None
        raise
    try:
        path.unlink()  # first, so that of two starts at once one wins
        os.write(descriptor, b"\0")
    except FileNotFoundError:
        raise CommandError("cannot start an already running container") from None
    finally:
        os.close(descriptor)


def _ends_soon(container: Container) -> bool:
    """Whether the init is just ending: who waits for a container's end may be faster than its last breath."""
    try:
        descriptor = os.pidfd_open(container.record.pid)
    except ProcessLookupError:
        return True
    try:
        return not container.alive or pidfd.wait_end(descriptor, _ENDED)
    finally:
        os.close(descriptor)


def _kill(container: Container) -> None:
    """End the init and all that is in the cgroup, and wait for that."""
    deadline = time.monotonic() + _DEATH
    try:
        descriptor = os.pidfd_open(container.record.pid)
    except ProcessLookupError:
        descriptor = -1
    try:
        if descriptor >= 0 and container.alive:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        container.cgroup().kill()
        if descriptor >= 0 and not pidfd.wait_end(descriptor, max(0.0, deadline - time.monotonic())):
            raise CommandError(f"container {container.record.id}: its init does not end")
    except ProcessLookupError:
        pass
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def destroy(store: Store, container: Container, log: Log) -> None:
    """Remove what a stopped container holds; then the poststop hooks."""
    try:
        cgroup = container.cgroup()
        if cgroup.exists():
            cgroup.kill()
            cgroup.remove()
    except CgroupError as error:
        raise CommandError(f"unable to remove the container's cgroup: {error}") from None
    config = container.config()
    store.remove(container.record.id)
    run_quietly(container, "poststop", "stopped", log, config=config)


def run_quietly(
    container: Container, kind: str, status: str, log: Log, *, config: dict[str, Any] | None = None
) -> None:
    """Hooks whose failure the specification wants to be logged only; the others of their kind still run."""
    config = container.config() if config is None else config
    entries = (config.get("hooks") or {}).get(kind) or ()
    if not entries:
        return
    from windlass.runtime import hooks
    from windlass.runtime.wire import LaunchFailure

    for entry in entries:
        try:
            hooks.run([entry], container.state(status), kind=kind)
        except LaunchFailure as failure:
            log.warning(failure.message)
