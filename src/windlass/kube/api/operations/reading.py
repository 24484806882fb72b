"""Find, select and page through objects: the store's bytes, never decoded where nobody asks what is inside.

    find      one record
    Selection which of them: a namespace, a name, labels, fields
    page      records at one revision, a limit's worth at a time; a continue token remembers revision and key

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions and "Retrieving large results
sets in chunks".
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from windlass.kube.api import objects, status
from windlass.kube.api.identity import Requirement
from windlass.kube.api.operations.environment import Environment
from windlass.kube.api.resource import Object, Resource
from windlass.store import Compacted, FutureRevision, Record

_FRESH_SECONDS = 3.0
EXACT, NOT_OLDER = "Exact", "NotOlderThan"

Matcher = Callable[[Mapping[str, str]], bool]


class Facts(NamedTuple):
    """What selectors read of an object; kept with its record, so that each object is decoded once."""

    labels: Mapping[str, str]
    fields: Mapping[str, str]


def facts_of(resource: Resource, record: Record) -> Facts:
    """The labels and selectable fields of a stored object."""
    facts = record.attrs
    if facts is None:
        obj = objects.decode(record.value)
        metadata = obj["metadata"]
        fields = {
            "metadata.name": metadata.get("name", ""),
            "metadata.namespace": metadata.get("namespace", ""),
            **resource.strategy.selectable_fields(obj),
        }
        facts = record.attrs = Facts(metadata.get("labels") or {}, fields)
    return facts  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a resource are meant.

    Attributes:
        namespace: "" for all.
        name: where a field selector (or a path) names a single object.
        labels, fields: matchers; None where everything matches.
    """

    namespace: str = ""
    name: str = ""
    labels: Matcher | None = None
    fields: tuple[Requirement, ...] = ()

    @property
    def is_everything(self) -> bool:
        """Whether the key decides alone."""
        return self.labels is None and not self.fields

    def matches(self, resource: Resource, record: Record) -> bool:
        """Whether an object is meant."""
        if self.labels is None and not self.fields:
            return True
        facts = facts_of(resource, record)
        if self.labels is not None and not self.labels(facts.labels):
            return False
        for requirement in self.fields:
            is_equal = facts.fields.get(requirement.key, "") == requirement.values[0]
            if is_equal != (requirement.operator == "In"):
                return False
        return True

    def bounds(self, resource: Resource) -> tuple[bytes, bytes]:
        """The range of keys: begin, and the first key behind it."""
        if self.name and (self.namespace or not resource.namespaced):
            key = resource.storage.key(self.namespace, self.name)
            return key, key + b"\0"
        prefix = resource.storage.namespace_prefix(self.namespace if resource.namespaced else "")
        return prefix, prefix_end(prefix)


