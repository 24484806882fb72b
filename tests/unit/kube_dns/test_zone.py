"""The names of a cluster. Oracle: the specification of Kubernetes' DNS-based service discovery, version 1.1.0."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kube.dns.zone import Zone
from windlass.networks.dns import message


class Cache:
    """Objects in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[tuple[str, str], Any]] = {"services": {}, "endpointslices": {}, "namespaces": {}}

    def get(self, group: str, resource: str, namespace: str, name: str) -> Any:
        return self.objects[resource].get((namespace, name))

    def list(self, group: str, resource: str, namespace: str = "") -> list[Any]:
        return list(self.objects[resource].values())

    def subscribe(self, *_: Any) -> None:
        """Nothing changes here."""

    def unsubscribe(self, *_: Any) -> None:
        """Nothing changes here."""


def zone() -> Zone:
    cache = Cache()
    cache.objects["namespaces"]["", "ns"] = {"metadata": {"name": "ns"}}

    def service(name: str, **spec: Any) -> None:
        cache.objects["services"]["ns", name] = {"metadata": {"namespace": "ns", "name": name}, "spec": spec}

    service("web", clusterIP="10.43.0.5", ports=[{"name": "http", "port": 80, "protocol": "TCP"}])
    service("db", clusterIP="None", ports=[{"name": "sql", "port": 5432}])
    service("far", type="ExternalName", externalName="example.com")
    cache.objects["endpointslices"]["ns", "db-1"] = {
        "metadata": {"namespace": "ns", "name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
        "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["10.42.0.2"], "hostname": "db-0", "conditions": {"ready": True}},
            {"addresses": ["10.42.0.3"], "conditions": {}},
            {"addresses": ["10.42.0.4"], "hostname": "late", "conditions": {"ready": False}},
        ],
    }
    found = Zone(cache, "cluster.local")
    found.start()
    return found


def query(name: str, kind: int = message.A) -> message.Query:
    data = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + message.encode_name(name) + struct.pack("!HH", kind, 1)
    return message.parse_query(data)


def ask(name: str, kind: int = message.A) -> tuple[int, list[bytes]]:
    response = zone().answer(query(name, kind))
    assert response is not None
    return message.code_of(response), [each.data for each in message.records_of(response) if each.type == kind]


def addresses(name: str) -> set[str]:
    return {str(ipaddress.ip_address(each)) for each in ask(name)[1]}


def test_services_and_endpoints_have_addresses() -> None:
    assert addresses("web.ns.svc.cluster.local") == {"10.43.0.5"}
    assert addresses("WEB.ns.SVC.cluster.local") == {"10.43.0.5"}
    assert addresses("db.ns.svc.cluster.local") == {"10.42.0.2", "10.42.0.3"}
    assert addresses("db-0.db.ns.svc.cluster.local") == {"10.42.0.2"}
    assert addresses("10-42-0-3.db.ns.svc.cluster.local") == {"10.42.0.3"}
    assert addresses("10-42-7-7.ns.pod.cluster.local") == {"10.42.7.7"}


def test_ports_have_places() -> None:
    code, (record,) = ask("_http._tcp.web.ns.svc.cluster.local", message.SRV)
    assert code == 0 and struct.unpack_from("!3H", record)[2] == 80
    assert record[6:] == message.encode_name("web.ns.svc.cluster.local")
    _, records = ask("_sql._tcp.db.ns.svc.cluster.local", message.SRV)
    assert {each[6:] for each in records} == {
        message.encode_name(f"{name}.db.ns.svc.cluster.local") for name in ("db-0", "10-42-0-3")
    }


def test_addresses_have_names() -> None:
    assert ask("5.0.43.10.in-addr.arpa", message.PTR)[1] == [message.encode_name("web.ns.svc.cluster.local")]
    assert ask("2.0.42.10.in-addr.arpa", message.PTR)[1] == [message.encode_name("db-0.db.ns.svc.cluster.local")]
    assert zone().answer(query("9.9.9.9.in-addr.arpa", message.PTR)) is None


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("nobody.ns.svc.cluster.local", message.A, message.NXDOMAIN),
        ("web.other.svc.cluster.local", message.A, message.NXDOMAIN),
        ("late.db.ns.svc.cluster.local", message.A, message.NXDOMAIN),
        ("x.y.z.cluster.local", message.A, message.NXDOMAIN),
        ("web.ns.svc.cluster.local", message.AAAA, message.NOERROR),
        ("ns.svc.cluster.local", message.A, message.NOERROR),
        ("cluster.local", message.A, message.NOERROR),
    ],
)
def test_what_is_not_there_is_told_from_what_has_no_such_record(name: str, kind: int, code: int) -> None:
    assert ask(name, kind) == (code, [])


def test_the_version_is_told() -> None:
    assert ask("dns-version.cluster.local", message.TXT)[1] == [b"\x051.1.0"]


def test_aliases_and_foreign_names_are_asked_for_elsewhere() -> None:
    assert zone().answer(query("far.ns.svc.cluster.local")) is None
    assert zone().alias("far.ns.svc.cluster.local") == "example.com"
    assert zone().answer(query("example.com")) is None


LABELS = st.lists(st.sampled_from(["web", "db", "ns", "svc", "pod", "_http", "_tcp", "10-0-0-1", "x"]), max_size=7)


@given(LABELS, st.sampled_from([message.A, message.AAAA, message.SRV, message.PTR, message.ANY, 250]))
def test_every_name_of_the_zone_gets_an_answer(labels: list[str], kind: int) -> None:
    response = zone().answer(query(".".join([*labels, "cluster.local"]), kind))
    assert response is not None and message.code_of(response) in (message.NOERROR, message.NXDOMAIN)
