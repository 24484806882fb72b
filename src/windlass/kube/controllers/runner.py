"""What controllers share: subscriptions that add keys, workers that reconcile them, and how failures are taken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from windlass.kube.api import objects
from windlass.kube.api.operations.reading import prefix_end
from windlass.kube.api.reader import Listener
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import Client
from windlass.kube.controllers.queue import WorkQueue
from windlass.store import Event

Key = tuple[str, ...]
KeysOf = Callable[[Object], Iterable[Key]]

log = logging.getLogger("windlass.kube.controllers")


def own_key(obj: Object) -> list[Key]:
    """The key of an object that is reconciled itself: namespace and name."""
    return [(objects.namespace_of(obj), objects.name_of(obj))]


class Controller:
    """One controller. Subclasses say what they watch (in `start`) and reconcile a key.

    Attributes:
        name: as upstream names it; the user and field manager of its writes.
        workers: keys that are reconciled at once.
    """

    name = ""
    workers = 2

    def __init__(self, client: Client) -> None:
        self.client = client.named(f"system:serviceaccount:kube-system:{self.name}")
        self.cache = client.cache
        self.queue: WorkQueue[Key] = WorkQueue()
        self._tasks: list[asyncio.Task[None]] = []
        self._stops: list[Callable[[], None]] = []
        self._subscriptions: list[tuple[str, str, Listener]] = []

    def watch(self, group: str, resource: str, keys: KeysOf = own_key) -> None:
        """Add the keys of all objects of a resource, now and whenever one changes."""

        def changed(_event: str, obj: Object) -> None:
            for key in keys(obj):
                self.queue.add(key)

        self.listen(group, resource, changed)

    def listen(self, group: str, resource: str, changed: Listener) -> None:
        """Call a listener for all objects of a resource, now and whenever one changes."""
        self.cache.subscribe(group, resource, changed)
        self._subscriptions.append((group, resource, changed))
        for obj in self.cache.list(group, resource):
            changed("ADDED", obj)

    def watch_keys(self, group: str, resource: str, keys: Callable[[str, str], Iterable[Key]]) -> None:
        """The same by the names of objects alone (namespace, name): nothing is decoded or kept."""
        found = self.client.resource(group, resource)
        prefix = found.storage.prefix

        def of_key(key: bytes) -> Iterable[Key]:
            namespace, _, name = key[len(prefix) :].decode().rpartition("/")
            return keys(namespace, name)

        def changed(events: Sequence[Event]) -> None:
            for event in events:
                for key in of_key(event.key):
                    self.queue.add(key)

        self._stops.append(self.client.env.store.subscribe(prefix, changed))
        for record in self.client.env.store.range(prefix, prefix_end(prefix)).records:
            for key in of_key(record.key):
                self.queue.add(key)

    def start(self) -> None:
        """Begin to watch and to work."""
        self.subscribe()
        self._tasks = [asyncio.get_running_loop().create_task(self._work()) for _ in range(self.workers)]

    def subscribe(self) -> None:
        """Watch what the controller needs."""
        raise NotImplementedError

    async def reconcile(self, key: Key) -> float | None:
        """Make one key's world right; seconds after which to look again, or None.

        Raises:
            StatusError, Exception: the key comes again, later each time.
        """
        raise NotImplementedError

    async def write_status(self, group: str, plural: str, obj: Object, status: Object) -> Object:
        """Have an object say this as its status; the object then. One that is gone meanwhile is left alone.

        Raises:
            StatusError
        """
        if objects.same(status, obj.get("status") or {}):
            return obj
        metadata = obj["metadata"]

        def change(live: Object) -> None:
            if live["metadata"]["uid"] == metadata["uid"]:
                live["status"] = status

        namespace = metadata.get("namespace", "")
        try:
            return await self.client.update(group, plural, namespace, metadata["name"], change, subresource="status")
        except StatusError as error:
            if error.code != 404:
                raise
            return obj

    async def _work(self) -> None:
        while (key := await self.queue.get()) is not None:
            try:
                again = await self.reconcile(key)
            except StatusError as error:
                delay = self.queue.retry(key)
                if error.code >= 500:
                    log.warning("%s: %s: %s (again in %.2f s)", self.name, "/".join(key), error.message, delay)
            except Exception:
                log.exception("%s: %s", self.name, "/".join(key))
                self.queue.retry(key)
            else:
                self.queue.forget(key)
                if again is not None:
                    self.queue.add_after(key, again)
            finally:
                self.queue.done(key)

    async def stop(self) -> None:
        """End it."""
        self.queue.close()
        for group, resource, changed in self._subscriptions:
            self.cache.unsubscribe(group, resource, changed)
        self._subscriptions.clear()
        for stop in self._stops:
            stop()
        self._stops.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
