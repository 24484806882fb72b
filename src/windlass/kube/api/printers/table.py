"""Objects as rows of a Table, and as their metadata alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from windlass.kube.api import status
from windlass.kube.api.printers.cells import DEFAULT
from windlass.kube.api.resource import Object, Resource


def of_objects(
    resource: Resource, items: Sequence[Object], now: float, *, include: str = "", version: str = "v1"
) -> dict[str, Any]:
    """A Table of objects.

    Args:
        now: seconds since 1970, for ages.
        include: "Metadata" (the default), "Object" or "None": what stands beside the cells of each row.

    Raises:
        StatusError: 400, `include` is none of these.
    """
    if include not in ("", "Metadata", "Object", "None"):
        raise status.bad_request(
            f'unrecognized includeObject value: "{include}", expected one of Metadata, Object, None'
        )
    printer = resource.printer or DEFAULT
    cells = printer.cells
    rows = []
    for obj in items:
        row: dict[str, Any] = {"cells": cells(obj, now)}
        if include == "Object":
            row["object"] = obj
        elif include != "None":
            row["object"] = partial_metadata(obj, version)
        rows.append(row)
    metadata: dict[str, Any] = {}
    if len(items) == 1 and (found := items[0]["metadata"].get("resourceVersion")):
        metadata["resourceVersion"] = found
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata,
        "columnDefinitions": [column.to_json() for column in printer.columns],
        "rows": rows,
    }


def partial_metadata(obj: Object, version: str = "v1") -> dict[str, Any]:
    """An object's metadata alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": obj["metadata"]}


def partial_list(items: Sequence[Object], metadata: dict[str, Any], version: str = "v1") -> dict[str, Any]:
    """The metadata of a list's objects."""
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata,
        "items": [partial_metadata(obj, version) for obj in items],
    }
