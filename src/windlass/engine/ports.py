"""Port specifications: `80`, `80/tcp`, `8000-8010/udp`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from windlass.errors import InvalidParameter


class PortRange(NamedTuple):
    """Consecutive ports of one protocol."""

    first: int
    last: int
    protocol: str

    def ports(self) -> list[str]:
        """Each port as `number/protocol`."""
        return [f"{number}/{self.protocol}" for number in range(self.first, self.last + 1)]


def _number(text: str) -> int:
    if not text:
        raise ValueError("value is empty")
    if not (text.isascii() and text.isdigit()):
        raise ValueError("invalid syntax")
    number = int(text)
    if number > 65535:
        raise ValueError("value out of range")
    return number


def parse_range(text: str) -> PortRange:
    """One port or a range; the protocol is tcp unless given. Raises `ValueError` with dockerd's words."""
    if not text:
        raise ValueError("invalid port range: value is empty")
    numbers, _, protocol = text.partition("/")
    first, dash, last = numbers.partition("-")
    try:
        start = _number(first)
    except ValueError as error:
        raise ValueError(f"invalid start port '{first}': {error}") from None
    if not dash:
        return PortRange(start, start, protocol.lower() or "tcp")
    try:
        end = _number(last)
    except ValueError as error:
        raise ValueError(f"invalid end port '{last}': {error}") from None
    if end < start:
        raise ValueError(f"invalid port range: {text}")
    return PortRange(start, end, protocol.lower() or "tcp")


def parse_port(text: str) -> str:
    """One port in its normal form, `number/protocol`. Raises `InvalidParameter`."""
    try:
        port = parse_range(text)
    except ValueError:
        raise InvalidParameter(f'invalid port specification: "{text}"') from None
    if port.first != port.last or port.first == 0 or port.protocol not in {"tcp", "udp", "sctp"}:
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return f"{port.first}/{port.protocol}"


def expand_exposed(ports: Iterable[str]) -> dict[str, dict[str, object]]:
    """`ExposedPorts` with ranges taken apart and protocols filled in. Raises `InvalidParameter`."""
    result: dict[str, dict[str, object]] = {}
    for text in ports:
        try:
            wanted = parse_range(text)
        except ValueError as error:
            raise InvalidParameter(str(error)) from None
        result |= {port: {} for port in wanted.ports()}
    return result


def normalise_bindings(bindings: Mapping[str, Sequence[dict[str, str]]]) -> dict[str, list[dict[str, str]]]:
    """`PortBindings` with protocols filled in and an empty binding for a port that has none.

    Raises `InvalidParameter` for what is no port.
    """
    result: dict[str, list[dict[str, str]]] = {}
    for text, hosts in bindings.items():
        port = parse_port(text)
        for host in hosts:
            if wanted := host.get("HostPort"):
                try:
                    parse_range(wanted)
                except ValueError:
                    raise InvalidParameter(f'invalid port specification: "{wanted}"') from None
        result[port] = [dict(host) for host in hosts] or [{"HostIp": "", "HostPort": ""}]
    return result
