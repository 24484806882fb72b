"""Objects and their stored bytes.

An object is stored as JSON with one NUL byte where its resourceVersion stands:

    {"apiVersion":"v1","kind":"ConfigMap","metadata":{"resourceVersion":"<NUL>","name":"web",…},"data":{…}}

The store replaces the NUL by the revision of the write when it makes the write visible (see windlass.store), so what
readers get is the finished object: a get, an item of a list and a watch event are copies of bytes.
"""

from __future__ import annotations

import calendar
import os
import time
from typing import Any

import orjson

from windlass.kube.api.resource import Object

_STAMP = b'"resourceVersion":"\0"'
_PLACEHOLDER = b'"resourceVersion":"\\u0000"'
_HEX = "0123456789abcdef"


def encode(obj: Object) -> bytes:
    """The bytes to store. The object's own resourceVersion is left out; `obj` is not changed."""
    # First in its object, so that the first match below is this one and no text of a user's.
    metadata = {"resourceVersion": "\0", **obj["metadata"]}
    metadata["resourceVersion"] = "\0"
    ordered = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata}
    for name, value in obj.items():
        if name not in ordered:
            ordered[name] = value
    return orjson.dumps(ordered).replace(_PLACEHOLDER, _STAMP, 1)


def decode(value: bytes) -> Object:
    """A stored (and stamped) object, as a new structure that the caller may change."""
    decoded: Object = orjson.loads(value)
    return decoded


def stamp(value: bytes, revision: int) -> bytes:
    """What readers would see of `value` at `revision` (dry runs)."""
    return value.replace(b"\0", b"%d" % revision, 1)


def restamp(value: bytes, revision: int) -> bytes:
    """A read value as if it had been written at `revision`."""
    return unversioned(value).replace(b"\0", b"%d" % revision, 1)


def unversioned(value: bytes) -> bytes:
    """The stored form again of a value that was read: equal for equal objects."""
    begin = value.find(b'"resourceVersion":"') + 19
    return value[:begin] + b"\0" + value[value.index(b'"', begin) :]


def unstamped(value: bytes) -> bytes:
    """What a dry run's client sees of a new object: no resourceVersion, as it was not written."""
    return value.replace(_STAMP + b",", b"", 1)


def copy(obj: Object) -> Object:
    """A deep copy."""
    return decode(orjson.dumps(obj))


def same(new: Any, old: Any) -> bool:
    """Equal also in their types at every depth: for Python, 1 and true are equal."""
    if new != old or type(new) is not type(old):
        return False
    if not isinstance(new, dict | list):
        return True
    return orjson.dumps(new, option=orjson.OPT_SORT_KEYS) == orjson.dumps(old, option=orjson.OPT_SORT_KEYS)


def seconds(text: str) -> int:
    """The Unix time of a `timestamp`."""
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))


def new_uid() -> str:
    """A random UUID (RFC 9562, version 4); `uuid.uuid4` costs three times as much."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{_HEX[8 + (int(text[16], 16) & 3)]}{text[17:20]}-{text[20:]}"


def timestamp(seconds: float) -> str:
    """metav1.Time: RFC 3339 in UTC with whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(seconds)))


def meta(obj: Object) -> dict[str, Any]:
    """The object's metadata, made where it is absent or null."""
    found = obj.get("metadata")
    if not isinstance(found, dict):
        found = obj["metadata"] = {}
    return found


def name_of(obj: Object) -> str:
    """metadata.name, "" if there is none."""
    return str(obj.get("metadata", {}).get("name") or "")


def namespace_of(obj: Object) -> str:
    """metadata.namespace, "" if there is none."""
    return str(obj.get("metadata", {}).get("namespace") or "")


def revision_of(obj: Object) -> int:
    """metadata.resourceVersion as a number, 0 if there is none."""
    text = obj.get("metadata", {}).get("resourceVersion") or "0"
    return int(text) if isinstance(text, str) and text.isdigit() else 0


_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_LONGEST_BASE = 63 - 5


def generated_name(base: str) -> str:
    """`base` and five random characters without vowels, as `generateName` makes names."""
    return base[:_LONGEST_BASE] + "".join(_SUFFIX_ALPHABET[byte % 27] for byte in os.urandom(5))
