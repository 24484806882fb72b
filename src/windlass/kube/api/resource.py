"""A resource is a declaration: names, scope, subresources, strategy, columns.

    Resource ─ names ─────── group, version, kind, plural, singular, short names, categories
             ─ schema ────── what its objects may be (built lazily)
             ─ strategy ──── what is particular to the kind: defaults, validation, what a client may change
             ─ storage ───── where all versions of it are kept: one key prefix, one stored version
             ─ subresources  "status", "scale", "eviction" …
             ─ columns ───── how `kubectl get` shows it

The verbs (verbs/) treat all resources alike and ask the strategy where kinds differ. The built-in declarations are in
resources/, one file for each API group; custom resources make theirs from CustomResourceDefinitions.

Source: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from windlass.kube.api.status import FieldError
from windlass.kube.schema import ANY, Schema

if TYPE_CHECKING:
    from windlass.kube.api.identity import User

Object = dict[str, Any]
"""A Kubernetes object as decoded JSON."""

READ_VERBS = ("get", "list", "watch")
ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a Table. `priority` above 0 is shown by `-o wide` alone."""

    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0

    def to_json(self) -> dict[str, Any]:
        """TableColumnDefinition of meta.k8s.io/v1."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


@dataclass(frozen=True, slots=True)
class Printer:
    """How a kind is shown in a Table.

    Attributes:
        columns: the header.
        cells: object and the time now (seconds since 1970) → one value for each column.
    """

    columns: tuple[Column, ...]
    cells: Callable[[Object, float], list[Any]]


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where the scale subresource finds its values, as JSON paths in tuples of names."""

    spec_replicas: tuple[str, ...] = ("spec", "replicas")
    status_replicas: tuple[str, ...] = ("status", "replicas")
    selector: tuple[str, ...] = ("spec", "selector")


@dataclass(frozen=True, slots=True)
class Subresource:
    """A part of an object with verbs of its own.

    Attributes:
        name: as in the path.
        verbs: what may be done with it.
        group_version_kind: of the objects that it takes and gives.
    """

    name: str
    verbs: tuple[str, ...]
    group_version_kind: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Storage:
    """Where the objects of all versions of a resource are kept.

    Attributes:
        prefix: the key prefix, with a slash at its end: b"/registry/deployments.apps/".
        group, version, kind: what the stored objects call themselves.
    """

    prefix: bytes
    group: str
    version: str
    kind: str

    def key(self, namespace: str, name: str) -> bytes:
        """The key of one object; `namespace` is "" for resources of the whole cluster."""
        return self.prefix + (f"{namespace}/{name}" if namespace else name).encode()

    def namespace_prefix(self, namespace: str) -> bytes:
        """The prefix of a namespace's keys, or of all."""
        return self.prefix + f"{namespace}/".encode() if namespace else self.prefix


