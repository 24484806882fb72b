"""Watches: what they tell, from where, in which order; lists in chunks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.kubeapi import Api, Refused, names


def config_map(name: str, label: str, **data: str) -> dict[str, Any]:
    """A config map with one label."""
    return {"metadata": {"name": name, "labels": {"watch": label}}, "data": data}


def short(events: list[tuple[str, Any]]) -> list[tuple[str, str, dict[str, str]]]:
    """An event's type, its object's name and data."""
    return [(kind, obj["metadata"]["name"], obj.get("data", {})) for kind, obj in events]


def maps(api: Api) -> str:
    return f"/api/v1/namespaces/{api.namespace}/configmaps"


@pytest.mark.conformance(
    "[sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps "
    "[Conformance]"
)
def test_adds_updates_and_deletes(api: Api) -> None:
    begin = api.get(maps(api))["metadata"]["resourceVersion"]
    api.post(maps(api), config_map("a", "A"))
    api.patch(f"{maps(api)}/a", {"data": {"mutation": "1"}})
    api.post(maps(api), config_map("b", "B"))
    api.delete(f"{maps(api)}/a")
    api.delete(f"{maps(api)}/b")
    selector = "labelSelector=watch%3D{}&resourceVersion=" + begin
    of_a = [("ADDED", "a", {}), ("MODIFIED", "a", {"mutation": "1"}), ("DELETED", "a", {"mutation": "1"})]
    of_b = [("ADDED", "b", {}), ("DELETED", "b", {})]
    assert short(api.watch(f"{maps(api)}?{selector.format('A')}")) == of_a
    assert short(api.watch(f"{maps(api)}?{selector.format('B')}")) == of_b
    either = api.watch(f"{maps(api)}?labelSelector=watch+in+(A,B)&resourceVersion={begin}")
    assert short(either) == [*of_a[:2], of_b[0], of_a[2], of_b[1]]


@pytest.mark.conformance(
    "[sig-api-machinery] Watchers should be able to start watching from a specific resource version [Conformance]",
    "[sig-api-machinery] Watchers should be able to restart watching from the last resource version observed by the "
    "previous watch [Conformance]",
)
def test_from_a_version(api: Api) -> None:
    api.post(maps(api), config_map("a", "A"))
    first = api.patch(f"{maps(api)}/a", {"data": {"mutation": "1"}})["metadata"]["resourceVersion"]
    api.patch(f"{maps(api)}/a", {"data": {"mutation": "2"}})
    api.delete(f"{maps(api)}/a")
    found = api.watch(f"{maps(api)}?labelSelector=watch%3DA&resourceVersion={first}")
    assert short(found) == [("MODIFIED", "a", {"mutation": "2"}), ("DELETED", "a", {"mutation": "2"})]
    last = found[0][1]["metadata"]["resourceVersion"]
    again = api.watch(f"{maps(api)}?labelSelector=watch%3DA&resourceVersion={last}")
    assert again == found[1:]


@pytest.mark.conformance(
    "[sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the "
    "selector [Conformance]"
)
def test_leaving_the_selection(api: Api) -> None:
    made = api.post(maps(api), config_map("a", "A"))["metadata"]["resourceVersion"]
    for label, value in (("A", "1"), ("other", "2"), ("other", "3"), ("A", "4")):
        api.patch(f"{maps(api)}/a", {"metadata": {"labels": {"watch": label}}, "data": {"mutation": value}})
    api.delete(f"{maps(api)}/a")
    found = api.watch(f"{maps(api)}?labelSelector=watch%3DA&resourceVersion={made}")
    assert short(found) == [
        ("MODIFIED", "a", {"mutation": "1"}),
        ("DELETED", "a", {"mutation": "1"}),
        ("ADDED", "a", {"mutation": "4"}),
        ("DELETED", "a", {"mutation": "4"}),
    ]


@pytest.mark.conformance(
    "[sig-api-machinery] Watchers should receive events on concurrent watches in same order [Conformance]"
)
def test_the_same_order_for_all(api: Api) -> None:
    begin = api.get(maps(api))["metadata"]["resourceVersion"]
    with ThreadPoolExecutor(8) as threads:
        watches = [threads.submit(api.watch, f"{maps(api)}?resourceVersion={begin}", 2) for _ in range(5)]
        for each in range(30):
            api.post(maps(api), config_map(f"x-{each}", "A"))
            api.patch(f"{maps(api)}/x-{each}", {"data": {"mutation": "1"}})
            if each % 2:
                api.delete(f"{maps(api)}/x-{each}")
        orders = [[obj["metadata"]["resourceVersion"] for _, obj in each.result()] for each in watches]
    assert len(orders[0]) >= 75
    assert all(order == orders[0] for order in orders)
    assert sorted(orders[0], key=int) == orders[0]


@pytest.mark.conformance(
    "[sig-api-machinery] Servers with support for API chunking should return chunks of results for list calls "
    "[Conformance]"
)
def test_chunks(api: Api) -> None:
    path = f"/api/v1/namespaces/{api.namespace}/podtemplates"
    body = {"template": {"spec": {"containers": [{"name": "c", "image": "x"}]}}}
    made = [f"template-{each:04}" for each in range(40)]
    for each in made:
        api.post(path, {"metadata": {"name": each}, **body})
    found: list[str] = []
    token, versions, left = "", set(), len(made)
    while True:
        part = api.get(f"{path}?limit=17&continue={token}")
        assert len(part["items"]) <= 17
        found += names(part)
        left -= len(part["items"])
        versions.add(part["metadata"]["resourceVersion"])
        token = part["metadata"].get("continue", "")
        assert part["metadata"].get("remainingItemCount", 0) == left
        if not token:
            break
    assert found == made and len(versions) == 1
    assert list(names(api.get(path))) == made
    with pytest.raises(Refused) as caught:
        api.get(f"{path}?limit=17&continue=nonsense")
    assert caught.value.code == 400
