"""The versioned key-value space in which a cluster keeps its state.

    commit ─▶ Store ──────▶ backend (SQLite, etcd, or none)      durable first,
                 │                                               visible then
                 ▼
               Image ─▶ get, range, watch, subscribe             memory alone answers

One revision counter; every write has the next revision. Reads see the present or an earlier revision back to the last
compaction. The state and the recent history are in memory as encoded bytes, so no read touches the disk.

    image     the state at each revision, and who watches it: pure, without I/O or clock
    local     a store of this process alone, with group commit; sqlite.py and memory.py are its backends
    etcd      a store that several servers share
    leases    keys that go when nobody keeps them
    history   which revisions are kept

Source: https://etcd.io/docs/v3.6/learning/api/ (the model, not the code).
"""

from windlass.store.errors import Compacted, FutureRevision, Mismatch, StoreError, Unavailable
from windlass.store.history import History
from windlass.store.image import Image, RangeResult, Watch
from windlass.store.opening import open_store
from windlass.store.records import Compare, Event, Put, Record, TxnResult
from windlass.store.store import Store

__all__ = [
    "Compacted",
    "Compare",
    "Event",
    "FutureRevision",
    "History",
    "Image",
    "Mismatch",
    "Put",
    "RangeResult",
    "Record",
    "Store",
    "StoreError",
    "TxnResult",
    "Unavailable",
    "Watch",
    "open_store",
]
