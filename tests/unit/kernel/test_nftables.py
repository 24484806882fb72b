"""nftables through the library: transactions and errors."""

from __future__ import annotations

import errno

import pytest

from support.private_network import private_network
from windlass.kernel.nftables import Nftables

pytestmark = pytest.mark.root


@private_network
def test_a_script_is_carried_out_and_listed() -> None:
    with Nftables() as nftables:
        assert nftables.tables() == []
        nftables.run("add table ip t\nadd set ip t s { type inet_service; elements = { 80, 443 } }", about="test")
        assert nftables.tables() == [("ip", "t")]
        [found] = [each["set"] for each in nftables.list_table("ip", "t") if "set" in each]
        assert (found["name"], found["elem"]) == ("s", [80, 443])


@private_network
def test_a_script_that_fails_changes_nothing() -> None:
    with Nftables() as nftables:
        with pytest.raises(FileNotFoundError, match=r"nftables: .*the change of the test"):
            nftables.run("add table ip t\nadd element ip t nothing { 80 }", about="the change of the test")
        assert nftables.tables() == []
        nftables.run("add table ip t", about="test")
        with pytest.raises(OSError, match="syntax error") as wrong:
            nftables.run("add table ip u\nadd nonsense", about="test")
        assert wrong.value.errno == errno.EINVAL
        with pytest.raises(FileNotFoundError, match="table ip nothing"):
            nftables.list_table("ip", "nothing")
        assert nftables.tables() == [("ip", "t")]


@private_network
def test_a_closed_connection_says_so() -> None:
    nftables = Nftables()
    nftables.close()
    nftables.close()
    with pytest.raises(OSError, match="closed"):
        nftables.tables()
