"""How custom resources behave: their schema says it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from windlass.kube.api import jsonpath
from windlass.kube.api.custom.embedded import Embedded
from windlass.kube.api.identity import User
from windlass.kube.api.objects import same
from windlass.kube.api.resource import Object
from windlass.kube.api.status import FieldError
from windlass.kube.api.strategies.common import Full
from windlass.kube.cel.validation import Rules
from windlass.kube.schema import Schema
from windlass.kube.schema.defaulting import apply_defaults, drop_nulls
from windlass.kube.schema.pruning import prune
from windlass.kube.schema.validation import validate

_META = ("apiVersion", "kind", "metadata")


class CustomStrategy(Full):
    """One version of a custom resource. `has_status`: status is a subresource of its own."""

    def __init__(
        self, schema: Schema, rules: Rules, embedded: Embedded, *, has_status: bool, selectable: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.has_status = has_status
        self._schema = schema
        self._rules = rules
        self._embedded = embedded
        self._selectable = tuple(selectable)

    def shape(self, obj: Object) -> list[str]:
        """Drop what the schema does not know; the paths of what was dropped. Raises TypeMismatch."""
        drop_nulls(obj, self._schema)
        return prune(obj, self._schema) + self._embedded.shape(obj)

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        apply_defaults(obj, self._schema)

    def changed(self, new: Object, old: Object) -> bool:
        """See `Strategy.changed`: without a status subresource the status counts, too."""
        ignored = {"metadata", "apiVersion", "kind"} | ({"status"} if self.has_status else set())
        keys = (new.keys() | old.keys()) - ignored
        return not all(same(new.get(key), old.get(key)) for key in keys)

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        errors = validate(_body(obj), self._schema) + self._embedded.validate(obj)
        return errors or self._rules.evaluate(obj, None)

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        errors = validate(_body(new), self._schema, _body(old)) + self._embedded.validate(new)
        return errors or self._rules.evaluate(new, old)

    def validate_status_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_status_update`."""
        return self.validate_update(new, old)

    def prepare_for_create(self, obj: Object, user: User) -> None:
        """See `Strategy.prepare_for_create`."""
        if self.has_status:
            obj.pop("status", None)

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        """See `Strategy.selectable_fields`."""
        found = {}
        for path in self._selectable:
            values = jsonpath.compile_path(path)(obj)
            value: Any = values[0] if values else ""
            text = ("true" if value else "false") if isinstance(value, bool) else str(value)
            found[path.removeprefix(".")] = text
        return found

    def field_labels(self) -> frozenset[str]:
        """See `Strategy.field_labels`."""
        return frozenset(path.removeprefix(".") for path in self._selectable)


def _body(obj: Object) -> Object:
    """What the schema says something of: metadata has rules of its own."""
    return {name: value for name, value in obj.items() if name not in _META}
