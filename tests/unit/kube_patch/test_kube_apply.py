"""Who owns which field: sets, ordinary writes, and server-side apply with its conflicts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kube.api.apply import fieldset, managers, typed
from windlass.kube.api.apply.apply import apply
from windlass.kube.api.status import StatusError
from windlass.kube.schema.catalogue import Catalogue

DEPLOYMENT = Catalogue().schema("io.k8s.api.apps.v1.Deployment")
CONFIG_MAP = Catalogue().schema("io.k8s.api.core.v1.ConfigMap")
NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"

_PATHS = st.lists(st.lists(st.sampled_from(["f:a", "f:b", 'k:{"n":"x"}', "v:1"]), min_size=1, max_size=3).map(tuple))


def members(fields: dict[str, Any]) -> set[tuple[str, ...]]:
    return set(fieldset.paths(fields))


@given(_PATHS, _PATHS)
def test_sets_are_sets(left: list[tuple[str, ...]], right: list[tuple[str, ...]]) -> None:
    a, b = fieldset.of_paths(left), fieldset.of_paths(right)
    assert members(a) == set(left)
    assert members(fieldset.union(a, b)) == set(left) | set(right)
    assert members(fieldset.difference(a, b)) == set(left) - set(right)
    assert members(fieldset.intersection(a, b)) == set(left) & set(right)
    assert fieldset.is_well_formed(a)


def test_paths_are_shown_as_upstream_shows_them() -> None:
    path = ("f:spec", "f:containers", 'k:{"name":"web"}', "f:image")
    assert fieldset.show(path) == '.spec.containers[name="web"].image'
    assert fieldset.show(("f:metadata", "f:finalizers", 'v:"x"')) == '.metadata.finalizers[="x"]'


def deployment(replicas: int | None = 1, image: str = "web:1", **labels: str) -> dict[str, Any]:
    obj: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": labels or {"app": "web"}},
        "spec": {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}},
    }
    if replicas is not None:
        obj["spec"]["replicas"] = replicas
    return obj


def update(live: Any, new: Any, manager: str, now: str = NOW, subresource: str = "") -> Any:
    new = copy.deepcopy(new)
    managers.update(
        live, new, schema=DEPLOYMENT, manager=manager, api_version="apps/v1", subresource=subresource, now=now
    )
    if live is None:
        new["metadata"]["uid"] = "1"
    return new


def applied(live: Any, config: Any, manager: str, *, force: bool = False, now: str = NOW) -> Any:
    return apply(
        live, copy.deepcopy(config), schema=DEPLOYMENT, manager=manager, api_version="apps/v1", force=force, now=now
    )


def owners(obj: Any) -> dict[str, Any]:
    return {
        f"{each['manager']}/{each['operation']}": each["fieldsV1"] for each in obj["metadata"].get("managedFields", ())
    }


def test_a_create_owns_what_it_sets() -> None:
    made = update(None, deployment(), "kubectl-create")
    assert owners(made) == {
        "kubectl-create/Update": {
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:template": {
                    "f:spec": {"f:containers": {'k:{"name":"web"}': {".": {}, "f:image": {}, "f:name": {}}}}
                },
            },
        }
    }


def test_an_update_takes_over_what_it_changes() -> None:
    made = update(None, deployment(), "one")
    changed = update(made, {**made, "spec": {**made["spec"], "replicas": 3}}, "two", LATER)
    assert owners(changed)["two/Update"] == {"f:spec": {"f:replicas": {}}}
    assert not fieldset.has(owners(changed)["one/Update"], ("f:spec", "f:replicas"))
    same = update(changed, copy.deepcopy(changed), "three", LATER)
    assert same == changed
    without = copy.deepcopy(changed)
    del without["spec"]["replicas"]
    assert "two/Update" not in owners(update(changed, without, "four", LATER))


def test_the_oldest_updaters_become_one() -> None:
    live = update(None, deployment(), "m0")
    for number in range(1, 15):
        new = copy.deepcopy(live)
        new["metadata"]["labels"][f"l{number}"] = "x"
        live = update(live, new, f"m{number}", f"2026-01-01T00:00:{number:02}Z")
    found = owners(live)
    assert len(found) == 10 and "ancient-changes/Update" in found
    assert fieldset.has(found["ancient-changes/Update"], ("f:metadata", "f:labels", "f:l1"))


def test_who_resets_it_starts_anew() -> None:
    made = update(None, deployment(), "one")
    reset = copy.deepcopy(made)
    reset["metadata"]["managedFields"] = [{}]
    assert "managedFields" not in update(made, reset, "two")["metadata"]


def test_an_apply_creates_changes_and_removes() -> None:
    live = applied({"metadata": {}}, deployment(app="web", tier="front"), "a")
    live["metadata"]["uid"] = "1"
    assert owners(live)["a/Apply"]["f:metadata"] == {"f:labels": {"f:app": {}, "f:tier": {}}}
    live = applied(live, deployment(replicas=None, image="web:2", app="web"), "a", now=LATER)
    assert live["metadata"]["labels"] == {"app": "web"}
    assert "replicas" not in live["spec"]
    assert live["spec"]["template"]["spec"]["containers"] == [{"name": "web", "image": "web:2"}]
    assert applied(live, deployment(replicas=None, image="web:2", app="web"), "a", now="later still") == live


def test_a_conflict_is_refused_in_upstreams_words_and_forced() -> None:
    live = update(None, deployment(), "kubectl-create")
    with pytest.raises(StatusError) as caught:
        applied(live, deployment(replicas=5), "ctl")
    error = caught.value
    assert error.code == 409
    assert error.message == (
        'Apply failed with 1 conflict: conflict with "kubectl-create" using apps/v1 at 2026-01-01T00:00:00Z: '
        ".spec.replicas"
    )
    assert error.details["causes"][0]["reason"] == "FieldManagerConflict"
    forced = applied(live, deployment(replicas=5), "ctl", force=True)
    assert forced["spec"]["replicas"] == 5
    assert not fieldset.has(owners(forced)["kubectl-create/Update"], ("f:spec", "f:replicas"))


def test_same_values_are_shared_and_survive_their_first_owner() -> None:
    live = applied({"metadata": {}}, deployment(replicas=3), "a")
    live["metadata"]["uid"] = "1"
    live = applied(live, deployment(replicas=3), "b")
    live = applied(live, deployment(replicas=None), "a")
    assert live["spec"]["replicas"] == 3  # b still wants it
    assert "replicas" not in applied(live, deployment(replicas=None), "b")["spec"]


def test_list_items_of_others_stay() -> None:
    live = update(None, deployment(), "create")
    sidecar = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{"name": "sidecar", "image": "s:1"}]}}},
    }
    live = applied(live, sidecar, "inject")
    assert [c["name"] for c in live["spec"]["template"]["spec"]["containers"]] == ["web", "sidecar"]
    nothing = {**sidecar, "spec": {}}
    assert [c["name"] for c in applied(live, nothing, "inject")["spec"]["template"]["spec"]["containers"]] == ["web"]


_VALUES = st.sampled_from(["x", "y", "z"])
_DATA = st.dictionaries(st.sampled_from(["a", "b", "c"]), _VALUES)


@given(st.lists(st.tuples(st.sampled_from(["m1", "m2"]), _DATA), min_size=1, max_size=6))
def test_an_applied_object_is_what_its_managers_want(steps: list[tuple[str, dict[str, str]]]) -> None:
    live: dict[str, Any] = {"metadata": {"uid": "1"}}
    wanted: dict[str, dict[str, str]] = {}
    for manager, data in steps:
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": dict(data)}
        live = apply(live, config, schema=CONFIG_MAP, manager=manager, api_version="v1", force=True, now=NOW)
        for other in wanted:  # what is forced is taken from who wants it otherwise
            wanted[other] = {k: v for k, v in wanted[other].items() if data.get(k, v) == v}
        wanted[manager] = data
        expected = {key: value for each in wanted.values() for key, value in each.items()}
        assert live.get("data", {}) == expected
        again = apply(live, config, schema=CONFIG_MAP, manager=manager, api_version="v1", now=LATER)
        assert again == live


def test_merging_keeps_what_is_not_applied() -> None:
    schema = DEPLOYMENT.properties["spec"].properties["template"].properties["spec"].properties["containers"]
    live = [{"name": "a"}, {"name": "b", "image": "1"}, {"name": "c"}]
    merged = typed.merge(live, [{"name": "d"}, {"name": "b", "tty": True}], schema)
    assert {item["name"] for item in merged} == {"a", "b", "c", "d"}
    assert next(item for item in merged if item["name"] == "b") == {"name": "b", "image": "1", "tty": True}
