"""Filters: which nodes a pod can go to at all. Each is a function from a table to a mask, with its reason in words.

Source: https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from windlass.kube.api.nodeselection import tolerates
from windlass.kube.scheduler.counters import Counters, by_domain
from windlass.kube.scheduler.podinfo import PodInfo, Term, ports_conflict
from windlass.kube.scheduler.table import Mask, NodeTable

Object = dict[str, Any]
UNSCHEDULABLE_TAINT = ("node.kubernetes.io/unschedulable", "", "NoSchedule")


class Refusal(NamedTuple):
    """Nodes that a filter takes away.

    Attributes:
        plugin: the filter's name.
        reason: in upstream's words; for each row where it is a list.
        resolvable: whether ending pods could help.
    """

    plugin: str
    mask: Mask
    reason: str
    resolvable: bool = True


def run(table: NodeTable, counters: Counters, info: PodInfo) -> Iterator[Refusal]:
    """All filters but those of volumes, in upstream's order. Each mask is of nodes that are refused."""
    yield from _node_unschedulable(table, info)
    yield from _node_name(table, info)
    yield from _taint_toleration(table, info)
    yield from _node_affinity(table, info)
    yield from _node_ports(table, info)
    yield from _node_resources_fit(table, info)
    yield from _pod_topology_spread(table, counters, info)
    yield from _inter_pod_affinity(table, counters, info)


def _node_unschedulable(table: NodeTable, info: PodInfo) -> Iterator[Refusal]:
    if table.unschedulable.any() and not tolerates(info.tolerations, UNSCHEDULABLE_TAINT):
        yield Refusal("NodeUnschedulable", table.unschedulable, "node(s) were unschedulable", resolvable=False)


def _node_name(table: NodeTable, info: PodInfo) -> Iterator[Refusal]:
    if info.node:
        mask = np.ones(len(table.names), dtype=np.bool_)
        if (row := table.rows.get(info.node)) is not None:
            mask[row] = False
        yield Refusal("NodeName", mask, "node(s) didn't match the requested node name", resolvable=False)


def _untolerated(table: NodeTable, info: PodInfo) -> Mask:
    refused = [
        number
        for number, taints in enumerate(table.taints)
        if any(each[2] != "PreferNoSchedule" and not tolerates(info.tolerations, each) for each in taints)
    ]
    found: Mask = np.isin(table.taint_class, refused) if refused else np.zeros(len(table.names), dtype=np.bool_)
    return found


def _taint_toleration(table: NodeTable, info: PodInfo) -> Iterator[Refusal]:
    mask = _untolerated(table, info)
    if mask.any():
        yield Refusal("TaintToleration", mask, "node(s) had untolerated taint(s)", resolvable=False)


def matches_terms(table: NodeTable, terms: Sequence[Object]) -> Mask:
    """The nodes that one of the terms means."""
    found = np.zeros(len(table.names), dtype=np.bool_)
    for term in terms:
        expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
        if not expressions and not fields:
            continue
        mask = table.valid.copy()
        for expression in expressions:
            mask &= _expression(table, expression)
        for field in fields:
            named = np.zeros(len(table.names), dtype=np.bool_)
            named[[row for name in field.get("values", ()) if (row := table.rows.get(name)) is not None]] = True
            mask &= named if field["operator"] == "In" else ~named
        found |= mask
    return found


def _expression(table: NodeTable, expression: Mapping[str, Any]) -> Mask:
    column = table.label(expression["key"])
    wanted = expression.get("values") or []
    found: Mask
    match expression["operator"]:
        case "In":
            found = column.having(wanted)
        case "NotIn":
            found = ~column.having(wanted)
        case "Exists":
            found = column.ids >= 0
        case "DoesNotExist":
            found = column.ids < 0
        case operator:
            bound = int(wanted[0])
            numbers = ((value, int(value)) for value in column.numbers if value.lstrip("-").isdigit())
            found = column.having(
                value for value, number in numbers if (number > bound if operator == "Gt" else number < bound)
            )
    return found


def node_affinity(table: NodeTable, info: PodInfo) -> Mask:
    """The nodes that nodeSelector and required node affinity allow."""
    mask = table.valid.copy()
    for key, value in info.selector.items():
        mask &= table.label(key).having((value,))
    for terms in info.node_terms:
        mask &= matches_terms(table, terms)
    return mask