class Strategy:
    """What is particular to a kind. Methods that change an object change it in place; this one suits most kinds.

    Attributes:
        unconditional_update: an update without a resourceVersion is allowed.
        create_on_update: PUT creates what does not exist.
        has_generation: `metadata.generation` counts the changes of everything but metadata and status.
        has_status: clients set `status` through its subresource alone.
        has_dependents: the garbage collector knows the kind, so a deletion may say how dependents go.
        returns_deleted: a deletion answers with the object instead of a Status.
        generate_name_attempts: how often a generated name that is taken is tried anew.
    """

    unconditional_update = True
    create_on_update = False
    has_generation = True
    has_status = True
    has_dependents = True
    returns_deleted = False
    generate_name_attempts = 8

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        """What is wrong with a name (or, for generateName, with the begin of one)."""
        from windlass.kube.api.names import dns1123_subdomain

        return dns1123_subdomain(name.rstrip("-") + "x" if prefix and name.endswith("-") else name)

    def default(self, obj: Object) -> None:
        """Set what the client left out."""

    def prepare_for_create(self, obj: Object, user: User) -> None:
        """Drop what a client may not set when it creates."""
        if self.has_status:
            obj.pop("status", None)

    def prepare_for_update(self, new: Object, old: Object, user: User) -> None:
        """Restore what an update may not change."""
        if self.has_status:
            if "status" in old:
                new["status"] = old["status"]
            else:
                new.pop("status", None)

    def prepare_for_status_update(self, new: Object, old: Object) -> None:
        """Let only the status (and annotations) through."""
        for name in [name for name in new if name not in ("status", "metadata")]:
            del new[name]
        for name, value in old.items():
            if name not in ("status", "metadata"):
                new[name] = value
        labels = old["metadata"].get("labels")
        if labels is None:
            new["metadata"].pop("labels", None)
        else:
            new["metadata"]["labels"] = labels

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """The rules of a new object."""
        return ()

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """The rules of a change."""
        return self.validate(new)

    def validate_status_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """The rules of a change of the status."""
        return ()

    def warnings(self, obj: Object, old: Object | None) -> Sequence[str]:
        """What the client should know although the request is valid."""
        return ()

    def changed(self, new: Object, old: Object) -> bool:
        """Whether `metadata.generation` must count this update."""
        keys = (new.keys() | old.keys()) - {"metadata", "status", "apiVersion", "kind"}
        return any(new.get(key) != old.get(key) for key in keys)

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        """The values of field selectors beside metadata.name and metadata.namespace."""
        return {}

    def field_labels(self) -> frozenset[str]:
        """The names of `selectable_fields`."""
        return frozenset()

    def grace_period(self, obj: Object, asked: int | None) -> int | None:
        """Seconds between a deletion's request and the end; None where the kind is deleted at once."""
        return None

    def begin_deletion(self, obj: Object) -> None:
        """Note in an object that its deletion has begun, beside deletionTimestamp."""

    def holds(self, obj: Object) -> bool:
        """Whether something of the kind's own (a namespace's spec.finalizers) holds an object that is to go."""
        return False


GENERIC = Strategy()


@dataclass(eq=False)
class Resource:
    """One served version of a resource. See the module's drawing."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    strategy: Strategy = GENERIC
    subresources: dict[str, Subresource] = field(default_factory=dict)
    scale: ScalePaths | None = None
    printer: Printer | None = None
    stored_as: Storage | None = None
    is_custom: bool = False
    deprecation: str = ""
    list_kind: str = ""
    definition: str = ""
    load_schema: Callable[[], Schema] = field(default=lambda: ANY, repr=False)
    convert: Converter | None = None
    shape: Callable[[Object], list[str]] | None = None
    on_read: Callable[[Object], None] | None = None
    reset_fields: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.singular = self.singular or self.kind.lower()
        self.list_kind = self.list_kind or f"{self.kind}List"
        self.storage = self.stored_as or Storage(
            f"/registry/{self.plural}{'.' + self.group if self.group else ''}/".encode(),
            self.group,
            self.version,
            self.kind,
        )
        self._schema: Schema | None = None
        self.api_version = f"{self.group}/{self.version}" if self.group else self.version
        self.is_stored_version = (self.storage.group, self.storage.version, self.storage.kind) == (
            self.group,
            self.version,
            self.kind,
        )

    def __repr__(self) -> str:
        return f"<Resource {self.api_version} {self.plural}>"

    @property
    def reads_plain(self) -> bool:
        """Whether the stored bytes are what clients of this version see."""
        return self.is_stored_version and self.on_read is None

    @property
    def schema(self) -> Schema:
        """What an object of this version may be."""
        if self._schema is None:
            self._schema = self.load_schema()
        return self._schema

    @property
    def qualified(self) -> str:
        """`deployments.apps`, or `pods` in the core group."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


Converter = Callable[[list[Object], Resource], "list[Object] | Awaitable[list[Object]]"]
"""Objects of any version of a resource → the same objects in the given version."""


def status_subresource(resource: Resource) -> Subresource:
    """The declaration of `status`."""
    return Subresource("status", ("get", "patch", "update"), (resource.group, resource.version, resource.kind))


SCALE = Subresource("scale", ("get", "patch", "update"), ("autoscaling", "v1", "Scale"))
