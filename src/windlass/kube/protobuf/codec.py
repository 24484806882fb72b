"""Messages to JSON objects and back.

Go writes every field that is no pointer, zero or not; read back, a zero value there is an absence. What JSON shows in
another form than the message has (times, quantities, int-or-string, raw JSON) is converted by `_SPECIAL`.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any

import orjson

from windlass.kube.api import status, times
from windlass.kube.protobuf import wire
from windlass.kube.protobuf.table import Field, Message, message, of_kind

_MAGIC = b"k8s\0"
_DEEPEST = 100
_META = "k8s.io.apimachinery.pkg.apis.meta.v1"
_EXTENSIONS = "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1"
_INTEGERS = {"int32": 32, "int64": 64, "uint32": 64, "uint64": 64}


def decode(body: bytes, depth: int = 0) -> dict[str, Any]:
    """An object from its envelope, which may be inside of another's message.

    Raises:
        StatusError: 400, the bytes are no such object.
    """
    if not body.startswith(_MAGIC):
        raise status.bad_request(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
        )
    try:
        version, kind, raw = _open(body[len(_MAGIC) :])
        name = of_kind(version, kind)
        if name is None:
            raise status.bad_request(f'no kind "{kind}" is registered for version "{version}"')
        found: dict[str, Any] = {"kind": kind, "apiVersion": version}
        found.update(_read(raw, message(name), depth))
    except (wire.Malformed, UnicodeDecodeError, orjson.JSONDecodeError) as error:
        raise status.bad_request(f"couldn't decode protobuf: {error}") from None
    return found


def _open(data: bytes) -> tuple[str, str, bytes]:
    version = kind = ""
    raw = b""
    for number, wire_type, value in wire.fields(data):
        if wire_type != wire.BYTES or not isinstance(value, bytes):
            continue
        if number == 1:
            for inner, _, text in wire.fields(value):
                if isinstance(text, bytes):
                    if inner == 1:
                        version = text.decode()
                    elif inner == 2:
                        kind = text.decode()
        elif number == 2:
            raw = value
        elif number == 3 and value:
            raise wire.Malformed(f"unknown content encoding {value!r}")
    return version, kind, raw


def _read(data: bytes, found: Message, depth: int) -> Any:
    """A message's JSON form."""
    special = _SPECIAL.get(found.name)
    if special is not None:
        return special[0](data, depth)
    if depth > _DEEPEST:
        raise wire.Malformed("nested too deeply")
    result: dict[str, Any] = {}
    for number, kind, value in wire.fields(data):
        field = found.by_number.get(number)
        if field is None:
            continue
        if field.flag == "%":
            key, item = _entry(_bytes(value), field, depth)
            result.setdefault(field.name, {})[key] = item
        elif field.flag == "*":
            items = result.setdefault(field.name, [])
            if kind == wire.BYTES and field.type in _INTEGERS:  # packed
                position, packed = 0, _bytes(value)
                while position < len(packed):
                    one, position = wire.varint(packed, position)
                    items.append(wire.signed(one, _INTEGERS[field.type]))
            else:
                items.append(_value(value, field.type, depth))
        elif field.flag == "^":
            inner = _read(_bytes(value), message(field.type), depth + 1)
            if isinstance(inner, dict):
                result.update(inner)
        else:
            item = _value(value, field.type, depth)
            if field.flag == "?" or item not in ("", 0, False, None, {}):
                result[field.name] = item
    return result


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise wire.Malformed("proto: wrong wireType")
    return value


def _value(value: int | bytes, type: str, depth: int) -> Any:
    if type == "string":
        return _bytes(value).decode()
    if type == "bytes":
        return base64.b64encode(_bytes(value)).decode()
    if type in ("bool", "int32", "int64", "uint32", "uint64"):
        if not isinstance(value, int):
            raise wire.Malformed("proto: wrong wireType")
        return bool(value) if type == "bool" else wire.signed(value, _INTEGERS[type])
    if type in ("double", "float"):
        packed = _bytes(value)
        if len(packed) not in (4, 8):
            raise wire.Malformed("proto: wrong wireType")
        return struct.unpack("<d" if len(packed) == 8 else "<f", packed)[0]
    return _read(_bytes(value), message(type), depth + 1)


