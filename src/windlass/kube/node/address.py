"""The node's address where nobody has fixed it: that of the way out, once the one that it had is the machine's no more.

Source: https://kubernetes.io/docs/reference/node/node-status/#addresses
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

# Documentation's, so nobody's: only the way there is asked for, nothing is sent.
_ELSEWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}


def is_local(address: str) -> bool:
    """Whether an address is one of this machine."""
    with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def towards_elsewhere(version: int) -> str | None:
    """The machine's address on the way out of it, None where there is no way."""
    place = _ELSEWHERE[version]
    with socket.socket(_family(place), socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((place, 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def current(
    known: str,
    *,
    local: Callable[[str], bool] = is_local,
    outwards: Callable[[int], str | None] = towards_elsewhere,
) -> str:
    """The address that a node with this one should have now."""
    if local(known):
        return known
    return outwards(ipaddress.ip_address(known).version) or known


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
