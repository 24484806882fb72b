"""Versions, query values, filters, JSON bodies and credentials, with dockerd's words for what is wrong."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.api.docker.backend import RegistryAuth
from windlass.api.docker.credentials import decode_header
from windlass.api.docker.filters import parse_filters
from windlass.api.docker.gojson import GoSyntaxError, first_value_end
from windlass.api.docker.hijack import Demultiplexer, frame
from windlass.api.docker.jsonbody import media_type, parse
from windlass.api.docker.router import Router, delete, get, post
from windlass.api.docker.versions import check_version, parse_version
from windlass.errors import InvalidParameter


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "invalid JSON: unexpected EOF"),
        ("", "invalid JSON: got EOF while reading request body"),
        (" \n", "invalid JSON: got EOF while reading request body"),
        ("{'a': 1}", "invalid JSON: invalid character '\\'' looking for beginning of object key string"),
        ('{"a" 1}', "invalid JSON: invalid character '1' after object key"),
        ('{"a": 1 "b": 2}', "invalid JSON: invalid character '\"' after object key:value pair"),
        ('{"a": 1,}', "invalid JSON: invalid character '}' looking for beginning of object key string"),
        ("[1 2]", "invalid JSON: invalid character '2' after array element"),
        ("[1,]", "invalid JSON: invalid character ']' looking for beginning of value"),
        ("nope", "invalid JSON: invalid character 'o' in literal null (expecting 'u')"),
        ("tru", "invalid JSON: unexpected EOF"),
        ("hello", "invalid JSON: invalid character 'h' looking for beginning of value"),
        ('"a\nb"', "invalid JSON: invalid character '\\n' in string literal"),
        ('"\\x"', "invalid JSON: invalid character 'x' in string escape code"),
        ('"\\u12g4"', "invalid JSON: invalid character 'g' in \\u hexadecimal character escape"),
        ("-a", "invalid JSON: invalid character 'a' in numeric literal"),
        ("1.a", "invalid JSON: invalid character 'a' after decimal point in numeric literal"),
        ("1ea", "invalid JSON: invalid character 'a' in exponent of numeric literal"),
        ("\xff", "invalid JSON: invalid character 'Ã' looking for beginning of value"),
        ('{"a": 1} trailing', "unexpected content after JSON"),
        ("{}{}", "unexpected content after JSON"),
        ("[" * 10_001, "invalid JSON: exceeded max depth"),
    ],
)
def test_malformed_json_is_refused_in_gos_words(document: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse(document.encode())
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("document", "value"),
    [(b'{"a": "\xff"}', {"a": "�"}), (b'{"a": "\\ud800"}', {"a": "�"}), (b'{"a": 1} ]', {"a": 1})],
)
def test_what_go_accepts_is_accepted(document: bytes, value: Any) -> None:
    assert parse(document) == value


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(value=_json, indent=st.sampled_from([None, 1]), rest=st.sampled_from(["", " ", "\n}", ",x"]))
def test_the_scanner_finds_the_end_of_every_document(value: Any, indent: int | None, rest: str) -> None:
    document = json.dumps(value, indent=indent).encode()
    if type(value) in (int, float) and rest[:1].isdigit():
        return
    assert first_value_end(document + rest.encode()) == len(document)


@given(st.binary(max_size=60) | st.text('{}[]",:0123456789.eE+-\\u tfn', max_size=40).map(str.encode))
def test_the_scanner_agrees_with_orjson(data: bytes) -> None:
    """What it calls whole, and what orjson reads, are the same documents (but for UTF-8, which Go forgives)."""
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        whole = False
    else:
        whole = True
    try:
        end = first_value_end(data)
    except GoSyntaxError:
        assert not whole
    else:
        if whole:
            assert not data[end:].strip()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "malformed Content-Type header (): mime: no media type"),
        ("text/plain/x", "malformed Content-Type header (text/plain/x): mime: expected token after slash"),
        ("a b", "malformed Content-Type header (a b): mime: expected slash after first token"),
    ],
)
def test_malformed_content_types(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        media_type(text)
    assert str(caught.value) == message


def test_content_types_have_parameters_and_no_case() -> None:
    assert media_type("Application/JSON; charset=utf-8") == "application/json"


def test_versions() -> None:
    assert parse_version("1.24") == (1, 24)
    assert parse_version("1.24.0") == (1, 24)
    assert parse_version("1.x") == (1, 0)
    assert check_version("1.51") > check_version("1.24")
    with pytest.raises(
        InvalidParameter, match=r"^client version 1\.23 is too old\. Minimum supported API version is 1\.24"
    ):
        check_version("1.23")
    with pytest.raises(
        InvalidParameter, match=r"^client version 1\.52 is too new\. Maximum supported API version is 1\.51$"
    ):
        check_version("1.52")


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("", {}),
        ("null", {}),
        ('{"label": {"a=b": true, "c": true}}', {"label": ["a=b", "c"]}),
        ('{"label": ["a=b", "c"], "name": []}', {"label": ["a=b", "c"], "name": []}),
        ('{"label": {"a": false}}', {"label": []}),
        ('{"label": null}', {"label": []}),
    ],
)
def test_filters_in_both_encodings(text: str, filters: dict[str, list[str]]) -> None:
    assert parse_filters(text, "containers") == filters


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "1",
        "{",
        '{"label": "a"}',
        '{"label": {"a": 1}}',
        '{"label": [1]}',
        '{"label": {"a": true}, "name": ["b"]}',
    ],
)
def test_filters_that_are_none(text: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_filters(text, "containers")
    assert str(caught.value) == "invalid filter"


def test_unknown_filters_are_named() -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_filters('{"colour": ["red"]}', "images")
    assert str(caught.value) == "invalid filter 'colour'"


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_credentials_header_is_read_or_ignored(data: bytes) -> None:
    decode_header(data.decode("latin-1"))
    decode_header(base64.urlsafe_b64encode(data).decode())


def test_credentials_in_the_forms_that_clients_send() -> None:
    document = orjson.dumps({"username": "u>?", "password": "p~", "serveraddress": "r.example"})
    expected = RegistryAuth("u>?", "p~", "r.example")
    for encoded in (
        base64.urlsafe_b64encode(document),
        base64.b64encode(document),
        base64.urlsafe_b64encode(document).rstrip(b"="),
    ):
        assert decode_header(encoded.decode()) == expected
    assert decode_header("e30=") == RegistryAuth()
    assert decode_header(base64.b64encode(b'{"identitytoken": "t", "auth": "dTpw"}').decode()) == RegistryAuth(
        "u", "p", identity_token="t"
    )


@given(payloads=st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50))), size=st.integers(1, 20))
def test_frames_are_taken_off_however_they_arrive(payloads: list[tuple[int, bytes]], size: int) -> None:
    wire = b"".join(frame(stream, payload) for stream, payload in payloads)
    unwrap = Demultiplexer()
    parts = [part for start in range(0, len(wire), size) for part in unwrap.feed(wire[start : start + size])]
    assert b"".join(parts) == b"".join(payload for _, payload in payloads)


async def _operation(call: object) -> None: ...


def test_names_may_contain_slashes_and_words_of_paths() -> None:
    router = Router(
        [
            get("/images/json", _operation),
            get("/images/{name}/json", _operation),
            get("/images/{name}/get", _operation),
            get("/images/get", _operation),
            delete("/images/{name}", _operation),
            get("/containers/{name}/attach/ws", _operation),
            post("/containers/{name}/attach", _operation),
            get("/networks/{name}", _operation),
        ]
    )

    def find(method: str, path: str) -> tuple[str, str, str] | None:
        found = router.find(method, path)
        return found and (found[0].path, found[1], found[2])

    assert find("GET", "/images/json") == ("/images/json", "", "")
    assert find("GET", "/v1.51/images/json") == ("/images/json", "", "1.51")
    assert find("GET", "/images/a/b/c:1/json") == ("/images/{name}/json", "a/b/c:1", "")
    assert find("GET", "/images/json/json") == ("/images/{name}/json", "json", "")
    assert find("GET", "/v1.24/images/a/get") == ("/images/{name}/get", "a", "1.24")
    assert find("DELETE", "/images/a/json") == ("/images/{name}", "a/json", "")
    assert find("GET", "/containers/a/attach/ws") == ("/containers/{name}/attach/ws", "a", "")
    assert find("POST", "/containers/a/attach") == ("/containers/{name}/attach", "a", "")
    assert find("GET", "/networks/a/b") == ("/networks/{name}", "a/b", "")
    for path in ("/", "/nope", "/images", "/v1.51", "/v1.51/", "/vx/images/json", "/images/a/nope"):
        assert find("GET", path) is None
    assert find("PATCH", "/images/json") is None