def _entry(data: bytes, field: Field, depth: int) -> tuple[str, Any]:
    key, item = "", _zero(field.type)
    for number, _, value in wire.fields(data):
        if number == 1:
            key = _bytes(value).decode()
        elif number == 2:
            item = _value(value, field.type, depth)
    return key, item


def _zero(type: str) -> Any:
    if type in ("string", "bytes"):
        return ""
    if type == "bool":
        return False
    return 0 if type in _INTEGERS or type in ("double", "float") else {}


# -- writing


def encode(obj: dict[str, Any]) -> bytes:
    """An object in its envelope.

    Raises:
        StatusError: 406, the kind has no message.
    """
    version, kind = str(obj.get("apiVersion") or ""), str(obj.get("kind") or "")
    name = of_kind(version, kind)
    if name is None:
        raise status.not_acceptable(f"{kind} in version {version} has no protobuf form")
    meta = wire.put_bytes(1, version.encode()) + wire.put_bytes(2, kind.encode())
    raw = _write(obj, message(name))
    return _MAGIC + wire.put_bytes(1, meta) + wire.put_bytes(2, raw) + wire.put_bytes(3, b"") + wire.put_bytes(4, b"")


def encode_event(type: str, obj: dict[str, Any]) -> bytes:
    """One frame of a watch: its length in four bytes, and a WatchEvent (without an envelope)."""
    raw = wire.put_bytes(1, encode(obj))
    event = wire.put_bytes(1, type.encode()) + wire.put_bytes(2, raw)
    return struct.pack(">I", len(event)) + event


def _write(obj: Any, found: Message) -> bytes:
    special = _SPECIAL.get(found.name)
    if special is not None:
        return special[1](obj)
    parts: list[bytes] = []
    for name, value in obj.items():
        field = found.by_name.get(name)
        if field is None or value is None:
            continue
        if field.flag == "%":
            for key, item in value.items():
                parts.append(wire.put_bytes(field.number, wire.put_bytes(1, key.encode()) + _put(2, item, field.type)))
        elif field.flag == "*":
            parts += [_put(field.number, item, field.type) for item in value]
        else:
            parts.append(_put(field.number, value, field.type))
    for field in found.inlined:
        inner = _write(obj, message(field.type))
        parts.append(wire.put_bytes(field.number, inner))
    return b"".join(parts)


def _put(number: int, value: Any, type: str) -> bytes:
    if type == "string":
        return wire.put_bytes(number, str(value).encode())
    if type == "bytes":
        return wire.put_bytes(number, base64.b64decode(value))
    if type == "bool" or type in _INTEGERS:
        return wire.put_number(number, int(value))
    if type in ("double", "float"):
        return wire.put_double(number, float(value))
    return wire.put_bytes(number, _write(value, message(type)))


# -- what JSON shows in another form


def _read_time(data: bytes) -> tuple[int, int] | None:
    seconds = nanos = 0
    for number, _, value in wire.fields(data):
        if isinstance(value, int):
            if number == 1:
                seconds = wire.signed(value, 64)
            elif number == 2:
                nanos = wire.signed(value, 32)
    seconds, nanos = seconds + nanos // 10**9, nanos % 10**9
    if not data or not -62135596800 <= seconds <= 253402300799:
        return None
    return seconds, nanos


def _time(data: bytes, depth: int) -> Any:
    found = _read_time(data)
    return None if found is None else times.format_time(found[0])


def _micro_time(data: bytes, depth: int) -> Any:
    found = _read_time(data)
    if found is None:
        return None
    text = times.format_time(found[0])
    return f"{text[:-1]}.{found[1] // 1000:06}Z"


def _put_time(value: Any) -> bytes:
    seconds, nanos = times.parse_nanos(value)
    return wire.put_number(1, seconds) + wire.put_number(2, nanos)


def _first_text(data: bytes, depth: int) -> Any:
    for number, _, value in wire.fields(data):
        if number == 1:
            return _bytes(value).decode()
    return ""


def _int_or_string(data: bytes, depth: int) -> Any:
    kind, whole, text = 0, 0, ""
    for number, _, value in wire.fields(data):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, int):
            whole = wire.signed(value, 32)
        elif number == 3:
            text = _bytes(value).decode()
    return text if kind else whole


