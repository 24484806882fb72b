"""The node's address follows the machine's, where it has to."""

from __future__ import annotations

from windlass.kube.node import address


def test_an_address_stays_as_long_as_it_is_the_machine_s() -> None:
    assert address.current("198.51.100.1", local=lambda _: True, outwards=lambda _: "198.51.100.2") == "198.51.100.1"


def test_another_one_takes_its_place_then() -> None:
    outwards = {4: "198.51.100.2", 6: "2001:db8::2"}.__getitem__
    assert address.current("198.51.100.1", local=lambda _: False, outwards=outwards) == "198.51.100.2"
    assert address.current("2001:db8::1", local=lambda _: False, outwards=outwards) == "2001:db8::2"


def test_without_a_way_out_nothing_changes() -> None:
    assert address.current("198.51.100.1", local=lambda _: False, outwards=lambda _: None) == "198.51.100.1"


def test_the_kernel_is_asked() -> None:
    assert address.is_local("127.0.0.1")
    assert not address.is_local("198.51.100.1")
