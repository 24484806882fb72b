"""What of a service stands in the packet filter. Oracle: the documentation of virtual IPs and traffic policies."""

from __future__ import annotations

from typing import Any

from windlass.kube.proxy import rules
from windlass.kube.proxy.model import Endpoint, ServicePort, ports_of
from windlass.kube.proxy.rules import Rules, difference, of_port


def service(**spec: Any) -> Any:
    wanted = {"clusterIP": "10.43.0.5", "ports": [{"name": "web", "port": 80, "protocol": "TCP"}]} | spec
    return {"metadata": {"namespace": "ns", "name": "s"}, "spec": wanted}


def slice_of(*endpoints: Any, kind: str = "IPv4") -> Any:
    ports = [{"name": "web", "port": 8080, "protocol": "TCP"}]
    return {"addressType": kind, "ports": ports, "endpoints": list(endpoints)}


def endpoint(address: str, node: str = "n1", **conditions: bool) -> Any:
    return {"addresses": [address], "nodeName": node, "conditions": conditions}


def one(found: list[ServicePort]) -> ServicePort:
    assert len(found) == 1
    return found[0]


def test_ready_endpoints_are_used_and_ending_ones_where_there_is_no_other() -> None:
    ready, ending = endpoint("10.42.0.2"), endpoint("10.42.0.3", ready=False, serving=True, terminating=True)
    dead = endpoint("10.42.0.4", ready=False, serving=False, terminating=True)
    both = one(ports_of(service(), [slice_of(ready, ending, dead)], "n1", 4))
    assert both.internal == (Endpoint("10.42.0.2", 8080),)
    left = one(ports_of(service(), [slice_of(ending, dead)], "n1", 4))
    assert left.internal == (Endpoint("10.42.0.3", 8080),)


def test_policies_choose_endpoints_of_this_node() -> None:
    slices = [slice_of(endpoint("10.42.0.2", "n1"), endpoint("10.42.1.2", "n2"))]
    local = service(internalTrafficPolicy="Local", externalTrafficPolicy="Local", type="NodePort")
    here = one(ports_of(local, slices, "n2", 4))
    assert here.internal == here.external == (Endpoint("10.42.1.2", 8080),)
    assert len(here.everywhere) == 2 and here.keeps_source
    elsewhere = one(ports_of(local, slices, "n3", 4))
    assert elsewhere.drops_internal and elsewhere.drops_external
    assert of_port(elsewhere, 4, []).elements["services", "10.43.0.5 . tcp . 80"] == "drop"


def test_headless_foreign_and_other_versions_are_nothing() -> None:
    for each in (service(clusterIP="None"), service(type="ExternalName")):
        assert not ports_of(each, [], "n1", 4)
    assert not ports_of(service(), [], "n1", 6)
    foreign = service()
    foreign["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "mine"}
    assert not ports_of(foreign, [], "n1", 4)


def test_without_endpoints_connections_are_refused() -> None:
    found = of_port(one(ports_of(service(), [], "n1", 4)), 4, [])
    assert found.elements == {("empty", "10.43.0.5 . tcp . 80"): ""}


def test_changes_are_made_in_an_order_in_which_nothing_refers_to_what_is_not() -> None:
    before = of_port(one(ports_of(service(), [slice_of(endpoint("10.42.0.2"))], "n1", 4)), 4, ["10.42.0.0/16"])
    after = of_port(one(ports_of(service(), [], "n1", 4)), 4, ["10.42.0.0/16"])
    script = difference("ip", "t", before, after).splitlines()
    chain = next(iter(before.chains))
    assert script.index(f"delete chain ip t {chain}") > next(
        number for number, line in enumerate(script) if line.startswith("delete element ip t services")
    )
    back = difference("ip", "t", after, before).splitlines()
    assert back[0] == f"add chain ip t {chain}"
    assert difference("ip", "t", before, before) == ""


def test_parts_that_share_an_element_have_it_once() -> None:
    found = rules.merged([Rules({("hairpin", "a"): ""}), Rules({("hairpin", "a"): ""})])
    assert list(found.elements) == [("hairpin", "a")]
