"""metadata: what the server writes, what clients may write, what never changes.

Source: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#metadata
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from windlass.kube.api import names, objects, status
from windlass.kube.api.resource import Object, Resource
from windlass.kube.api.status import FieldError, forbidden_field, invalid_value, required

_SYSTEM_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
_IMMUTABLE = "field is immutable"


def match_namespace(resource: Resource, namespace: str, obj: Object) -> None:
    """Give an object the namespace of its request's path.

    Raises:
        StatusError: 400, it names another one.
    """
    metadata = objects.meta(obj)
    own = metadata.get("namespace") or ""
    if not resource.namespaced:
        if own:
            raise status.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        metadata.pop("namespace", None)
        return
    if own not in ("", namespace):
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    metadata["namespace"] = namespace


def match_name(name: str, obj: Object) -> None:
    """Give an object the name of its request's path.

    Raises:
        StatusError: 400, it has another one.
    """
    metadata = objects.meta(obj)
    own = metadata.get("name") or ""
    if own not in ("", name):
        raise status.bad_request(f"the name of the object ({own}) does not match the name on the URL ({name})")
    metadata["name"] = name


def drop_empty(metadata: dict[str, Any]) -> None:
    """Drop what Go's encoding omits: null and empty maps, lists and strings."""
    for key in [key for key, value in metadata.items() if value is None or value in ("", {}, [])]:
        del metadata[key]


def begin(resource: Resource, obj: Object, now: str) -> None:
    """Write what only the server writes in a new object."""
    metadata = objects.meta(obj)
    for name in (*_SYSTEM_FIELDS, "selfLink", "resourceVersion", "generation"):
        metadata.pop(name, None)
    drop_empty(metadata)
    metadata["uid"] = objects.new_uid()
    metadata["creationTimestamp"] = now
    if resource.strategy.has_generation:
        metadata["generation"] = 1


def carry_over(resource: Resource, new: Object, old: Object) -> None:
    """Write in a changed object what only the server writes."""
    metadata, before = objects.meta(new), old["metadata"]
    metadata.pop("selfLink", None)
    drop_empty(metadata)
    for name in _SYSTEM_FIELDS:
        if name in before:
            metadata.setdefault(name, before[name])
        elif name != "uid":
            metadata.pop(name, None)
    generation = before.get("generation")
    if resource.strategy.has_generation:
        counted = int(generation or 1) + (1 if resource.strategy.changed(new, old) else 0)
        metadata["generation"] = counted
    elif generation is not None:
        metadata["generation"] = generation
    else:
        metadata.pop("generation", None)
    if "generateName" in before:
        metadata.setdefault("generateName", before["generateName"])


def validate(resource: Resource, obj: Object) -> list[FieldError]:
    """The rules of metadata that hold for every object."""
    metadata = obj["metadata"]
    errors: list[FieldError] = []
    generate_name = metadata.get("generateName")
    if generate_name:
        errors += [
            invalid_value("metadata.generateName", generate_name, text)
            for text in resource.strategy.validate_name(generate_name, prefix=True)
        ]
    name = metadata.get("name")
    if not name:
        errors.append(required("metadata.name", "name or generateName is required"))
    else:
        errors += [
            invalid_value("metadata.name", name, text) for text in resource.strategy.validate_name(name, prefix=False)
        ]
    if resource.namespaced:
        namespace = metadata.get("namespace")
        if not namespace:
            errors.append(required("metadata.namespace"))
        else:
            errors += [invalid_value("metadata.namespace", namespace, text) for text in names.dns1123_label(namespace)]
    return errors + _validate_contents(metadata, "metadata")


def validate_embedded(metadata: dict[str, Any], path: str) -> list[FieldError]:
    """The rules of the metadata of an object inside of another, whose kind nobody may know."""
    errors: list[FieldError] = []
    for field, rule in (
        ("generateName", names.path_segment), ("name", names.path_segment), ("namespace", names.dns1123_label)
    ):  # fmt: skip
        if value := metadata.get(field):
            errors += [invalid_value(f"{path}.{field}", value, text) for text in rule(value)]
    return errors + _validate_contents(metadata, path)


