"""Requests to the kernel over a netlink socket: batches, acknowledgements, dumps, errors that can be read.

```
 one sendmsg ─▶ ┌ nlmsghdr ┬ body ┐┌ nlmsghdr ┬ body ┐┌ nlmsghdr ┬ body ┐
                └──────────┴──────┘└──────────┴──────┘└──────────┴──────┘
                  NLM_F_REQUEST      NLM_F_REQUEST      NLM_F_REQUEST|NLM_F_ACK
```

The kernel works through a batch inside `sendmsg`, in order, and goes on after a message that failed: errors are always
reported, success only where NLM_F_ACK asks. So a batch costs one send and, if all is well, one receive: only the last
message asks for an acknowledgement. Whoever batches messages that depend on each other must be able to undo them.

A socket belongs to the network namespace in which it was opened, wherever the thread that uses it stands, so sockets
are the handle by which namespaces are configured without entering them twice. See netlink(7),
Documentation/userspace-api/netlink/intro.rst.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import NamedTuple, Self

from windlass.kernel.netlink import attributes
from windlass.kernel.netlink.attributes import DecodeError

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

_NLM_F_MULTI = 0x2
_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200

_NLMSG_NOOP, _NLMSG_ERROR, _NLMSG_DONE, _NLMSG_OVERRUN = 1, 2, 3, 4
_NLMSGERR_ATTR_MSG = 1

_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 10, 11, 12

_HEADER = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
_LENGTH = struct.Struct("=I")
_RECEIVE = 65536
# A batch's answers wait in the socket's receive buffer until the last message was worked off.
_BATCH_BYTES, _BATCH_MESSAGES = 32768, 64
_RECEIVE_BUFFER = 1 << 20
_SO_RCVBUFFORCE = 33
_ATTEMPTS = 5


class Message(NamedTuple):
    """One request: its type, flags beside NLM_F_REQUEST, body, and the object that an error should name."""

    type: int
    flags: int
    body: bytes
    about: str


class Reply(NamedTuple):
    """One answer of the kernel: its type and what follows the header."""

    type: int
    body: bytes


class _Received(NamedTuple):
    type: int
    flags: int
    sequence: int
    body: bytes


def split(data: bytes) -> Iterator[_Received]:
    """The messages in one datagram. Raises DecodeError."""
    offset, end = 0, len(data)
    while offset < end:
        if end - offset < 16:
            raise DecodeError(f"{end - offset} bytes left where a netlink header takes 16")
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < 16 or offset + length > end:
            raise DecodeError(f"netlink message says {length} bytes, {end - offset} are left")
        yield _Received(kind, flags, sequence, data[offset + 16 : offset + length])
        offset += (length + 3) & ~3


def error_of(message: _Received) -> tuple[int, str]:
    """Error number (0 is an acknowledgement) and the kernel's own words from an NLMSG_ERROR. Raises DecodeError."""
    body = message.body
    if len(body) < 20:
        raise DecodeError("a netlink error takes 20 bytes")
    number = -_ERROR.unpack_from(body)[0]
    if not message.flags & _NLM_F_ACK_TLVS:
        return number, ""
    offset = 20
    if not message.flags & _NLM_F_CAPPED:
        # Then the whole refused message stands before the attributes.
        offset = 4 + ((_LENGTH.unpack_from(body, 4)[0] + 3) & ~3)
    found = attributes.parse(body, offset)
    text = found.get(_NLMSGERR_ATTR_MSG)
    return number, attributes.as_string(text) if text is not None else ""


def failure(number: int, text: str, about: str) -> OSError:
    """The OSError (of the matching subclass) that names the object and carries the kernel's words."""
    reason = os.strerror(number)
    return OSError(number, f"{reason} ({text})" if text else reason, about)


