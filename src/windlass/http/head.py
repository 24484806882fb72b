"""The head of a request: request line and fields, read by httptools, framed by us.

httptools (llhttp) is strict and fast, but it does not say how many bytes of its input it used. We must know: what
follows a head may be a body, the next pipelined request, or the first bytes of a stream that the handler will hijack.
So the head's end (an empty line) is found here, exactly one head at a time is given to the parser, and bodies are read
by `framing`. Wherever the parser's view and ours would differ, the request is refused.
"""

from __future__ import annotations

import httptools

from windlass.http.framing import ChunkedDecoder, Decoder, LengthDecoder
from windlass.http.limits import Limits

_END = b"\r\n\r\n"


class HeadError(Exception):
    """The head cannot be served; `status` answers it and the connection closes."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class HeadParser:
    """Reads heads one after the other; the fields stand until `reset`."""

    __slots__ = (
        "_begun",
        "_complete",
        "_hosts",
        "_limits",
        "_parser",
        "_reusable",
        "_size",
        "_tail",
        "headers",
        "keep_alive",
        "method",
        "target",
        "upgrade",
        "version",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser: httptools.HttpRequestParser | None = None
        self._reusable = False
        self.reset()

    def reset(self) -> None:
        """Make ready for the next head."""
        if not self._reusable:
            self._parser = None
        self._reusable = False
        self._tail = b""
        self._size = 0
        self._begun = 0
        self._complete = False
        self._hosts = 0
        self.method = ""
        self.target = b""
        self.version = ""
        self.headers: dict[str, str] = {}  # names in lower case; repeated fields joined by ", "
        self.keep_alive = False
        self.upgrade = False

    @property
    def started(self) -> bool:
        """Whether a part of a head has arrived."""
        return self._size > 0

    def feed(self, data: bytes) -> int:
        """Take bytes; return how many of them belong to the head once it is whole, else -1.

        Raises `HeadError` when the head is malformed or beyond the limits.
        """
        if self._tail:
            end = (self._tail + data).find(_END)
            if end >= 0:
                end += len(_END) - len(self._tail)
        else:
            end = data.find(_END)
            if end >= 0:
                end += len(_END)
        part = data if end < 0 or end == len(data) else data[:end]
        self._size += len(part)
        if self._size > self._limits.head_size:
            raise HeadError(431, "request header fields too large")
        self._parse(part)
        if end < 0:
            self._tail = (self._tail + part)[-3:]
            return -1
        if not self._complete:
            raise HeadError(400, "malformed request head")
        return end

    def body(self) -> Decoder | None:
        """The decoder of the body that follows; `None` when there is none. Raises `HeadError`."""
        coding = self.headers.get("transfer-encoding")
        length = self.headers.get("content-length")
        if coding is not None:
            if self.version != "1.1" or length is not None:
                raise HeadError(400, "Transfer-Encoding is not allowed here")
            if coding.lower() != "chunked":
                raise HeadError(501, f"unsupported transfer encoding: {coding[:80]!r}")
            return ChunkedDecoder()
        if length is None:
            return None
        if not (length.isascii() and length.isdigit()) or len(length) > 18:
            raise HeadError(400, "bad Content-Length")
        return LengthDecoder(int(length)) if int(length) else None

    def _parse(self, part: bytes) -> None:
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(part)
        except httptools.HttpParserUpgrade:
            self.upgrade = True
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            raise cause if isinstance(cause, HeadError) else error from None
        except httptools.HttpParserError as error:
            raise HeadError(400, f"malformed request: {error}") from None

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._begun += 1
        if self._begun > 1:
            raise HeadError(400, "malformed request head")

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self.headers
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1").strip(" \t")
        if key == "host":
            self._hosts += 1
        if key in headers:
            if key == "transfer-encoding":
                raise HeadError(400, "too many transfer encodings")
            headers[key] += ", " + text
        else:
            headers[key] = text
            if len(headers) > self._limits.head_fields:
                raise HeadError(431, "too many request header fields")

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        self.version = parser.get_http_version()
        self.method = parser.get_method().decode("ascii")
        self.keep_alive = parser.should_keep_alive()
        if self.version not in ("1.1", "1.0"):
            raise HeadError(505, f"unsupported protocol version: HTTP/{self.version}")
        if self._hosts != 1 and (self._hosts or self.version == "1.1"):
            raise HeadError(400, "too many Host headers" if self._hosts else "missing required Host header")
        self._complete = True

    def on_body(self, data: bytes) -> None:
        raise HeadError(400, "malformed request head")  # the parser saw the head's end before we did

    def on_message_complete(self) -> None:
        # Without body and upgrade the parser stands at the start of a message again and can be used once more.
        self._reusable = self.keep_alive and not self.upgrade