def _put_int_or_string(value: Any) -> bytes:
    if isinstance(value, str):
        return wire.put_number(1, 1) + wire.put_number(2, 0) + wire.put_bytes(3, value.encode())
    return wire.put_number(1, 0) + wire.put_number(2, int(value)) + wire.put_bytes(3, b"")


def _raw_json(data: bytes, depth: int) -> Any:
    for number, _, value in wire.fields(data):
        if number == 1:
            raw = _bytes(value)
            if raw.startswith(_MAGIC):
                return decode(raw, depth + 1)
            return orjson.loads(raw) if raw else None
    return None


def _duration(data: bytes, depth: int) -> Any:
    for number, _, value in wire.fields(data):
        if number == 1 and isinstance(value, int):
            return times.format_duration(wire.signed(value, 64) / 10**9)
    return "0s"


def _items(data: bytes, depth: int) -> Any:
    return [_bytes(value).decode() for number, _, value in wire.fields(data) if number == 1]


def _schema_or(flag: str) -> Callable[[bytes, int], Any]:
    """JSONSchemaPropsOrArray, OrBool, OrStringArray: a schema (field 1 or 2), or the other thing."""

    def read(data: bytes, depth: int) -> Any:
        props = message(f"{_EXTENSIONS}.JSONSchemaProps")
        allows, schema, others = False, None, []
        for number, _, value in wire.fields(data):
            if flag == "bool":
                if number == 1:
                    allows = bool(value)
                elif number == 2:
                    schema = _read(_bytes(value), props, depth + 1)
            elif number == 1:
                schema = _read(_bytes(value), props, depth + 1)
            elif number == 2:
                item = _bytes(value)
                others.append(item.decode() if flag == "strings" else _read(item, props, depth + 1))
        if schema is not None:
            return schema
        return allows if flag == "bool" else others

    return read


def _put_schema_or(flag: str) -> Callable[[Any], bytes]:
    def write(value: Any) -> bytes:
        props = message(f"{_EXTENSIONS}.JSONSchemaProps")
        if flag == "bool":
            if isinstance(value, bool):
                return wire.put_number(1, int(value))
            return wire.put_number(1, 1) + wire.put_bytes(2, _write(value, props))
        if isinstance(value, dict):
            return wire.put_bytes(1, _write(value, props))
        encoded = [item.encode() if flag == "strings" else _write(item, props) for item in value]
        return b"".join(wire.put_bytes(2, item) for item in encoded)

    return write


def _put_raw(value: Any) -> bytes:
    return wire.put_bytes(1, orjson.dumps(value))


_SPECIAL: dict[str, tuple[Callable[[bytes, int], Any], Callable[[Any], bytes]]] = {
    f"{_META}.Time": (_time, _put_time),
    f"{_META}.MicroTime": (_micro_time, _put_time),
    f"{_META}.Duration": (_duration, lambda value: wire.put_number(1, round(times.parse_duration(value) * 10**9))),
    f"{_META}.FieldsV1": (_raw_json, _put_raw),
    "k8s.io.apimachinery.pkg.runtime.RawExtension": (_raw_json, _put_raw),
    f"{_EXTENSIONS}.JSON": (_raw_json, _put_raw),
    "k8s.io.apimachinery.pkg.api.resource.Quantity": (
        _first_text,
        lambda value: wire.put_bytes(1, str(value).encode()),
    ),
    "k8s.io.apimachinery.pkg.util.intstr.IntOrString": (_int_or_string, _put_int_or_string),
    **{
        name: (_items, lambda value: b"".join(wire.put_bytes(1, each.encode()) for each in value))
        for name in (
            f"{_META}.Verbs",
            "k8s.io.api.authentication.v1.ExtraValue",
            "k8s.io.api.authorization.v1.ExtraValue",
            "k8s.io.api.certificates.v1.ExtraValue",
        )
    },
    f"{_EXTENSIONS}.JSONSchemaPropsOrArray": (_schema_or("array"), _put_schema_or("array")),
    f"{_EXTENSIONS}.JSONSchemaPropsOrBool": (_schema_or("bool"), _put_schema_or("bool")),
    f"{_EXTENSIONS}.JSONSchemaPropsOrStringArray": (_schema_or("strings"), _put_schema_or("strings")),
}