def _validate_contents(metadata: dict[str, Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if labels := metadata.get("labels"):
        errors += names.validate_labels(labels, f"{path}.labels")
    if annotations := metadata.get("annotations"):
        errors += names.validate_annotations(annotations, f"{path}.annotations")
    if references := metadata.get("ownerReferences"):
        errors += _validate_owners(references, f"{path}.ownerReferences")
    if finalizers := metadata.get("finalizers"):
        errors += _validate_finalizers(finalizers, f"{path}.finalizers")
    return errors


def _validate_owners(references: Sequence[dict[str, Any]], place: str) -> list[FieldError]:
    errors: list[FieldError] = []
    controller = ""
    for index, reference in enumerate(references):
        path = f"{place}[{index}]" if len(references) > 1 else place
        group, _, version = str(reference.get("apiVersion") or "").rpartition("/")
        if not version:
            errors.append(
                invalid_value(f"{path}.apiVersion", reference.get("apiVersion") or "", "version must not be empty")
            )
        for name in ("kind", "name", "uid"):
            if not reference.get(name):
                errors.append(invalid_value(f"{path}.{name}", "", "must not be empty"))
        if reference.get("kind") == "Event" and group in ("", "events.k8s.io"):
            errors.append(
                invalid_value(path, reference, f"{group}/{version}, Kind=Event is disallowed from being an owner")
            )
        if reference.get("controller"):
            kind = f"{reference.get('kind')}/{reference.get('name')}"
            if controller:
                errors.append(
                    invalid_value(
                        place,
                        references,
                        "Only one reference can have Controller set to true. Found "
                        f'"true" in references for {controller} and {kind}',
                    )
                )
                break
            controller = kind
    return errors


def _validate_finalizers(finalizers: Sequence[str], place: str) -> list[FieldError]:
    errors = [
        invalid_value(place, finalizer, text) for finalizer in finalizers for text in names.qualified_name(finalizer)
    ]
    if ORPHAN in finalizers and FOREGROUND in finalizers:
        detail = f"finalizer {ORPHAN} and {FOREGROUND} cannot be both set"
        errors.append(invalid_value(place, finalizers, detail))
    return errors


def validate_update(resource: Resource, new: Object, old: Object) -> list[FieldError]:
    """The rules of a change of metadata."""
    metadata, before = new["metadata"], old["metadata"]
    errors: list[FieldError] = []
    for name in ("name", "namespace", "uid", "creationTimestamp"):
        if metadata.get(name) != before.get(name):
            errors.append(invalid_value(f"metadata.{name}", metadata.get(name) or "", _IMMUTABLE))
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds"):
        if metadata.get(name) != before.get(name):
            errors.append(invalid_value(f"metadata.{name}", metadata.get(name), _IMMUTABLE))
    if before.get("deletionTimestamp"):
        known = before.get("finalizers") or ()
        added = [each for each in metadata.get("finalizers") or () if each not in known]
        if added:
            detail = f"no new finalizers can be added if the object is being deleted, found new finalizers {_go(added)}"
            errors.append(forbidden_field("metadata.finalizers", detail))
    if metadata.get("labels") != before.get("labels"):
        errors += names.validate_labels(metadata.get("labels") or {}, "metadata.labels")
    if metadata.get("annotations") != before.get("annotations"):
        errors += names.validate_annotations(metadata.get("annotations") or {}, "metadata.annotations")
    if metadata.get("ownerReferences") != before.get("ownerReferences"):
        errors += _validate_owners(metadata.get("ownerReferences") or (), "metadata.ownerReferences")
    if metadata.get("finalizers") != before.get("finalizers"):
        errors += _validate_finalizers(metadata.get("finalizers") or (), "metadata.finalizers")
    return errors


def _go(values: Sequence[str]) -> str:
    """A slice of strings as Go's %#v of a sorted set prints it."""
    return "[]string{" + ", ".join(f'"{value}"' for value in sorted(values)) + "}"


def is_ending(obj: Object) -> bool:
    """Whether the object's deletion has begun."""
    return bool(obj["metadata"].get("deletionTimestamp"))
