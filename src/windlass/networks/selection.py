"""Which networks a list of filters leaves (`GET /networks?filters=`). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from windlass.errors import InvalidParameter
from windlass.networks.record import NetworkRecord

_KEYS = {"dangling", "driver", "id", "label", "name", "scope", "type"}
_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


def has_label(labels: Mapping[str, str], wanted: str) -> bool:
    """`key` or `key=value`."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _dangling(values: Sequence[str]) -> bool:
    if len(values) != 1:
        raise InvalidParameter(f'got more than one value for filter key "dangling" ({", ".join(values)})')
    if values[0].lower() not in _BOOLEANS:
        raise InvalidParameter('invalid value for filter \'dangling\', must be "true" or "1" or "false" or "0"')
    return _BOOLEANS[values[0].lower()]


def prunable(
    records: Iterable[NetworkRecord], filters: Mapping[str, Sequence[str]], until_ns: int | None
) -> list[NetworkRecord]:
    """Which of the networks that nobody uses a prune takes. Raises InvalidParameter."""
    for key in filters:
        if key not in {"label", "label!"}:
            raise InvalidParameter(f"invalid filter '{key}'")
    return [
        record
        for record in records
        if all(has_label(record.labels, value) for value in filters.get("label", ()))
        and not any(has_label(record.labels, value) for value in filters.get("label!", ()))
        and (until_ns is None or record.created_ns < until_ns)
    ]


def select(
    records: Iterable[NetworkRecord], filters: Mapping[str, Sequence[str]], used: Collection[str]
) -> list[NetworkRecord]:
    """The records that every filter leaves; values of one filter are alternatives, those of `label` all count.

    `used` are ids of networks with containers. Raises InvalidParameter.
    """
    for key in filters:
        if key not in _KEYS:
            raise InvalidParameter(f"invalid filter '{key}'")
    for kind in filters.get("type", ()):
        if kind not in {"builtin", "custom"}:
            raise InvalidParameter(f"invalid filter: 'type'='{kind}'")
    dangling = _dangling(filters["dangling"]) if filters.get("dangling") else None

    def matches(record: NetworkRecord) -> bool:
        kind = "builtin" if record.predefined else "custom"
        tests = (
            any(value in record.name for value in filters["name"]) if filters.get("name") else True,
            any(record.id.startswith(value) for value in filters["id"]) if filters.get("id") else True,
            record.driver in filters["driver"] if filters.get("driver") else True,
            "local" in filters["scope"] if filters.get("scope") else True,
            kind in filters["type"] if filters.get("type") else True,
            all(has_label(record.labels, value) for value in filters.get("label", ())),
            dangling is None or dangling == (not record.predefined and record.id not in used),
        )
        return all(tests)

    return [record for record in records if matches(record)]
