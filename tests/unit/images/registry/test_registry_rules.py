"""The client's rules that need no network: addresses, credentials, challenges, scopes, proxies, error texts."""

from __future__ import annotations

import base64
import socket
import ssl
from pathlib import Path

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import InvalidParameter, NotFound, SystemFailure, Unauthorized
from windlass.images.registry import credentials, failures, settings
from windlass.images.registry.challenge import Challenge, parse_challenges
from windlass.images.registry.tokens import merge_scopes
from windlass.images.registry.transport import proxy_for
from windlass.oci.reference import parse_reference


async def test_addresses_of_a_name() -> None:
    rules = settings.registry_settings(mirrors=["https://mirror.example", "http://10.0.0.1:5000/sub/"])
    hub = await settings.endpoints(rules, "docker.io")
    assert [endpoint.url for endpoint in hub] == [
        "https://mirror.example",
        "http://10.0.0.1:5000/sub",
        "https://registry-1.docker.io",
    ]
    assert [endpoint.mirror for endpoint in hub] == [True, True, False]
    assert len(await settings.endpoints(rules, "docker.io", mirrors=False)) == 1
    [secure] = await settings.endpoints(rules, "10.1.2.3:443")
    assert secure.verify and not secure.plain


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "127.9.9.9", "localhost:1", "[::1]:5000"])
async def test_loopback_is_insecure_tls_first(host: str) -> None:
    found = await settings.endpoints(settings.registry_settings(), host)
    assert [(endpoint.url, endpoint.verify) for endpoint in found] == [
        (f"https://{host}", False),
        (f"http://{host}", False),
    ]


@pytest.mark.parametrize(
    ("insecure", "host", "secure"),
    [
        (["reg.example:5000"], "reg.example:5000", False),
        (["10.0.0.0/8"], "10.2.3.4:5000", False),
        (["10.0.0.0/8"], "11.2.3.4:5000", True),
        (["fd00::/8"], "[fd00::1]:5000", False),
        (["http://10.9.9.9:5000"], "10.9.9.9:5000", False),
        (["10.9.9.9:5000"], "10.9.9.9:5001", True),
        ([], "no-such-host.invalid", True),
    ],
)
async def test_insecure_hosts_and_networks(insecure: list[str], host: str, secure: bool) -> None:
    assert await settings.is_secure(settings.registry_settings(insecure=insecure), host) is secure


@pytest.mark.parametrize("text", ["-x", "x-", "ftp://x", "x/y/z", "1.2.3.4/99", "x:70000", "x y", "a..b/8", ""])
def test_bad_insecure_registries(text: str) -> None:
    with pytest.raises(InvalidParameter):
        settings.registry_settings(insecure=[text])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mirror.example", "no scheme specified"),
        ("ftp://x", "unsupported scheme"),
        ("https://x/?a=b", "query or fragment"),
        ("https://user:secret@x/", "username/password not allowed"),
        ("https://x:port/", "not a valid URI"),
        ("https://", "not a valid URI"),
    ],
)
def test_bad_mirrors(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message) as caught:
        settings.check_mirror(text)
    assert "secret" not in str(caught.value)


def test_info_shape() -> None:
    document = settings.registry_settings(mirrors=["https://m"], insecure=["r:1"]).to_json()
    assert document["Mirrors"] == ["https://m/"]
    assert document["InsecureRegistryCIDRs"] == ["::1/128", "127.0.0.0/8"]
    configs = document["IndexConfigs"]
    assert isinstance(configs, dict)
    assert configs["r:1"] == {"Name": "r:1", "Mirrors": [], "Secure": False, "Official": False}
    assert configs["docker.io"]["Official"] is True


def encoded(document: object, *, urlsafe: bool = True, padded: bool = True) -> str:
    data = orjson.dumps(document)
    text = (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(data).decode()
    return text if padded else text.rstrip("=")


@pytest.mark.parametrize("urlsafe", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_registry_auth_header_in_every_spelling(urlsafe: bool, padded: bool) -> None:
    document = {"username": "ü?>~", "password": "p~~?", "serveraddress": "r.example"}
    found = credentials.decode_registry_auth(encoded(document, urlsafe=urlsafe, padded=padded))
    assert found == credentials.Credentials("ü?>~", "p~~?", server_address="r.example")
    assert "p~~?" not in repr(found)


def test_empty_headers_are_anonymous() -> None:
    for header in ("", encoded({}), "e30="):
        assert not credentials.decode_registry_auth(header)
    combined = credentials.decode_registry_auth(encoded({"auth": base64.b64encode(b"u:p:q").decode()}))
    assert (combined.username, combined.password) == ("u", "p:q")


@pytest.mark.parametrize(
    "header", ["%%%", "e30", encoded([]), encoded({"username": 1}), encoded({"auth": "!!"}), "A" * 70_000]
)
def test_bad_registry_auth(header: str) -> None:
    if header == "e30":  # unpadded is fine
        assert not credentials.decode_registry_auth(header)
        return
    with pytest.raises(InvalidParameter):
        credentials.decode_registry_auth(header)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()))
