"""nftables through libnftables: one call is one transaction, all or nothing.

```
 add table ip windlass                                          nft(8)'s own language goes in
 add element ip windlass published-anywhere { tcp . 8080 : 172.17.0.2 . 80 }

 {"nftables": [ {"table": {"family": "ip", "name": "windlass", "handle": 1}}, ... ]}      lists come out as JSON
```

libnftables does in 50 microseconds what a process of `nft` does in 5 milliseconds, with the same parser and the same
words for errors. It is called by ctypes, which releases the interpreter's lock meanwhile. The context belongs to the
network namespace of the thread that made it. Scripts are text and not JSON, because the JSON reader of the versions
that are about (1.0.6) cannot say what maps to an address and a port, and because people can read them. See
libnftables(3), nft(8), libnftables-json(5).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import threading
from types import TracebackType
from typing import Any, Self

LIBRARY = "libnftables.so.1"
_OUTPUT_JSON = 1 << 4

Object = dict[str, Any]


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise OSError(errno.ENOENT, f"cannot load the nftables library ({error})", LIBRARY) from None
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_free.restype = None
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_int
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_run_cmd_from_buffer.restype = ctypes.c_int
    return library


# What the library's messages call an error number; EPERM and EACCES are worth telling apart.
_ERRORS = {
    os.strerror(number): number
    for number in (
        errno.ENOENT,
        errno.EEXIST,
        errno.EBUSY,
        errno.EPERM,
        errno.EACCES,
        errno.EINVAL,
        errno.EOPNOTSUPP,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENETDOWN,
        errno.EOVERFLOW,
    )
}


def _error(text: str, about: str) -> OSError:
    lines = [line.strip() for line in text.splitlines() if "Error:" in line]
    # The place in the input is our own text's, of no use to the reader.
    reason = "; ".join(line[line.index("Error:") + 6 :].strip() for line in lines) or text.strip() or "failed silently"
    number = next((number for words, number in _ERRORS.items() if words in reason), errno.EINVAL)
    return OSError(number, f"nftables: {reason}", about)


class Nftables:
    """A connection to nftables, in the network namespace of the thread that uses it first. Safe for several threads.

    Who never uses it does not need the library.
    """

    def __init__(self) -> None:
        self._library: ctypes.CDLL | None = None
        self._context: int | None = None
        self._closed = False
        self._lock = threading.Lock()

    def _open(self) -> tuple[ctypes.CDLL, int]:
        """Library and context; called with the lock held. Raises OSError."""
        if self._library is None or self._context is None:
            library = _load()
            context = library.nft_ctx_new(0)
            if not context:
                raise OSError(errno.ENOMEM, "no nftables context", LIBRARY)
            if library.nft_ctx_buffer_output(context) or library.nft_ctx_buffer_error(context):
                library.nft_ctx_free(context)
                raise OSError(errno.ENOMEM, "no nftables buffers", LIBRARY)
            self._library, self._context = library, context
        return self._library, self._context

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            if self._library is not None and self._context is not None:
                self._library.nft_ctx_free(self._context)
            self._context, self._closed = None, True

    def run(self, script: str, *, about: str) -> None:
        """Carry out a script as one transaction.

        Raises OSError with the library's words, naming `about`: then nothing was changed.
        """
        self._call(script, 0, about)

    def query(self, command: str, *, about: str) -> list[Object]:
        """What a `list` command finds, as libnftables-json(5) describes it. Raises OSError."""
        output = self._call(command, _OUTPUT_JSON, about)
        return list(json.loads(output)["nftables"]) if output.strip() else []

    def tables(self) -> list[tuple[str, str]]:
        """Family and name of every table."""
        found = self.query("list tables", about="list of tables")
        return [(item["table"]["family"], item["table"]["name"]) for item in found if "table" in item]

    def list_table(self, family: str, name: str) -> list[Object]:
        """A table's contents. Raises OSError (ENOENT)."""
        return self.query(f"list table {family} {name}", about=f"table {family} {name}")

    def _call(self, text: str, flags: int, about: str) -> str:
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, "nftables is closed", about)
            library, context = self._open()
            library.nft_ctx_output_set_flags(context, flags)
            failed = library.nft_run_cmd_from_buffer(context, text.encode())
            output = library.nft_ctx_get_output_buffer(context) or b""
            problem = library.nft_ctx_get_error_buffer(context) or b""
        if failed:
            raise _error(problem.decode(errors="replace"), about)
        return str(output.decode())
