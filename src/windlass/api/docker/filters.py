"""The `filters` parameter: which names each endpoint knows, and both encodings.

{"label": {"a=b": true, "c": true}}      since API 1.22
{"label": ["a=b", "c"]}                  before, and still sent by many clients
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from windlass.errors import InvalidParameter

Filters = dict[str, list[str]]

ACCEPTED: Final[dict[str, frozenset[str]]] = {
    name: frozenset(keys.split())
    for name, keys in {
        "containers": "ancestor before exited expose health id is-task isolation label name network publish since "
        "status volume",
        "containers/prune": "label label! until",
        "networks": "dangling driver id label name scope type",
        "networks/prune": "label label! until",
        "images": "dangling label label! before since reference until",
        "images/prune": "dangling label label! until",
        "images/search": "is-official stars is-automated",
        "volumes": "dangling driver label name",
        "volumes/prune": "label label! all",
        "build/prune": "id parent type description inuse shared private until",
        "plugins": "enabled capability",
        "events": "builder config container daemon event image label network node plugin scope secret service type "
        "volume",
    }.items()
}


def parse_filters(text: str, endpoint: str) -> Filters:
    """Values by name. Raises `InvalidParameter` for what is no filter or not known to `endpoint`."""
    filters = _decode(text)
    for name in filters:
        if name not in ACCEPTED[endpoint]:
            raise InvalidParameter(f"invalid filter '{name}'")
    return filters


def _decode(text: str) -> Filters:
    if not text:
        return {}
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidParameter("invalid filter") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidParameter("invalid filter")
    values = document.values()
    if not all(value is None or _is_set(value) for value in values) and not all(
        value is None or _is_list(value) for value in values
    ):
        raise InvalidParameter("invalid filter")
    return {
        name: [wanted for wanted, on in value.items() if on]
        if isinstance(value, dict)
        else [w or "" for w in value or ()]
        for name, value in document.items()
    }


def _is_set(value: Any) -> bool:
    return isinstance(value, dict) and all(on is None or isinstance(on, bool) for on in value.values())


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(item is None or isinstance(item, str) for item in value)
