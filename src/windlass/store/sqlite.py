"""The default backend: one SQLite file.

    log    revision, sub │ key, value, create_revision, version, lease     one row for each write; NULL deletes
    meta   'compacted', 'revision'                                         numbers
    lease  id │ ttl                                                        seconds

WAL with full sync: a transaction that was acknowledged survives a crash of the machine, a torn write at the end of the
WAL is found by its checksums and dropped as a whole. One process at a time: an exclusive lock beside the file, because
two images of one log would not hear of each other's writes.

Source: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from windlass.store.backend import Loaded, Row
from windlass.store.errors import Unavailable
from windlass.store.transform import IDENTITY, Transformer

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    revision INTEGER NOT NULL, sub INTEGER NOT NULL, key BLOB NOT NULL, value BLOB,
    create_revision INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL,
    PRIMARY KEY (revision, sub)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease (id INTEGER PRIMARY KEY, ttl REAL NOT NULL);
"""
_VACUUM_PAGES = 500


class SQLiteBackend:
    """A log in a file. See the module's drawing."""

    def __init__(self, path: Path, transformer: Transformer = IDENTITY) -> None:
        """Open or make the file (mode 0600).

        Raises:
            Unavailable: another process has it, or it is no such database.
            OSError: it cannot be made.
        """
        self._path = path
        self._transformer = transformer
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise Unavailable(f"{path} is in use by another process") from None
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=32)
            self._prepare()
        except sqlite3.Error as error:
            os.close(self._lock)
            raise Unavailable(f"{path}: {error}") from error

    def _prepare(self) -> None:
        db = self._db
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -8192")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > _SCHEMA_VERSION:
            raise Unavailable(f"{self._path} was written by a newer version (schema {version})")
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")

    def load(self) -> Loaded:
        """See `Backend.load`. Raises Unavailable (damaged, or sealed with an unknown key)."""
        try:
            meta = dict(self._db.execute("SELECT name, value FROM meta"))
            leases = dict(self._db.execute("SELECT id, ttl FROM lease"))
            (last,) = self._db.execute("SELECT coalesce(max(revision), 0) FROM log").fetchone()
        except sqlite3.Error as error:
            raise Unavailable(f"{self._path}: {error}") from error
        compacted = meta.get("compacted", 0)
        return Loaded(self._rows(), compacted, max(last, compacted, meta.get("revision", 0)), leases)

    def _rows(self) -> Iterator[Row]:
        decode = self._transformer.decode
        plain = self._transformer is IDENTITY
        query = "SELECT revision, sub, key, value, create_revision, version, lease FROM log ORDER BY revision, sub"
        try:
            for row in self._db.execute(query):
                if plain or row[3] is None:
                    yield Row._make(row)
                else:
                    yield Row._make(row)._replace(value=decode(row[2], row[3])[0])
        except sqlite3.Error as error:
            raise Unavailable(f"{self._path}: {error}") from error

    def append(self, rows: Sequence[Row]) -> None:
        """See `Backend.append`."""
        if self._transformer is not IDENTITY:
            encode = self._transformer.encode
            rows = [row if row.value is None else row._replace(value=encode(row.key, row.value)) for row in rows]
        self._transaction("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def _transaction(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany(statement, rows)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def forget(self, rows: Sequence[tuple[int, int]]) -> None:
        """See `Backend.forget`."""
        self._transaction("DELETE FROM log WHERE revision = ? AND sub = ?", rows)
        self._db.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()

    def set_compacted(self, revision: int) -> None:
        """See `Backend.set_compacted`."""
        # The last revision may be among the rows that go (a deletion): it must not be used again.
        self._transaction(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
            [("compacted", revision), ("revision", revision)],
        )

    def set_lease(self, lease: int, ttl: float | None) -> None:
        """See `Backend.set_lease`."""
        if ttl is None:
            self._db.execute("DELETE FROM lease WHERE id = ?", (lease,))
        else:
            self._db.execute("INSERT OR REPLACE INTO lease VALUES (?, ?)", (lease, ttl))

    def snapshot(self, path: str) -> None:
        """A consistent copy in a new file (mode 0600), complete or absent. Raises OSError (it exists)."""
        if os.path.exists(path):
            raise FileExistsError(f"{path} exists")
        temporary = f"{path}.tmp"
        os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        try:
            copy = sqlite3.connect(temporary)
            try:
                self._db.backup(copy)
            finally:
                copy.close()
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def defragment(self) -> None:
        """Rebuild the file without free pages."""
        self._db.execute("VACUUM")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def size(self) -> int:
        """Bytes of the file and its WAL."""
        total = 0
        for name in (self._path, Path(f"{self._path}-wal")):
            if name.exists():
                total += name.stat().st_size
        return total

    def close(self) -> None:
        """Close the file and give up the lock."""
        self._db.close()
        os.close(self._lock)


def restore(snapshot: Path, path: Path) -> None:
    """Begin a new store with a snapshot's state.

    Raises:
        Unavailable: the snapshot is no store, or damaged.
        FileExistsError: there is a store already.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists; move it away first")
    source = sqlite3.connect(f"file:{snapshot}?mode=ro", uri=True)
    try:
        (verdict,) = source.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            raise Unavailable(f"{snapshot} is damaged: {verdict}")
        source.execute("SELECT 1 FROM log LIMIT 1")
    except sqlite3.Error as error:
        raise Unavailable(f"{snapshot} is no snapshot of a store: {error}") from error
    else:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        target = sqlite3.connect(path)
        try:
            source.backup(target)
        finally:
            target.close()
    finally:
        source.close()
