"""Nodes as rows of arrays: what each has, what its pods use, its labels and taints by number.

A row stays where it is as long as its node exists; the rows of nodes that are gone are used again. `generation` counts
changes of labels, so that masks made from them can be kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from windlass.kube.api import quantity
from windlass.kube.scheduler.podinfo import PodInfo

Object = dict[str, Any]
Mask = npt.NDArray[np.bool_]
Vector = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

_BASE = ("pods", "cpu", "memory", "ephemeral-storage")
_FIRST_ROWS = 64


class LabelColumn(NamedTuple):
    """One label of all nodes: `ids` has the number of each node's value, -1 where it has none."""

    ids: Ids
    numbers: Mapping[str, int]

    def having(self, values: Iterable[str]) -> Mask:
        """The nodes whose value is one of these."""
        wanted = [number for value in values if (number := self.numbers.get(value)) is not None]
        found: Mask = self.ids == wanted[0] if len(wanted) == 1 else np.isin(self.ids, wanted)
        return found


class NodeTable:
    """Attributes:

    allocatable, used: rows of nodes, columns of resources (cpu in thousandths).
    scored: cpu and memory of each node's pods as scores count them.
    valid: which rows have a node.
    """

    def __init__(self) -> None:
        self.columns: dict[str, int] = {name: index for index, name in enumerate(_BASE)}
        self.rows: dict[str, int] = {}
        self.names: list[str] = [""] * _FIRST_ROWS
        self.nodes: list[Object | None] = [None] * _FIRST_ROWS
        self.pods: list[dict[str, PodInfo]] = [{} for _ in range(_FIRST_ROWS)]
        self.allocatable = np.zeros((_FIRST_ROWS, len(_BASE)))
        self.used = np.zeros((_FIRST_ROWS, len(_BASE)))
        self.scored = np.zeros((_FIRST_ROWS, 2))
        self.valid: Mask = np.zeros(_FIRST_ROWS, dtype=np.bool_)
        self.unschedulable: Mask = np.zeros(_FIRST_ROWS, dtype=np.bool_)
        self.taint_class: Ids = np.zeros(_FIRST_ROWS, dtype=np.int64)
        self.taints: list[tuple[tuple[str, str, str], ...]] = [()]
        self.with_ports: set[int] = set()
        self.images: dict[str, dict[int, int]] = {}
        self.generation = 0
        self._taint_numbers: dict[tuple[tuple[str, str, str], ...], int] = {(): 0}
        self._free = list(range(_FIRST_ROWS - 1, -1, -1))
        self._labels: dict[str, tuple[int, LabelColumn]] = {}

    @property
    def size(self) -> int:
        """How many nodes there are."""
        return len(self.rows)

    # Changes -------------------------------------------------------------------------------------------------------

    def set_node(self, node: Object) -> int:
        """A node is new or has changed; its row."""
        name = node["metadata"]["name"]
        row = self.rows.get(name)
        if row is None:
            if not self._free:
                self._grow()
            row = self._free.pop()
            self.rows[name] = row
            self.names[row] = name
            self.generation += 1
        before = self.nodes[row]
        if before is None or (before["metadata"].get("labels") or {}) != (node["metadata"].get("labels") or {}):
            self.generation += 1
        self.nodes[row] = node
        self.valid[row] = True
        spec, status = node.get("spec") or {}, node.get("status") or {}
        old = (before or {}).get("status") or {}
        self.unschedulable[row] = bool(spec.get("unschedulable"))
        self.taint_class[row] = self._taint_class(spec.get("taints") or ())
        if status.get("allocatable") != old.get("allocatable"):
            self.allocatable[row] = 0
            for resource, value in (status.get("allocatable") or {}).items():
                amount = quantity.parse(value)
                column = self.column(resource)  # may replace the array: before it is indexed
                self.allocatable[row, column] = amount.milli if resource == "cpu" else amount.value
        if status.get("images") != old.get("images"):
            self._set_images(row, status.get("images") or ())
        return row

    def remove_node(self, name: str) -> None:
        """A node is gone, and its pods with it."""
        row = self.rows.pop(name, None)
        if row is None:
            return
        for uid in list(self.pods[row]):
            self.remove_pod(row, uid)
        self.names[row], self.nodes[row] = "", None
        self.valid[row] = False
        self.allocatable[row] = 0
        self._set_images(row, ())
        self._free.append(row)
        self.generation += 1

    def add_pod(self, row: int, info: PodInfo) -> None:
        """A pod is on a node, or is assumed to be."""
        self.pods[row][info.uid] = info
        for resource, value in info.requests.items():
            column = self.column(resource)
            self.used[row, column] += value
        self.scored[row] += info.scored
        if info.ports:
            self.with_ports.add(row)

    def remove_pod(self, row: int, uid: str) -> PodInfo | None:
        """A pod is on a node no longer."""
        info = self.pods[row].pop(uid, None)
        if info is None:
            return None
        for resource, value in info.requests.items():
            column = self.column(resource)
            self.used[row, column] -= value
        self.scored[row] -= info.scored
        if info.ports and not any(each.ports for each in self.pods[row].values()):
            self.with_ports.discard(row)
        return info

    def column(self, resource: str) -> int:
        """A resource's column, made where it is new."""
        found = self.columns.get(resource)
        if found is None:
            found = self.columns[resource] = len(self.columns)
            extra = np.zeros((len(self.names), 1))
            self.allocatable = np.hstack([self.allocatable, extra])
            self.used = np.hstack([self.used, extra])
        return found

    def _grow(self) -> None:
        old = len(self.names)
        self.names += [""] * old
        self.nodes += [None] * old
        self.pods += [{} for _ in range(old)]
        self.allocatable = np.vstack([self.allocatable, np.zeros_like(self.allocatable)])
        self.used = np.vstack([self.used, np.zeros_like(self.used)])
        self.scored = np.vstack([self.scored, np.zeros_like(self.scored)])
        self.valid = np.concatenate([self.valid, np.zeros(old, dtype=np.bool_)])
        self.unschedulable = np.concatenate([self.unschedulable, np.zeros(old, dtype=np.bool_)])
        self.taint_class = np.concatenate([self.taint_class, np.zeros(old, dtype=np.int64)])
        self._free = list(range(2 * old - 1, old - 1, -1))
        self.generation += 1

    def _taint_class(self, taints: Iterable[Object]) -> int:
        found = tuple(sorted((each["key"], each.get("value") or "", each["effect"]) for each in taints))
        number = self._taint_numbers.get(found)
        if number is None:
            number = self._taint_numbers[found] = len(self.taints)
            self.taints.append(found)
        return number

    def _set_images(self, row: int, images: Iterable[Object]) -> None:
        for nodes in self.images.values():
            nodes.pop(row, None)
        for image in images:
            for name in image.get("names") or ():
                self.images.setdefault(name, {})[row] = int(image.get("sizeBytes") or 0)

    # Labels --------------------------------------------------------------------------------------------------------

    def label(self, key: str) -> LabelColumn:
        """Each node's value of a label."""
        found = self._labels.get(key)
        if found is None or found[0] != self.generation:
            numbers: dict[str, int] = {}
            ids: Ids = np.full(len(self.names), -1, dtype=np.int64)
            for row in self.rows.values():
                value = self._labels_of(row).get(key)
                if value is not None:
                    ids[row] = numbers.setdefault(value, len(numbers))
            found = self._labels[key] = (self.generation, LabelColumn(ids, numbers))
        return found[1]

    def domains(self, key: str) -> tuple[Ids, int]:
        """Each node's domain of a topology by number, -1 where it has none; and how many there are."""
        column = self.label(key)
        return column.ids, len(column.numbers)

    def _labels_of(self, row: int) -> Mapping[str, str]:
        node = self.nodes[row]
        found: Mapping[str, str] = ((node or {}).get("metadata") or {}).get("labels") or {}
        return found