def _node_affinity(table: NodeTable, info: PodInfo) -> Iterator[Refusal]:
    if info.selector or info.node_terms:
        reason = "node(s) didn't match Pod's node affinity/selector"
        yield Refusal("NodeAffinity", ~node_affinity(table, info), reason, resolvable=False)


def _node_ports(table: NodeTable, info: PodInfo) -> Iterator[Refusal]:
    if not info.ports:
        return
    mask = np.zeros(len(table.names), dtype=np.bool_)
    for row in table.with_ports:
        mask[row] = any(ports_conflict(info.ports, each.ports) for each in table.pods[row].values())
    yield Refusal("NodePorts", mask, "node(s) didn't have free ports for the requested pod ports")


def _node_resources_fit(table: NodeTable, info: PodInfo) -> Iterator[Refusal]:
    for resource, amount in info.requests.items():
        column = table.column(resource)
        mask = table.used[:, column] + amount > table.allocatable[:, column]
        if mask.any():
            reason = "Too many pods" if resource == "pods" else f"Insufficient {resource}"
            never = bool((amount > table.allocatable[:, column])[mask & table.valid].all())
            yield Refusal("NodeResourcesFit", mask, reason, resolvable=not never)


def _pod_topology_spread(table: NodeTable, counters: Counters, info: PodInfo) -> Iterator[Refusal]:
    for constraint in info.spread or info.default_spread:
        if not constraint.required:
            continue
        ids, number = table.domains(constraint.topology)
        missing = ids < 0
        if missing[table.valid].any():
            reason = "node(s) didn't match pod topology spread constraints (missing required label)"
            yield Refusal("PodTopologySpread", missing, reason, resolvable=False)
        if not number:
            continue
        counted = table.valid & ~missing
        if constraint.honors_affinity:
            counted &= node_affinity(table, info)
        if constraint.honors_taints:
            counted &= ~_untolerated(table, info)
        counts = counters.matching(constraint.term)[: len(ids)]
        inside = counted
        sums = np.bincount(ids[inside], weights=counts[inside], minlength=number)
        eligible = np.zeros(number, dtype=np.bool_)
        eligible[np.unique(ids[inside])] = True
        least = float(sums[eligible].min()) if eligible.any() else 0.0
        if int(eligible.sum()) < constraint.min_domains:
            least = 0.0
        own = 1 if _means(constraint.term, info) else 0
        skew = np.where(missing, 0, sums[np.maximum(ids, 0)] + own - least)
        reason = "node(s) didn't match pod topology spread constraints"
        yield Refusal("PodTopologySpread", skew > constraint.max_skew, reason)


def _inter_pod_affinity(table: NodeTable, counters: Counters, info: PodInfo) -> Iterator[Refusal]:
    if info.affinity:
        mask = ~_near(table, counters, info)
        yield Refusal("InterPodAffinity", mask, "node(s) didn't match pod affinity rules", resolvable=False)
    for affinity in info.anti_affinity:
        mask = by_domain(table, counters.matching(affinity.term), affinity.topology) > 0
        yield Refusal("InterPodAffinity", mask, "node(s) didn't match pod anti-affinity rules")
    forbidden = np.zeros(len(table.names), dtype=np.bool_)
    for affinity, counts in counters.having(info, required=True):
        forbidden |= by_domain(table, counts, affinity.topology) > 0
    if forbidden.any():
        yield Refusal("InterPodAffinity", forbidden, "node(s) didn't satisfy existing pods anti-affinity rules")


def _near(table: NodeTable, counters: Counters, info: PodInfo) -> Mask:
    """The nodes in whose domains are the pods with which this one wants to be."""
    found = np.ones(len(table.names), dtype=np.bool_)
    somebody = False
    for affinity in info.affinity:
        counts = counters.matching(affinity.term)
        somebody = somebody or bool(counts.any())
        found &= by_domain(table, counts, affinity.topology) > 0
    if not somebody and all(_means(each.term, info) for each in info.affinity):
        # The first of a group that wants to be together may go anywhere the topology is known.
        found = np.ones(len(table.names), dtype=np.bool_)
        for affinity in info.affinity:
            found &= table.domains(affinity.topology)[0] >= 0
    return found


def _means(term: Term, info: PodInfo) -> bool:
    return (term.namespaces is None or info.namespace in term.namespaces) and term.matcher()(info.labels)