class NetlinkSocket:
    """A netlink socket in the calling thread's network namespace. Safe for several threads, which take turns."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._lock = threading.Lock()
        self._sequence = 0
        with contextlib.suppress(PermissionError):
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        if protocol == NETLINK_ROUTE:
            # Filters of dumps are then honoured or refused, never ignored.
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def request(self, *messages: Message) -> list[Reply]:
        """Do what the messages say, in order and in one send; the answers to those that ask something.

        Raises the first failing message's OSError; the others have been done all the same.
        """
        replies: list[Reply] = []
        errors = self._run(messages, replies)
        if errors:
            position, number, text = min(errors)
            raise failure(number, text, messages[position].about)
        return replies

    def attempt(self, *messages: Message) -> list[OSError | None]:
        """Like `request`, but says for each message how it went."""
        outcome: list[OSError | None] = [None] * len(messages)
        for position, number, text in self._run(messages, []):
            outcome[position] = failure(number, text, messages[position].about)
        return outcome

    def dump(self, message: Message) -> list[Reply]:
        """All objects that a dump request names. Raises OSError; a dump that changes under way is taken again."""
        for _ in range(_ATTEMPTS):
            with self._lock:
                replies, consistent = self._dump(message)
            if consistent:
                return replies
        raise failure(errno.EBUSY, "the table keeps changing while it is read", message.about)

    def _run(self, messages: Iterable[Message], replies: list[Reply]) -> list[tuple[int, int, str]]:
        errors: list[tuple[int, int, str]] = []
        batch: list[Message] = []
        size = first = 0
        with self._lock:
            for message in messages:
                if len(batch) == _BATCH_MESSAGES or (batch and size + len(message.body) > _BATCH_BYTES):
                    errors += self._send_batch(batch, first, replies)
                    first, size, batch = first + len(batch), 0, []
                batch.append(message)
                size += len(message.body) + 16
            if batch:
                errors += self._send_batch(batch, first, replies)
        return errors

    def _send_batch(self, batch: list[Message], first: int, replies: list[Reply]) -> list[tuple[int, int, str]]:
        base, last = self._reserve(len(batch))
        parts: list[bytes] = []
        for position, message in enumerate(batch):
            flags = message.flags | NLM_F_REQUEST
            if base + position == last:
                flags |= NLM_F_ACK
            # Bodies are made of a fixed header and attributes, each aligned to 4 already.
            parts.append(_HEADER.pack(len(message.body) + 16, message.type, flags, base + position, 0))
            parts.append(message.body)
        self._socket.send(b"".join(parts))
        errors: list[tuple[int, int, str]] = []
        while True:
            for received in split(self._receive()):
                if not base <= received.sequence <= last:
                    continue  # an answer to a request that was interrupted before
                if received.type == _NLMSG_ERROR:
                    number, text = error_of(received)
                    if number:
                        errors.append((first + received.sequence - base, number, text))
                    if received.sequence == last:
                        return errors
                elif received.type > _NLMSG_OVERRUN:
                    replies.append(Reply(received.type, received.body))

    def _dump(self, message: Message) -> tuple[list[Reply], bool]:
        sequence, _ = self._reserve(1)
        flags = message.flags | NLM_F_REQUEST | NLM_F_DUMP
        self._socket.send(_HEADER.pack(len(message.body) + 16, message.type, flags, sequence, 0) + message.body)
        replies: list[Reply] = []
        consistent = True
        while True:
            for received in split(self._receive()):
                if received.sequence != sequence:
                    continue
                consistent = consistent and not received.flags & _NLM_F_DUMP_INTR
                if received.type == _NLMSG_ERROR:
                    number, text = error_of(received)
                    raise failure(number or errno.EINVAL, text, message.about)
                if received.type == _NLMSG_DONE:
                    number = -_ERROR.unpack_from(received.body)[0] if len(received.body) >= 4 else 0
                    if number:
                        raise failure(number, "", message.about)
                    return replies, consistent
                if received.type > _NLMSG_OVERRUN:
                    replies.append(Reply(received.type, received.body))

    def _reserve(self, count: int) -> tuple[int, int]:
        """The first and last of `count` consecutive sequence numbers."""
        first = self._sequence + 1 if self._sequence < 0xFFFF0000 else 1
        self._sequence = first + count - 1
        return first, self._sequence

    def _receive(self) -> bytes:
        try:
            # The kernel answers while it is asked: what is not there now was dropped for want of space.
            data, _, flags, address = self._socket.recvmsg(_RECEIVE, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise OSError(errno.ENOBUFS, "netlink answers were lost") from None
        if flags & socket.MSG_TRUNC:
            raise DecodeError(f"a netlink datagram is longer than {_RECEIVE} bytes")
        if address[0] != 0:
            # Only the kernel has port 0; any process may send us a datagram.
            return b""
        return data
