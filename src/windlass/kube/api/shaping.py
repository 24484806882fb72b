"""Make an object what its kind can hold: as a typed decoder would, or by a custom resource's schema."""

from __future__ import annotations

from windlass.kube.api import status
from windlass.kube.api.resource import Object, Resource
from windlass.kube.schema.conform import TypeMismatch, conform


def shape(obj: Object, resource: Resource) -> list[str]:
    """Shape an object, in place; the paths of unknown fields, which are dropped.

    Raises:
        StatusError: 400, a value is of another type.
    """
    try:
        if resource.shape is not None:
            return resource.shape(obj)
        return conform(obj, resource.schema)
    except TypeMismatch as error:
        raise status.bad_request(
            f"{resource.kind} in version {status.show_value(resource.version)} cannot be handled as a "
            f"{resource.kind}: {error}"
        ) from None
