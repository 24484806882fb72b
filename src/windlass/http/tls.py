"""TLS over memory BIOs, with a half-close that works.

asyncio's own TLS shuts the whole connection down when the peer says `close_notify`, so that the output of
`echo x | docker --tls run -i …` would be lost. Here each direction ends on its own: the peer's `close_notify` is the
protocol's `eof_received`, and `write_eof` sends ours while reading goes on (RFC 8446, section 6.1: each party closes
its write side).

    socket ── ciphertext ──▶ incoming BIO ─ SSLObject ─ plain ──▶ Connection
           ◀── ciphertext ── outgoing BIO ─           ◀─ plain ──
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterable
from typing import Any, cast

_READ = 256 * 1024
_PLAIN_HTTP = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server.\n"
)
_log = logging.getLogger("windlass.http")


class TLSProtocol(asyncio.Protocol):
    """Between the socket's transport and the protocol `inner`, which sees a `TLSTransport`."""

    def __init__(self, inner: asyncio.Protocol, context: ssl.SSLContext, handshake_timeout: float) -> None:
        self._inner = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._timeout = handshake_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._established = False
        self._read_closed = False
        self._write_closed = False
        self._reading = True
        self._stash: list[bytes] = []  # decrypted ahead of time, see `write_eof`
        self.raw: asyncio.Transport

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.raw = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(self._timeout, self.raw.abort)

    def data_received(self, data: bytes) -> None:
        if not self._established and not self._tls.server_hostname and data[:1].isalpha():
            self.raw.write(_PLAIN_HTTP)
            self.raw.close()
            return
        self._incoming.write(data)
        self._advance()

    def eof_received(self) -> bool:
        # The socket ended without `close_notify`: whatever it was, it was not said by the peer's TLS.
        self._incoming.write_eof()
        if self._established and not self._read_closed:
            self.raw.abort()
        else:
            self.raw.close()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._established:
            self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        if self._established:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._established:
            self._inner.resume_writing()

    # -- the machine

    def _advance(self) -> None:
        try:
            if not self._established and not self._handshake():
                return
            self._deliver()
        except ssl.SSLError as error:
            _log.debug("TLS with %s failed: %s", self.raw.get_extra_info("peername"), error.reason or error)
            self._flush()  # the alert
            self.raw.close()

    def _handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        self._established = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flush()
        self._inner.connection_made(TLSTransport(self))
        return True

    def _deliver(self) -> None:
        while self._reading and not self._read_closed:
            data = self._stash.pop(0) if self._stash else self._decrypt()
            if data is None:
                break
            if data:
                self._inner.data_received(data)
            else:
                self._read_closed = True
                self._inner.eof_received()
        self._flush()

    def _decrypt(self) -> bytes | None:
        """Plain bytes, `b""` for the peer's `close_notify`, `None` when more ciphertext is needed."""
        try:
            return self._tls.read(_READ)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return b""

    def _flush(self) -> None:
        if self._outgoing.pending and not self.raw.is_closing():
            self.raw.write(self._outgoing.read())

    # -- what the transport asks for

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        if self._write_closed or not data:
            return
        self._tls.write(data)
        self._flush()

    def write_eof(self) -> None:
        """Send `close_notify`; reading goes on."""
        if self._write_closed:
            return
        self._write_closed = True
        try:
            # OpenSSL drops application data that it meets while it shuts down: take it out before.
            while (data := self._decrypt()) is not None:
                self._stash.append(data)
                if not data:
                    break
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # it has sent ours and looked in vain for the peer's, which may be far away
        self._flush()

    def close(self) -> None:
        """Send what is left and `close_notify`, then close the socket."""
        self.write_eof()
        self.raw.close()

    def pause_reading(self) -> None:
        """Stop delivering; the socket is left alone, so that the kernel holds the peer back."""
        self._reading = False
        if not self.raw.is_closing():
            self.raw.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again, first what was decrypted or waits in the BIO."""
        self._reading = True
        if not self.raw.is_closing():
            self.raw.resume_reading()
            asyncio.get_running_loop().call_soon(self._advance)

    def info(self, name: str, default: Any) -> Any:
        """TLS's own facts beside the socket's."""
        if name == "peercert":
            return self._tls.getpeercert()
        if name == "ssl_object":
            return self._tls
        return self.raw.get_extra_info(name, default)


class TLSTransport(asyncio.Transport):
    """What `Connection` writes to; plain bytes in, ciphertext on the socket."""

    def __init__(self, protocol: TLSProtocol) -> None:
        super().__init__()
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._protocol.write(data)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self._protocol.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self._protocol.write_eof()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self._protocol.close()

    def abort(self) -> None:
        self._protocol.raw.abort()

    def is_closing(self) -> bool:
        return self._protocol.raw.is_closing()

    def pause_reading(self) -> None:
        self._protocol.pause_reading()

    def resume_reading(self) -> None:
        self._protocol.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._protocol.info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._protocol.raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._protocol.raw.get_write_buffer_size()
