"""Choose a store by its URL, as `--datastore-endpoint` names it."""

from __future__ import annotations

from pathlib import Path

from windlass.store.errors import StoreError
from windlass.store.history import History
from windlass.store.local import LocalStore
from windlass.store.memory import MemoryBackend
from windlass.store.store import Store
from windlass.store.transform import IDENTITY, Transformer


async def open_store(
    url: str,
    *,
    transformer: Transformer = IDENTITY,
    history: History | None = None,
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> Store:
    """Open the store that a URL names.

    Args:
        url: "sqlite:///path/of/a/file", "memory:", or etcd's endpoints, separated by commas: "https://host:2379".
        ca, certificate, key: PEM files for etcd with TLS.

    Raises:
        StoreError: the URL names none.
        Unavailable: it cannot be opened or reached.
        OSError
    """
    scheme, _, rest = url.partition(":")
    if scheme == "memory":
        return await LocalStore.open(MemoryBackend(), history=history)
    if scheme == "sqlite":
        from windlass.store.sqlite import SQLiteBackend

        path = rest.removeprefix("//")
        if not path.startswith("/"):
            raise StoreError(f"{url}: the path of a SQLite file is absolute: sqlite:///var/lib/…")
        backend = SQLiteBackend(Path(path), transformer)
        try:
            return await LocalStore.open(backend, history=history)
        except BaseException:
            backend.close()
            raise
    if scheme in ("http", "https", "etcd"):
        from windlass.store.etcd import EtcdStore

        endpoints = [each.strip().replace("etcd://", "http://") for each in url.split(",")]
        return await EtcdStore.open(endpoints, transformer=transformer, ca=ca, certificate=certificate, key=key)
    raise StoreError(f"{url}: a datastore is sqlite:///path, memory:, or etcd's http(s)://host:port")
