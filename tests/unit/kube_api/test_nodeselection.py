"""Node selectors and tolerations for one node. Oracle: the documentation of assigning pods to nodes and of taints."""

from __future__ import annotations

from typing import Any

import pytest

from windlass.kube.api.nodeselection import matches_terms, tolerates

NODE = {"metadata": {"name": "n1", "labels": {"disk": "ssd", "rank": "5", "word": "x"}}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    ("wanted", "is_met"),
    [
        (expression("disk", "In", "ssd", "hdd"), True),
        (expression("disk", "NotIn", "ssd"), False),
        (expression("other", "NotIn", "x"), True),
        (expression("disk", "Exists"), True),
        (expression("disk", "DoesNotExist"), False),
        (expression("rank", "Gt", "4"), True),
        (expression("rank", "Gt", "5"), False),
        (expression("rank", "Lt", "6"), True),
        (expression("word", "Gt", "1"), False),
        (expression("other", "Lt", "1"), False),
    ],
)
def test_operators(wanted: dict[str, Any], is_met: bool) -> None:
    assert matches_terms([{"matchExpressions": [wanted]}], NODE) is is_met


def test_one_term_is_enough_and_all_of_it_is_needed() -> None:
    here = {"matchFields": [expression("metadata.name", "In", "n1")]}
    both = here | {"matchExpressions": [expression("disk", "In", "hdd")]}
    assert matches_terms([both, here], NODE)
    assert not matches_terms([both], NODE)
    assert not matches_terms([{}], NODE)
    assert not matches_terms([], NODE)


@pytest.mark.parametrize(
    ("toleration", "is_enough"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "value": "w"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations(toleration: dict[str, Any], is_enough: bool) -> None:
    assert tolerates([toleration], ("k", "v", "NoSchedule")) is is_enough
