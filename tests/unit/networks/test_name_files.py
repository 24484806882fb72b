"""The files by which a container resolves names."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import InvalidParameter
from windlass.networks import etchosts, resolvconf

HOST = resolvconf.parse("""\
# generated
; also a comment
nameserver 127.0.0.53
nameserver 192.0.2.1
nameserver fd00::53
nameserver not-an-address
domain old.example
search a.example b.example
options ndots:2
options edns0 trust-ad
sortlist 130.155.160.0/255.255.240.0
""")


def test_the_hosts_file_is_read_as_a_resolver_reads_it() -> None:
    assert [str(each) for each in HOST.nameservers] == ["127.0.0.53", "192.0.2.1", "fd00::53"]
    assert HOST.search == ("a.example", "b.example")
    assert HOST.options == ("ndots:2", "edns0", "trust-ad")
    assert HOST.other == ("sortlist 130.155.160.0/255.255.240.0",)


def test_a_container_gets_no_loopback_server_and_no_unreachable_family() -> None:
    assert resolvconf.render(resolvconf.for_container(HOST)) == (
        "nameserver 192.0.2.1\n"
        "search a.example b.example\n"
        "options ndots:2 edns0 trust-ad\n"
        "sortlist 130.155.160.0/255.255.240.0\n"
    )
    servers = resolvconf.for_container(HOST, ipv6=True).nameservers
    assert [str(each) for each in servers] == ["192.0.2.1", "fd00::53"]


def test_public_servers_stand_in_where_none_is_left() -> None:
    only_local = resolvconf.parse("nameserver 127.0.0.1\nnameserver ::1\n")
    assert [str(each) for each in resolvconf.for_container(only_local).nameservers] == ["8.8.8.8", "8.8.4.4"]
    assert len(resolvconf.for_container(only_local, ipv6=True).nameservers) == 4


def test_the_containers_options_replace_the_hosts() -> None:
    chosen = resolvconf.for_container(HOST, dns=["127.0.0.1", "fd00::1"], search=["x.example"], options=["rotate"])
    assert resolvconf.render(chosen) == (
        "nameserver 127.0.0.1\n"
        "nameserver fd00::1\n"
        "search x.example\n"
        "options rotate\n"
        "sortlist 130.155.160.0/255.255.240.0\n"
    )
    assert resolvconf.for_container(HOST, search=["."]).search == ()
    with pytest.raises(ValueError, match="not-an-address"):
        resolvconf.for_container(HOST, dns=["not-an-address"])


def test_a_container_in_the_hosts_namespace_keeps_loopback_servers() -> None:
    assert resolvconf.overridden(HOST) == HOST


def test_an_internal_resolver_stands_alone_and_keeps_ndots() -> None:
    conf = resolvconf.for_internal_resolver(HOST, ip_address("127.0.0.11"))
    assert [str(each) for each in conf.nameservers] == ["127.0.0.11"]
    assert conf.options == ("ndots:2", "edns0", "trust-ad")
    bad = resolvconf.for_internal_resolver(HOST, ip_address("127.0.0.11"), options=["ndots:x"])
    assert bad.options == ("ndots:0",)


def test_systemd_resolveds_real_servers_are_elsewhere() -> None:
    assert resolvconf.host_path("nameserver 127.0.0.53\noptions edns0\n") == resolvconf.RESOLVED_PATH
    assert resolvconf.host_path("nameserver 127.0.0.53\nnameserver 192.0.2.1\n") == resolvconf.HOST_PATH


@given(st.text())
def test_what_was_read_is_written_so_that_it_reads_the_same(text: str) -> None:
    conf = resolvconf.parse(text)
    assert resolvconf.parse(resolvconf.render(conf)) == conf


@given(st.text())
def test_a_container_never_gets_a_loopback_server_from_the_host(text: str) -> None:
    servers = resolvconf.for_container(resolvconf.parse(text)).nameservers
    assert servers and not any(each.is_loopback for each in servers)


def test_a_hosts_file_has_local_names_first_and_the_containers_own_last() -> None:
    text = etchosts.render(
        own=[etchosts.Entry("172.17.0.2", etchosts.own_names("web", "example.org"))],
        extra=etchosts.parse_extra_host("db:203.0.113.9"),
    )
    assert text == (
        "127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::\tip6-localnet\n"
        "ff00::\tip6-mcastprefix\n"
        "ff02::1\tip6-allnodes\n"
        "ff02::2\tip6-allrouters\n"
        "203.0.113.9\tdb\n"
        "172.17.0.2\tweb.example.org web\n"
    )


@pytest.mark.parametrize(
    ("hostname", "domain", "names"),
    [("web", "", "web"), ("web", "a.b", "web.a.b web"), ("web.a", "", "web.a web")],
)
def test_own_names(hostname: str, domain: str, names: str) -> None:
    assert etchosts.own_names(hostname, domain) == names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("db:203.0.113.9", [("203.0.113.9", "db")]),
        ("db:::1", [("::1", "db")]),
        ("db:[fd00::1]", [("fd00::1", "db")]),
        (
            "host.docker.internal:host-gateway",
            [("172.17.0.1", "host.docker.internal"), ("fd00::1", "host.docker.internal")],
        ),
    ],
)
def test_extra_hosts(text: str, expected: list[tuple[str, str]]) -> None:
    assert etchosts.parse_extra_host(text, ["172.17.0.1", "fd00::1"]) == [etchosts.Entry(*each) for each in expected]


@pytest.mark.parametrize(
    "text", ["", "db", ":1.2.3.4", "db:", "db:1.2.3", "d b:1.2.3.4", "db:1.2.3.4\n8.8.8.8 bank", "#:1.2.3.4"]
)
def test_an_extra_host_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="add-host"):
        etchosts.parse_extra_host(text)


def test_host_gateway_without_a_bridge_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="host-gateway"):
        etchosts.parse_extra_host("x:host-gateway")
