"""Patches by their specifications, and what hostile ones come to."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kube.api.patch import json_patch, merge_patch, strategic
from windlass.kube.api.status import StatusError
from windlass.kube.schema import Schema
from windlass.kube.schema.catalogue import Catalogue

POD = Catalogue().schema("io.k8s.api.core.v1.Pod")
DEPLOYMENT = Catalogue().schema("io.k8s.api.apps.v1.Deployment")


@pytest.mark.parametrize(
    ("document", "operations", "expected"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": 1, "b": 2}, [{"op": "remove", "path": "/b"}], {"a": 1}),
        ({"a": {"b": 1}}, [{"op": "replace", "path": "/a/b", "value": None}], {"a": {"b": None}}),
        ({"a": 1}, [{"op": "move", "from": "/a", "path": "/b"}], {"b": 1}),
        ({"a": [1]}, [{"op": "copy", "from": "/a", "path": "/b"}, {"op": "add", "path": "/b/-", "value": 2}],
         {"a": [1], "b": [1, 2]}),
        ({"x/y": 1, "m~n": 2}, [{"op": "remove", "path": "/x~1y"}, {"op": "test", "path": "/m~0n", "value": 2}],
         {"m~n": 2}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"z": 0}}], {"z": 0}),
    ],
)  # fmt: skip
def test_json_patches(document: Any, operations: Any, expected: Any) -> None:
    assert json_patch.apply(document, operations) == expected


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ({}, 400),
        (["x"], 400),
        ([{"op": "jump", "path": "/a"}], 400),
        ([{"op": "remove", "path": "/nothing"}], 422),
        ([{"op": "replace", "path": "/nothing", "value": 1}], 422),
        ([{"op": "test", "path": "/a", "value": 2}], 422),
        ([{"op": "add", "path": "/list/7", "value": 1}], 422),
        ([{"op": "add", "path": "/list/01", "value": 1}], 422),
        ([{"op": "add", "path": "a", "value": 1}], 422),
        ([{"op": "add", "path": "/b"}], 422),
        ([{"op": "add", "path": "/b", "value": 1}] * 10_001, 413),
        ([{"op": "copy", "from": "", "path": "/list/-"}] * 40, 413),
    ],
)
def test_json_patches_that_fail(operations: Any, code: int) -> None:
    with pytest.raises(StatusError) as caught:
        json_patch.apply({"a": 1, "list": []}, operations)
    assert caught.value.code == code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab~/", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab~/", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_any_value_is_a_json_patch_or_refused(document: Any, patch: Any) -> None:
    with contextlib.suppress(StatusError):
        json_patch.apply(document, patch)


@given(st.dictionaries(st.text("ab", max_size=2), JSON), st.dictionaries(st.text("ab", max_size=2), JSON))
def test_a_created_merge_patch_leads_there(before: Any, after: Any) -> None:
    def without_null(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without_null(child) for name, child in value.items() if child is not None}
        return [without_null(item) for item in value] if isinstance(value, list) else value

    before, after = without_null(before), without_null(after)
    patch = merge_patch.create(before, after)
    result = merge_patch.apply(copy.deepcopy(before), patch)
    assert result == after
    assert merge_patch.apply(copy.deepcopy(result), patch) == after


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), **spec}}


def test_a_strategic_patch_merges_lists_by_their_key() -> None:
    live = pod({"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}, nodeName="n")
    patch = {"spec": {"containers": [{"name": "b", "image": "b:2"}, {"name": "c"}]}}
    assert strategic.apply(live, patch, POD) == pod(
        {"name": "a", "image": "a:1"}, {"name": "b", "image": "b:2"}, {"name": "c"}, nodeName="n"
    )


def test_its_directives() -> None:
    live = pod({"name": "a", "image": "a:1"}, {"name": "b"})
    gone = strategic.apply(copy.deepcopy(live), {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}, POD)
    assert gone == pod({"name": "b"})
    replaced = {"spec": {"containers": [{"name": "z"}, {"$patch": "replace"}]}}
    assert strategic.apply(copy.deepcopy(live), replaced, POD) == pod({"name": "z"})
    ordered = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}
    assert [c["name"] for c in strategic.apply(copy.deepcopy(live), ordered, POD)["spec"]["containers"]] == ["b", "a"]
    finalizers = {"metadata": {"finalizers": ["x", "y"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"], "finalizers": ["z"]}}
    assert set(strategic.apply(finalizers, patch, POD)["metadata"]["finalizers"]) == {"y", "z"}
    strategy = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    retained = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic.apply(strategy, retained, DEPLOYMENT) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_null_removes_and_atomic_lists_are_replaced() -> None:
    live = pod({"name": "a", "args": ["x", "y"]}, nodeSelector={"k": "v"})
    patch = {"spec": {"nodeSelector": None, "containers": [{"name": "a", "args": ["z"]}]}}
    assert strategic.apply(live, patch, POD) == pod({"name": "a", "args": ["z"]})


@pytest.mark.parametrize(
    "patch",
    [
        [],
        {"spec": {"containers": ["x"]}},
        {"spec": {"containers": [{"image": "no key"}]}},
        {"$patch": "explode"},
        {"spec": {"$retainKeys": "x"}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": 1}},
    ],
)
def test_malformed_strategic_patches(patch: Any) -> None:
    with pytest.raises(StatusError):
        strategic.apply(pod({"name": "a"}), patch, POD)


@given(JSON, JSON)
def test_any_value_is_a_strategic_patch_or_refused(document: Any, patch: Any) -> None:
    loop = Schema("object", properties={"a": Schema("array", patch_strategy=frozenset({"merge"}), patch_merge_key="b")})
    with contextlib.suppress(StatusError):
        strategic.apply(document, patch, loop)