def prefix_end(prefix: bytes) -> bytes:
    """The first key behind all that begin with `prefix` (which does not end in 0xff)."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Page(NamedTuple):
    """A part of a list. `remaining` is None where it is unknown (or where nothing remains)."""

    records: Sequence[Record]
    revision: int
    continue_token: str = ""
    remaining: int | None = None


def find(env: Environment, resource: Resource, namespace: str, name: str) -> Record:
    """The record of one object.

    Raises:
        StatusError: 404.
    """
    record = env.store.get(resource.storage.key(namespace, name))
    if record is None:
        raise status.not_found(resource.plural, resource.group, name)
    return record


async def find_object(env: Environment, resource: Resource, namespace: str, name: str) -> Object:
    """One object in the version of `resource`. Raises StatusError: 404."""
    from windlass.kube.api.operations.environment import from_stored

    return await from_stored(env, resource, find(env, resource, namespace, name))


async def wait_until_fresh(env: Environment, version: str) -> None:
    """Wait until the store shows a revision that the client has seen elsewhere ("" asks for the latest of all).

    Raises:
        StatusError: 400 (no number), 504 (does not come).
    """
    if version == "":
        await env.store.sync()
        return
    wanted = revision_number(version)
    deadline = asyncio.get_running_loop().time() + _FRESH_SECONDS
    while env.store.revision < wanted:
        if asyncio.get_running_loop().time() > deadline:
            error = status.timeout(
                "", "", f"Too large resource version: {wanted}, current: {env.store.revision}", seconds=1
            )
            error.message = f"Too large resource version: {wanted}, current: {env.store.revision}"
            error.details["causes"] = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
            raise error
        await asyncio.sleep(0.02)


def revision_number(version: str) -> int:
    """A resourceVersion of a request.

    Raises:
        StatusError: 400 in the words of the watch cache.
    """
    if version.isascii() and version.isdigit() and len(version) < 20:
        return int(version)
    error = status.invalid_value("resourceVersion", version, f'strconv.ParseUint: parsing "{version}": invalid syntax')
    raise status.bad_request(str(error))


async def page(
    env: Environment,
    resource: Resource,
    selection: Selection,
    *,
    version: str = "",
    match: str = "",
    limit: int = 0,
    continue_token: str = "",
) -> Page:
    """One page of a list, as ListOptions ask.

    Raises:
        StatusError: 400 (options that exclude each other), 410 (compacted; with a token that goes on at the
            present), 504.
    """
    begin, end = selection.bounds(resource)
    revision = 0
    if continue_token:
        if version not in ("", "0"):
            raise status.bad_request("specifying resource version is not allowed when using continue")
        revision, begin = _read_token(continue_token, resource, begin)
    elif match == EXACT or (limit and not match and version not in ("", "0")):
        revision = revision_number(version)
        if revision > env.store.revision:
            await wait_until_fresh(env, version)
    elif version != "0":
        await wait_until_fresh(env, version)
    if not continue_token and revision == env.store.revision:
        revision = 0
    try:
        return _collect(env, resource, selection, begin, end, revision, limit)
    except Compacted:
        if not continue_token:
            raise status.gone("The provided resource version is too old.") from None
        raise status.gone(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list "
            "without the continue parameter, or use the continue token in this response to retrieve the remainder of "
            "the results. Continuing with the provided token results in an inconsistent list - objects that were "
            "created, modified, or deleted between the time the first chunk was returned and now may show up in the "
            "list.",
            continue_token=_write_token(-1, begin, resource),
        ) from None
    except FutureRevision:
        raise status.bad_request(f"resourceVersion {revision} is in the future") from None


def _collect(
    env: Environment, resource: Resource, selection: Selection, begin: bytes, end: bytes, revision: int, limit: int
) -> Page:
    if selection.is_everything:
        found = env.store.range(begin, end, revision=revision, limit=limit)
        token, remaining = "", None
        if limit and found.more:
            token = _write_token(found.revision, found.records[-1].key + b"\0", resource)
            remaining = found.total - len(found.records)
        return Page(found.records, found.revision, token, remaining)
    found = env.store.range(begin, end, revision=revision)
    matches = selection.matches
    if not limit:
        return Page([each for each in found.records if matches(resource, each)], found.revision)
    selected: list[Record] = []
    for each in found.records:
        if matches(resource, each):
            if len(selected) == limit:
                return Page(selected, found.revision, _write_token(found.revision, selected[-1].key + b"\0", resource))
            selected.append(each)
    return Page(selected, found.revision)


def _write_token(revision: int, key: bytes, resource: Resource) -> str:
    start = key[len(resource.storage.prefix) :].decode()
    body = orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start})
    return base64.urlsafe_b64encode(body).rstrip(b"=").decode()


def _read_token(token: str, resource: Resource, begin: bytes) -> tuple[int, bytes]:
    """Revision (0 for the present) and first key of the page that a token asks for."""
    try:
        padded = token.encode() + b"=" * (-len(token) % 4)
        body = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        revision, start = body["rv"], body["start"]
        if body["v"] != "meta.k8s.io/v1" or type(revision) is not int or not isinstance(start, str):
            raise ValueError(token)
        key = resource.storage.prefix + start.encode()
    except (binascii.Error, ValueError, KeyError, TypeError, UnicodeError):
        raise status.bad_request(f"continue key is not valid: {token[:100]!r}") from None
    # A token is the client's: it must not lead out of the keys that this list may show.
    if revision == 0 or revision < -1 or key < begin or ".." in start.split("/"):
        raise status.bad_request("continue key is not valid: it leads out of the list")
    return max(revision, 0), key
