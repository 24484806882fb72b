"""Identifiers by which one network namespace names another (RTM_*NSID).

Links that point across namespaces (a veth's peer) carry such a number. See ip-netns(8),
include/uapi/linux/net_namespace.h.
"""

from __future__ import annotations

from windlass.kernel.netlink.attributes import DecodeError, as_i32, parse, u32
from windlass.kernel.netlink.connection import Message, NetlinkSocket

RTM_NEWNSID, RTM_GETNSID = 88, 90

_NETNSA_NSID, _NETNSA_FD = 1, 3
_HEADER = bytes(4)  # struct rtgenmsg (one byte), aligned


def read_namespace_id(netlink: NetlinkSocket, namespace: int) -> int | None:
    """The number of the namespace behind the descriptor, None where it has none yet. Raises OSError."""
    message = Message(RTM_GETNSID, 0, _HEADER + u32(_NETNSA_FD, namespace), f"namespace of descriptor {namespace}")
    for reply in netlink.request(message):
        found = parse(reply.body, len(_HEADER))
        if reply.type != RTM_NEWNSID or _NETNSA_NSID not in found:
            raise DecodeError(f"message type {reply.type} is no namespace identifier")
        number = as_i32(found[_NETNSA_NSID])
        return number if number >= 0 else None
    raise DecodeError("no answer about a namespace identifier")


def set_namespace_id(namespace: int, number: int = -1) -> Message:
    """Give the namespace behind the descriptor a number; -1 lets the kernel choose."""
    body = _HEADER + u32(_NETNSA_FD, namespace) + u32(_NETNSA_NSID, number & 0xFFFFFFFF)
    return Message(RTM_NEWNSID, 0, body, f"namespace of descriptor {namespace}")
