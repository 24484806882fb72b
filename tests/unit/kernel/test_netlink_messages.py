"""Netlink on paper: what is encoded decodes to the same, and what is malformed is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from windlass.kernel.netlink import address, attributes, conntrack, link, neighbour, route
from windlass.kernel.netlink.attributes import DecodeError
from windlass.kernel.netlink.connection import Reply, error_of, split

kinds = st.integers(1, 0x3FFF)


@given(st.lists(st.tuples(kinds, st.binary(max_size=70)), max_size=8))
def test_attributes_survive_encoding(records: list[tuple[int, bytes]]) -> None:
    data = b"".join(attributes.attribute(kind, payload) for kind, payload in records)
    assert len(data) % 4 == 0
    assert attributes.parse_list(data) == records
    assert attributes.parse(data) == dict(records)


@given(kinds, st.integers(0, 2**64 - 1))
def test_numbers_survive_encoding(kind: int, number: int) -> None:
    data = attributes.u8(kind, number % 256) + attributes.u32(kind, number % 2**32)
    (_, first), (_, second) = attributes.parse_list(data)
    assert attributes.as_u8(first) == number % 256
    assert attributes.as_u32(second) == number % 2**32
    (_, port), (_, low) = attributes.parse_list(
        attributes.u16_be(kind, number % 65536) + attributes.u16(kind, number % 65536)
    )
    assert attributes.as_u16_be(port) == attributes.as_u16(low) == number % 65536
    assert int.from_bytes(port, "big") == number % 65536


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_strings_survive_encoding(text: str) -> None:
    [(_, data)] = attributes.parse_list(attributes.string(1, text))
    assert attributes.as_string(data) == text


def test_a_nul_cannot_shorten_a_name() -> None:
    with pytest.raises(ValueError, match="NUL"):
        attributes.string(1, "eth0\0hidden")


@pytest.mark.parametrize(
    "data",
    [
        b"\x04",  # no whole header
        struct.pack("=HH", 3, 1),  # shorter than its header
        struct.pack("=HH", 0, 1),  # of no length: a reader that trusts it never ends
        struct.pack("=HH", 100, 1) + b"abc",  # longer than what is there
        attributes.u32(1, 1) + b"\0\0",  # a rest
    ],
)
def test_malformed_attributes_are_refused(data: bytes) -> None:
    for parse in (attributes.parse, attributes.parse_list):
        with pytest.raises(DecodeError):
            parse(data)


@pytest.mark.parametrize("data", [b"", b"abc", b"a\0b\0", b"\xff\0"])
def test_malformed_strings_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        attributes.as_string(data)


DECODERS = [
    (link.parse_link, link.RTM_NEWLINK),
    (address.parse_address, address.RTM_NEWADDR),
    (route.parse_route, route.RTM_NEWROUTE),
    (route.parse_rule, route.RTM_NEWRULE),
    (neighbour.parse_neighbour, neighbour.RTM_NEWNEIGH),
    (conntrack.parse_connection, 1 << 8),
]


@pytest.mark.parametrize(("decode", "kind"), DECODERS, ids=lambda each: getattr(each, "__name__", ""))
@given(data=st.binary(max_size=120))
def test_any_bytes_decode_or_are_refused(decode: object, kind: int, data: bytes) -> None:
    try:
        decode(Reply(kind, data))  # type: ignore[operator]
    except DecodeError:
        pass


@given(st.binary(max_size=100))
@example(struct.pack("=IHHII", 0, 2, 0, 0, 0))
@example(struct.pack("=IHHII", 16, 2, 0, 0, 0))
def test_any_datagram_splits_or_is_refused(data: bytes) -> None:
    try:
        for message in split(data):
            if message.type == 2:
                error_of(message)
    except DecodeError:
        pass


def test_the_kernels_words_are_taken_from_an_error() -> None:
    text = attributes.string(1, "Unknown device type")
    refused = struct.pack("=IHHII", 20, 16, 5, 7, 0) + b"body"
    whole = struct.pack("=i", -95) + refused + text
    capped = struct.pack("=i", -95) + refused[:16] + text
    for flags, body in ((0x200, whole), (0x300, capped)):
        datagram = struct.pack("=IHHII", 16 + len(body), 2, flags, 7, 0) + body
        [message] = split(datagram)
        assert error_of(message) == (95, "Unknown device type")


@given(st.binary(min_size=6, max_size=6))
def test_mac_addresses_survive(packed: bytes) -> None:
    assert link.parse_mac(link.format_mac(packed)) == packed


@pytest.mark.parametrize(
    "text", ["", "02:42", "02:42:ac:11:00:0g", "02:42:ac:11:00:02:03", "0:42:ac:11:00:02", "+2:42:ac:11:00:02"]
)
def test_what_is_no_mac_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid MAC address"):
        link.parse_mac(text)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "x" * 16, "a:b", "a\0", "ü" * 8])
def test_what_the_kernel_would_not_take_as_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="invalid interface name"):
        link.check_name(name)


def test_counters_are_seen_from_the_other_end() -> None:
    here = link.LinkStatistics(1, 2, 3, 4, 5, 6, 7, 8)
    assert here.seen_from_peer() == link.LinkStatistics(2, 1, 4, 3, 6, 5, 8, 7)
    assert here.seen_from_peer().seen_from_peer() == here