def test_any_header_is_credentials_or_a_typed_error(header: str) -> None:
    try:
        credentials.decode_registry_auth(header)
    except InvalidParameter:
        pass


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], []),
        (['Basic realm="x"'], [Challenge("basic", {"realm": "x"})]),
        (
            ['Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"'],
            [Challenge("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a/b:pull,push"})],
        ),
        (
            ['BEARER Realm="a" , service=s, Basic realm="b"'],
            [Challenge("bearer", {"realm": "a", "service": "s"}), Challenge("basic", {"realm": "b"})],
        ),
        (["Negotiate", 'Basic realm="q\\"q"'], [Challenge("negotiate"), Challenge("basic", {"realm": 'q"q'})]),
        (["Bearer realm=https://a/t,service=s"], [Challenge("bearer", {"realm": "https://a/t", "service": "s"})]),
    ],
)
def test_challenges(headers: list[str], expected: list[Challenge]) -> None:
    assert parse_challenges(headers) == expected


@given(st.lists(st.text(max_size=80), max_size=3))
def test_any_challenge_header_is_parsed_or_passed_over(headers: list[str]) -> None:
    parse_challenges(headers)


def test_long_hostile_challenges_take_no_time() -> None:
    for text in ('Bearer realm="' + "\\" * 50_000, "a=" * 50_000, "x " * 50_000, 'B a="b",' * 20_000):
        parse_challenges([text])


def test_scopes_are_merged_by_resource() -> None:
    scopes = ["repository:a/b:pull", "repository:a/b:push,pull", "registry:catalog:*", "repository:h:5000/x:pull"]
    assert merge_scopes(scopes) == (
        "registry:catalog:*",
        "repository:a/b:pull,push",
        "repository:h:5000/x:pull",
    )
    assert merge_scopes(["repository:a:pull repository:b:pull"]) == ("repository:a:pull", "repository:b:pull")


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("https://r.example/v2/", {"HTTPS_PROXY": "http://p:3128"}, "http://p:3128"),
        ("https://r.example/v2/", {"https_proxy": "p:3128"}, "http://p:3128"),
        ("http://r.example/v2/", {"HTTPS_PROXY": "http://p:3128"}, None),
        ("https://r.example/v2/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "r.example"}, None),
        ("https://a.r.example:5000/", {"HTTPS_PROXY": "http://p", "NO_PROXY": ".r.example"}, None),
        ("http://127.0.0.1:5000/", {"HTTP_PROXY": "http://p"}, None),
        ("http://localhost:5000/", {"HTTP_PROXY": "http://p"}, None),
    ],
)
def test_proxies(url: str, environment: dict[str, str], proxy: str | None) -> None:
    assert proxy_for(url, environment) == proxy


def document(*entries: tuple[str, str]) -> bytes:
    return orjson.dumps({"errors": [{"code": code, "message": message} for code, message in entries]})


