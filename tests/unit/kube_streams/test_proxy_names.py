"""Names behind proxies, links through them, and what a kubelet's paths need."""

from __future__ import annotations

import pytest

from windlass.http import Response, StreamResponse
from windlass.kube.api import links
from windlass.kube.api.kubelets import is_routable, refusal
from windlass.kube.api.status import StatusError
from windlass.kube.api.subresources.proxies import split_name
from windlass.kube.node.server.access import subresources
from windlass.kube.node.server.metrics import Family, Sample, render

PREFIX = "/api/v1/namespaces/n/pods/p/proxy"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("web", ("", "web", "")), ("web:80", ("", "web", "80")), ("https:web:http", ("https", "web", "http"))],
)
def test_names_say_scheme_and_port(name: str, wanted: tuple[str, str, str]) -> None:
    assert split_name(name, "service") == wanted


@pytest.mark.parametrize("name", ["ftp:web:1", ":80", "a:b:c:d", "https::1"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(StatusError, match="invalid service request"):
        split_name(name, "service")


@pytest.mark.parametrize(
    ("link", "wanted"),
    [
        ("/a?b#c", f"{PREFIX}/a?b#c"),
        ("a/b", "a/b"),
        (f"{PREFIX}/a", f"{PREFIX}/a"),
        ("http://10.0.0.1:8080/a", f"{PREFIX}/a"),
        ("http://elsewhere/a", "http://elsewhere/a"),
        ("//elsewhere/a", "//elsewhere/a"),
        ("mailto:x", "mailto:x"),
        ("http://[", "http://["),
    ],
)
def test_links_lead_through_the_proxy(link: str, wanted: str) -> None:
    assert links.rewrite(link, PREFIX, {"10.0.0.1:8080"}) == wanted


def test_links_are_found_in_tags_alone() -> None:
    page = b"""<A HREF="/a" title="/t"><img src='/b' alt=x> /c href="/d" <form action = "/e">"""
    prefix = PREFIX.encode()
    wanted = b"""<A HREF="%s/a" title="/t"><img src='%s/b' alt=x> /c href="/d" <form action = "%s/e">"""
    assert links.in_html(page, PREFIX, ()) == wanted % (prefix, prefix, prefix)


async def test_only_html_is_read_whole() -> None:
    async def chunks() -> object:
        yield b"<a href='/"
        yield b"x'>"

    html = StreamResponse(200, [("Content-Type", "text/html; charset=utf-8")], chunks())  # type: ignore[arg-type]
    found = await links.rewritten(html, PREFIX, ())
    assert isinstance(found, Response) and found.body == f"<a href='{PREFIX}/x'>".encode()
    text = StreamResponse(302, [("Content-Type", "text/plain"), ("Location", "/l")], chunks())  # type: ignore[arg-type]
    found = await links.rewritten(text, PREFIX, ())
    assert isinstance(found, StreamResponse) and ("Location", f"{PREFIX}/l") in list(found.headers)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/exec/n/p/c", ["proxy"]),
        ("/stats/summary", ["stats"]),
        ("/metrics", ["metrics"]),
        ("/metrics/cadvisor", ["metrics"]),
        ("/metricsx", ["proxy"]),
        ("/logs/", ["log"]),
        ("/pods", ["pods", "proxy"]),
        ("/healthz", ["healthz", "proxy"]),
    ],
)
def test_paths_of_a_kubelet_need_parts_of_the_node(path: str, wanted: list[str]) -> None:
    assert list(subresources(path)) == wanted


def test_loopbacks_are_no_targets() -> None:
    wanted = {"10.0.0.1": True, "fd00::1": True, "127.0.0.1": False, "::1": False, "169.254.169.254": False, "": False}
    assert {address: is_routable(address) for address in wanted} == wanted


def test_refusals_of_kubelets_become_statuses() -> None:
    assert (refusal(400, b"no\n").reason, refusal(400, b"no\n").message) == ("BadRequest", "no")
    assert refusal(500, b"Internal error occurred: x").message == "Internal error occurred: x"
    assert refusal(404, b"gone").reason == "NotFound"


def test_metrics_are_text() -> None:
    samples = [Sample({"a": 'x"\\\n'}, 1.5, 7), Sample({}, 2)]
    assert render([Family("m", "gauge", "Help.", samples)]).decode() == (
        '# HELP m Help.\n# TYPE m gauge\nm{a="x\\"\\\\\\n"} 1.5 7\nm 2\n'
    )
