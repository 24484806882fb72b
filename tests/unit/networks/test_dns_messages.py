"""DNS on paper: questions read, answers written, noise refused."""

from __future__ import annotations

import struct
from ipaddress import IPv4Interface, IPv6Interface, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.networks.attachment import Endpoint
from windlass.networks.dns import message
from windlass.networks.dns.directory import Directory
from windlass.networks.drivers.driver import Plug

labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20)
names = st.lists(labels, min_size=1, max_size=6).map(".".join)


def question(name: str, kind: int = message.A, *, identity: int = 7, flags: int = 0x0100, payload: int = 0) -> bytes:
    extra = b"\0" + struct.pack("!HHIH", message.OPT, payload, 0, 0) if payload else b""
    header = struct.pack("!6H", identity, flags, 1, 0, 0, 1 if payload else 0)
    return header + message.encode_name(name) + struct.pack("!HH", kind, message.IN) + extra


def addresses(response: bytes) -> list[str]:
    """The addresses in a response of ours."""
    _, flags, questions, answers, _, _ = struct.unpack_from("!6H", response)
    assert flags & 0x8000 and questions == 1
    offset = 12
    while response[offset]:
        offset += response[offset] + 1
    offset += 5
    found = []
    for _ in range(answers):
        pointer, _, _, _, length = struct.unpack_from("!HHHIH", response, offset)
        assert pointer == 0xC00C
        found.append(str(ip_address(response[offset + 12 : offset + 12 + length])))
        offset += 12 + length
    assert offset == len(response)
    return found


@given(names, st.integers(0, 65535), st.integers(0, 65535))
def test_a_question_is_read(name: str, kind: int, identity: int) -> None:
    query = message.parse_query(question(name.upper(), kind, identity=identity))
    assert (query.name, query.type, query.id, query.kind) == (name, kind, identity, message.IN)
    assert query.standard and query.payload == 512


@given(st.binary(max_size=80))
def test_any_bytes_are_a_question_or_refused(data: bytes) -> None:
    try:
        message.parse_query(data)
    except message.DecodeError:
        refusal = message.refuse(data, message.FORMERR)
        assert refusal is None or (refusal[:2] == data[:2] and message.code_of(refusal) == message.FORMERR)


@given(names, st.data())
def test_a_question_that_is_cut_short_is_refused(name: str, data: st.DataObject) -> None:
    whole = question(name)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(message.DecodeError):
        message.parse_query(cut)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!6H", 1, 0x8000, 1, 0, 0, 0) + b"\1a\0\0\1\0\1",  # a response: answering it would never end
        struct.pack("!6H", 1, 0, 2, 0, 0, 0) + b"\1a\0\0\1\0\1" * 2,
        struct.pack("!6H", 1, 0, 0, 0, 0, 0),
        struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",  # a name that refers to itself
        struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\x3f" + b"a" * 62,
    ],
)
def test_what_is_no_single_question_is_refused(data: bytes) -> None:
    with pytest.raises(message.DecodeError):
        message.parse_query(data)


def test_an_answer_fits_its_question() -> None:
    query = message.parse_query(question("web", payload=1232))
    assert query.payload == 1232
    response = message.answer(query, [(message.A, ip_address("10.0.0.1").packed)])
    assert addresses(response) == ["10.0.0.1"] and message.answers_to(query, response)
    other = message.parse_query(question("web", identity=8))
    assert not message.answers_to(other, response)
    assert not message.answers_to(message.parse_query(question("db")), response)
    short = message.truncated(response)
    assert addresses(short) == [] and short[2] & 0x02 and message.answers_to(query, short)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("2.0.17.172.in-addr.arpa", "172.17.0.2"),
        ("2." + "0." * 29 + "d.f.ip6.arpa", "fd00::2"),
        ("2.0.17.in-addr.arpa", None),
        ("999.0.17.172.in-addr.arpa", None),
        ("x." + "0." * 31 + "ip6.arpa", None),
        ("web", None),
    ],
)
def test_reverse_names(name: str, address: str | None) -> None:
    found = message.reverse_address(name)
    assert (str(found) if found else None) == address


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64, ".".join(["x" * 60] * 5)])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"domain name"):
        message.encode_name(name)


def endpoint(name: str, network: str, ipv4: str, ipv6: str = "", *, aliases: tuple[str, ...] = ()) -> Endpoint:
    plug = Plug(
        ipv4=IPv4Interface(f"{ipv4}/24"),
        ipv6=IPv6Interface(f"{ipv6}/64") if ipv6 else None,
    )
    return Endpoint(
        id=f"{network}-{name}",
        network_id=f"id-{network}",
        network_name=network,
        plug=plug,
        dns_names=(name, *aliases),
    )


def test_names_are_known_in_their_networks_only() -> None:
    directory = Directory()
    web = endpoint("Web", "front", "10.0.0.2", "fd00::2", aliases=("www",))
    other = endpoint("other", "front", "10.0.0.3", aliases=("www",))
    db = endpoint("db", "back", "10.1.0.2")
    for each in (web, other, db):
        directory.add(each)

    def ask(networks: list[str], name: str, kind: int = message.A) -> list[str] | None:
        response = directory.answer(networks, message.parse_query(question(name, kind)))
        return None if response is None else sorted(addresses(response))

    assert ask(["id-front"], "web") == ask(["id-front"], "WEB.front") == ["10.0.0.2"]
    assert ask(["id-front"], "www") == ["10.0.0.2", "10.0.0.3"]
    assert ask(["id-front"], "web", message.AAAA) == ["fd00::2"]
    # Ours, and without an IPv6 address: an empty answer, and nobody else is asked.
    assert ask(["id-front"], "other", message.AAAA) == []
    assert ask(["id-front"], "db") is None and ask([], "web") is None
    assert ask(["id-front", "id-back"], "db") == ["10.1.0.2"]
    reverse = directory.answer(["id-front"], message.parse_query(question("2.0.0.10.in-addr.arpa", message.PTR)))
    assert reverse is not None and b"\3Web\5front" in reverse
    assert directory.answer(["id-back"], message.parse_query(question("2.0.0.10.in-addr.arpa", message.PTR))) is None
    directory.discard(web)
    directory.discard(web)
    assert ask(["id-front"], "web") is None and ask(["id-front"], "www") == ["10.0.0.3"]
