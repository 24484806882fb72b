"""Sockets without the socket module's conveniences.

`socket.socket` turns numbers into enumerations, its helpers import arrays, and each touch of that machinery makes pages
of the interpreter private in a forked process: more than all the rest of an idle monitor. The class below it has every
method that is needed here.
"""

from __future__ import annotations

import _socket
import os

Socket = _socket.socket
MSG_NOSIGNAL = _socket.MSG_NOSIGNAL

_INT = 4


def pair(*, packets: bool = False) -> tuple[Socket, Socket]:
    """Two connected unix sockets (close-on-exec): of a stream, or of packets (SOCK_SEQPACKET)."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET if packets else _socket.SOCK_STREAM)


def adopt(descriptor: int) -> Socket:
    """The socket of a descriptor, which it takes over."""
    return Socket(fileno=descriptor)


def accept(listener: Socket) -> Socket:
    """The next connection.

    Raises:
        OSError: there is none (BlockingIOError), or no descriptor is free.
    """
    descriptor, _ = listener._accept()  # type: ignore[attr-defined]
    return Socket(fileno=descriptor)


def send(connection: Socket, data: bytes, descriptors: list[int]) -> None:
    """Send a packet and copies of descriptors (unix(7), SCM_RIGHTS)."""
    packed = b"".join([descriptor.to_bytes(_INT, "little") for descriptor in descriptors])
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)] if packed else []
    connection.sendmsg([data], ancillary, _socket.MSG_NOSIGNAL)


def receive(connection: Socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """Receive a packet of at most `size` bytes and at most `most` descriptors (close-on-exec); nothing at the end."""
    room = _socket.CMSG_SPACE(most * _INT)
    data, ancillary, _flags, _address = connection.recvmsg(size, room, _socket.MSG_CMSG_CLOEXEC)
    descriptors = []
    for level, kind, packed in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            for at in range(0, len(packed) // _INT * _INT, _INT):
                descriptors.append(int.from_bytes(packed[at : at + _INT], "little"))
    return data, descriptors


def listen(path: str, backlog: int) -> Socket:
    """A non-blocking listener at `path` for its owner only."""
    listener = Socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(mask)
    listener.listen(backlog)
    listener.setblocking(False)
    return listener