@pytest.mark.parametrize(
    ("status", "body", "content_type", "challenges", "message"),
    [
        (
            404,
            document(("MANIFEST_UNKNOWN", "manifest unknown")),
            "application/json",
            [],
            "manifest unknown: manifest unknown",
        ),
        (403, document(("DENIED", "")), "application/json", [], "denied: requested access to the resource is denied"),
        (400, document(("WEIRD", "x")), "application/json", [], "unknown: x"),
        (
            400,
            document(("DENIED", "a"), ("NAME_INVALID", "b")),
            "application/json; charset=utf-8",
            [],
            "errors:\ndenied: a\nname invalid: b\n",
        ),
        (429, b"slow down", "text/plain", [], "toomanyrequests: slow down"),
        (403, b"<html>no</html>", "text/html", [], "denied: <html>no</html>"),
        (401, b'{"details": "bad password"}', "application/json", [], "unauthorized: bad password"),
        (401, b"{", "application/json", [], "unauthorized: authentication required"),
        (
            404,
            b'{"x": 1}',
            "application/json",
            [],
            'error parsing HTTP 404 response body: no error details found in HTTP response body: "{\\"x\\": 1}"',
        ),
        (500, b"oops", "text/plain", [], "received unexpected HTTP status: 500 Internal Server Error"),
        (
            401,
            document(("UNAUTHORIZED", "r")),
            "application/json",
            [Challenge("bearer", {"error": "insufficient_scope"})],
            "errors:\ndenied: requested access to the resource is denied\nunauthorized: r\n",
        ),
    ],
)
def test_error_texts_are_dockerds(
    status: int, body: bytes, content_type: str, challenges: list[Challenge], message: str
) -> None:
    assert str(failures.failure_of_answer(status, body, content_type, challenges)) == message


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (
            "DENIED",
            NotFound,
            "pull access denied for team/x, repository does not exist or may require 'docker login': "
            "denied: requested access to the resource is denied",
        ),
        ("MANIFEST_UNKNOWN", NotFound, "manifest for team/x:1 not found: manifest unknown: manifest unknown"),
        (
            "NAME_UNKNOWN",
            NotFound,
            "repository team/x not found: name unknown: repository name not known to registry",
        ),
        ("UNAUTHORIZED", Unauthorized, "unauthorized: authentication required"),
        ("TOOMANYREQUESTS", SystemFailure, "toomanyrequests: too many requests"),
    ],
)
def test_pull_errors_are_dockerds(code: str, kind: type[Exception], message: str) -> None:
    translated = failures.for_pull(failures.ApiError(400, [(code, "")]), parse_reference("team/x:1"))
    assert type(translated) is kind and str(translated) == message


def connector_error(cause: OSError) -> aiohttp.ClientConnectorError:
    key = aiohttp.client_reqrep.ConnectionKey("r", 5000, True, True, None, None, None)
    kind = aiohttp.ClientConnectorDNSError if isinstance(cause, socket.gaierror) else aiohttp.ClientConnectorError
    return kind(key, cause)


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (
            connector_error(ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 5000)")),
            "dial tcp 127.0.0.1:5000: connect: connection refused",
        ),
        (
            connector_error(ConnectionRefusedError(111, "Connect call failed ('::1', 5000, 0, 0)")),
            "dial tcp [::1]:5000: connect: connection refused",
        ),
        (connector_error(socket.gaierror(-2, "Name or service not known")), "dial tcp: lookup r: no such host"),
        (connector_error(socket.gaierror(socket.EAI_AGAIN, "again")), "dial tcp: lookup r: server misbehaving"),
        (connector_error(OSError(113, "No route to host")), "dial tcp r:5000: connect: no route to host"),
        (aiohttp.ConnectionTimeoutError("x"), "dial tcp: i/o timeout"),
        (aiohttp.ServerDisconnectedError(), "EOF"),
        (aiohttp.ClientPayloadError("x"), "unexpected EOF"),
        (ConnectionResetError(104, "reset"), "connection reset by peer"),
        (TimeoutError(), "net/http: request canceled (Client.Timeout exceeded while awaiting headers)"),
    ],
)
def test_connection_errors_are_gos(cause: BaseException, text: str) -> None:
    assert (
        str(failures.failure_of_connection("GET", "https://r:5000/v2/", cause)) == f'Get "https://r:5000/v2/": {text}'
    )


def test_certificate_directories_that_contradict_themselves(tmp_path: Path) -> None:
    from windlass.images.registry.certificates import tls_context

    endpoint = settings.Endpoint("https://r:1", "r:1")
    rules = settings.registry_settings(certificate_directories=[tmp_path])
    assert tls_context(endpoint, rules).verify_mode is ssl.CERT_REQUIRED
    directory = tmp_path / "r:1"
    directory.mkdir()
    (directory / "client.cert").write_text("x")
    with pytest.raises(InvalidParameter, match=r"missing key client\.key for client certificate client\.cert"):
        tls_context(endpoint, rules)
    (directory / "client.key").write_text("x")
    with pytest.raises(InvalidParameter, match=r"client\.cert"):
        tls_context(endpoint, rules)
    (directory / "client.cert").unlink()
    with pytest.raises(InvalidParameter, match=r"missing client certificate client\.cert for key client\.key"):
        tls_context(endpoint, rules)
    (directory / "client.key").unlink()
    (directory / "ca.crt").write_text("not a certificate")
    with pytest.raises(InvalidParameter, match=r"ca\.crt"):
        tls_context(endpoint, rules)


def test_a_host_name_stays_one_directory(tmp_path: Path) -> None:
    from windlass.images.registry.certificates import tls_context

    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.key").write_text("")
    inside = tmp_path / "certs.d"
    inside.mkdir()
    rules = settings.registry_settings(certificate_directories=[inside])
    for host in ("../outside", ".."):
        assert tls_context(settings.Endpoint(f"https://{host}", host), rules)
