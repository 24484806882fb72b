"""Who asks: certificates, tokens, proxies; and what forged, old and foreign credentials meet."""

import base64
import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from kubeauth_fakes import FakeReader

from windlass.cluster.certificates import Authority, LeafSpec
from windlass.kube.api.authentication import jwt
from windlass.kube.api.authentication.bootstrap import BootstrapTokens
from windlass.kube.api.authentication.credentials import Credentials, Rejected
from windlass.kube.api.authentication.impersonation import impersonate
from windlass.kube.api.authentication.requestheader import FrontProxy
from windlass.kube.api.authentication.serviceaccount import Bound, ServiceAccountTokens
from windlass.kube.api.authentication.tokenfile import BadTokenFile, TokenFile
from windlass.kube.api.authentication.union import AnonymousRule, Union
from windlass.kube.api.authentication.x509 import ClientCertificates
from windlass.kube.api.authorization.chain import Chain
from windlass.kube.api.identity import User
from windlass.kube.api.status import StatusError

START = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)
CA = Authority.create("ca", START)
OTHER = Authority.create("ca", START)
ISSUER = "https://kubernetes.default.svc.cluster.local"


class Now:
    def __init__(self) -> None:
        self.at = START.timestamp()

    def __call__(self) -> float:
        return self.at


def der(authority: Authority, spec: LeafSpec) -> bytes:
    return authority.issue(spec, START).certificate.public_bytes(Encoding.DER)


def test_a_certificates_name_is_the_user_and_organizations_are_groups() -> None:
    found = ClientCertificates(CA.certificate_pem, lambda: START)
    user = found.authenticate(Credentials({}, der(CA, LeafSpec("ada", ("dev", "ops"), client=True))))
    assert user is not None
    assert (user.name, user.groups) == ("ada", ("dev", "ops"))


@pytest.mark.parametrize(
    ("authority", "spec"),
    [
        (OTHER, LeafSpec("ada", client=True)),  # same name, another key
        (CA, LeafSpec("ada", server=True)),
    ],
)
def test_foreign_and_serving_certificates_name_nobody(authority: Authority, spec: LeafSpec) -> None:
    found = ClientCertificates(CA.certificate_pem, lambda: START)
    assert found.authenticate(Credentials({}, der(authority, spec))) is None


def test_an_expired_certificate_is_refused() -> None:
    later = START + datetime.timedelta(days=400)
    with pytest.raises(Rejected):
        ClientCertificates(CA.certificate_pem, lambda: later).authenticate(
            Credentials({}, der(CA, LeafSpec("ada", client=True)))
        )


def test_a_front_proxy_names_users_and_nobody_else_does() -> None:
    proxy = FrontProxy(CA.certificate_pem, lambda: START, ["proxy"])
    headers = {"x-remote-user": "ada", "x-remote-group": "a, b", "x-remote-extra-acme%2fteam": "x"}
    user = proxy.authenticate(Credentials(headers, der(CA, LeafSpec("proxy", client=True))))
    assert user == User("ada", groups=("a", "b"), extra={"acme/team": ("x",)})
    assert proxy.authenticate(Credentials(headers)) is None
    assert proxy.authenticate(Credentials(headers, der(OTHER, LeafSpec("proxy", client=True)))) is None
    with pytest.raises(Rejected):
        proxy.authenticate(Credentials(headers, der(CA, LeafSpec("mallory", client=True))))


def test_a_token_file_names_users_and_groups(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text('secret,ada,u1,"a,b"\nother,bob,u2\n')
    found = TokenFile(path).authenticate_token("secret", ())
    assert found is not None
    assert found.user == User("ada", "u1", ("a", "b"))
    assert TokenFile(path).authenticate_token("nope", ()) is None
    path.write_text("lonely\n")
    with pytest.raises(BadTokenFile):
        TokenFile(path)


def bootstrap(**changes: str) -> dict[str, Any]:
    data = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:x",
        **changes,
    }
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    metadata = {"namespace": "kube-system", "name": "bootstrap-token-abcdef"}
    return {"metadata": metadata, "type": "bootstrap.kubernetes.io/token", "data": encoded}


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({}, True),
        ({"expiration": "2026-05-01T00:00:01Z"}, True),
        ({"expiration": "2026-04-30T00:00:00Z"}, False),
        ({"expiration": "tomorrow"}, False),
        ({"usage-bootstrap-authentication": "false"}, False),
        ({"token-secret": "0123456789abcdee"}, False),
    ],
)
def test_a_bootstrap_token_holds_until_it_ends(changes: dict[str, str], valid: bool) -> None:
    reader = FakeReader()
    reader.put("", "secrets", bootstrap(**changes))
    found = BootstrapTokens(reader, lambda: START).authenticate_token("abcdef.0123456789abcdef", ())
    assert (found is not None) is valid
    if found:
        assert found.user.groups == ("system:bootstrappers", "system:bootstrappers:x")


@pytest.fixture
def reader() -> FakeReader:
    found = FakeReader()
    found.put("", "serviceaccounts", {"metadata": {"namespace": "one", "name": "robot", "uid": "u1"}})
    found.put("", "pods", {"metadata": {"namespace": "one", "name": "web", "uid": "p1"}})
    return found


def tokens(reader: FakeReader, now: Now, key: Any = None, **more: Any) -> ServiceAccountTokens:
    return ServiceAccountTokens(
        reader, key or ec.generate_private_key(ec.SECP256R1()), issuer=ISSUER, clock=now, **more
    )


def account(reader: FakeReader) -> dict[str, Any]:
    return reader.objects["", "serviceaccounts", "one", "robot"]


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)])
def test_an_issued_token_names_its_account_pod_and_node(reader: FakeReader, key: Any) -> None:
    now = Now()
    issuer = tokens(reader, now, key)
    token, expires = issuer.issue(account(reader), seconds=600, bound=Bound("Pod", "web", "p1", ("n", "n1")))
    assert expires == now.at + 600
    found = issuer.authenticate_token(token, ())
    assert found is not None
    assert found.user.name == "system:serviceaccount:one:robot"
    assert found.user.groups == ("system:serviceaccounts", "system:serviceaccounts:one")
    assert found.user.extra["authentication.kubernetes.io/pod-name"] == ("web",)
    assert found.user.extra["authentication.kubernetes.io/node-uid"] == ("n1",)
    now.at += 600
    with pytest.raises(Rejected, match="expired"):
        issuer.authenticate_token(token, ())


@pytest.mark.parametrize("change", ["pod gone", "pod anew", "account gone", "account anew", "audience"])
def test_a_token_dies_with_what_it_is_bound_to(reader: FakeReader, change: str) -> None:
    issuer = tokens(reader, Now())
    token, _ = issuer.issue(account(reader), seconds=600, bound=Bound("Pod", "web", "p1"))
    audiences: tuple[str, ...] = ()
    match change:
        case "pod gone":
            reader.remove("", "pods", "one", "web")
        case "pod anew":
            reader.put("", "pods", {"metadata": {"namespace": "one", "name": "web", "uid": "p2"}})
        case "account gone":
            reader.remove("", "serviceaccounts", "one", "robot")
        case "account anew":
            reader.put("", "serviceaccounts", {"metadata": {"namespace": "one", "name": "robot", "uid": "u2"}})
        case _:
            audiences = ("vault",)
    with pytest.raises(Rejected):
        issuer.authenticate_token(token, audiences)


def forge(head: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    return ".".join(jwt.encode(part) for part in (orjson.dumps(head), orjson.dumps(claims), signature))


def test_forged_tokens_are_refused(reader: FakeReader) -> None:
    issuer = tokens(reader, Now())
    token, _ = issuer.issue(account(reader), seconds=600)
    head, claims = jwt.peek(token)
    public = orjson.dumps(issuer.key_set())
    signature = jwt.decode(token.rsplit(".", 1)[1])
    stranger, _ = tokens(reader, Now()).issue(account(reader), seconds=600)
    for bad in (
        forge({**head, "alg": "none"}, claims),
        forge({"alg": "none"}, claims),
        forge({**head, "alg": "HS256"}, claims, public),
        forge({**head, "alg": "RS256"}, claims, signature),
        forge(head, {**claims, "sub": "system:serviceaccount:kube-system:root"}, signature),
        forge(head, claims, b"\0" * 64),
        forge(head, claims, b""),
        stranger,
    ):
        with pytest.raises(Rejected):
            issuer.authenticate_token(bad, ())


def test_a_rotated_key_still_verifies(reader: FakeReader) -> None:
    old = ec.generate_private_key(ec.SECP256R1())
    token, _ = tokens(reader, Now(), old).issue(account(reader), seconds=600)
    assert tokens(reader, Now(), former_keys=[old.public_key()]).authenticate_token(token, ()) is not None


def test_the_published_keys_verify_tokens(reader: FakeReader) -> None:
    issuer = tokens(reader, Now())
    token, _ = issuer.issue(account(reader), seconds=600)
    keys = jwt.load_key_set(orjson.loads(orjson.dumps(issuer.key_set())))
    assert jwt.verify(token, keys)["iss"] == ISSUER == issuer.discovery("x")["issuer"]


def test_a_legacy_token_lives_as_long_as_its_secret(reader: FakeReader) -> None:
    issuer = tokens(reader, Now())
    token = issuer.issue_legacy(account(reader), "robot-token")
    with pytest.raises(Rejected):
        issuer.authenticate_token(token, ())
    data = {"token": base64.b64encode(token.encode()).decode()}
    reader.put("", "secrets", {"metadata": {"namespace": "one", "name": "robot-token"}, "data": data})
    assert issuer.authenticate_token(token, ()) is not None


@given(st.text())
def test_no_text_is_a_token_by_accident(text: str) -> None:
    with pytest.raises(jwt.BadToken):
        jwt.verify(text, [jwt.VerifyingKey.of(CA.key.public_key())])  # type: ignore[arg-type]


async def test_a_verified_token_is_known_for_ten_seconds(reader: FakeReader) -> None:
    now = Now()
    issuer = tokens(reader, now)
    token, _ = issuer.issue(account(reader), seconds=600)
    union = Union([], [issuer], clock=now)
    credentials = Credentials({"authorization": f"Bearer {token}"})
    assert union.quick(credentials) is None
    user = await union.authenticate(credentials)
    assert user.groups[-1] == "system:authenticated"
    reader.remove("", "serviceaccounts", "one", "robot")
    now.at += 9
    assert union.quick(credentials) == user
    now.at += 1
    assert union.quick(credentials) is None
    with pytest.raises(StatusError) as error:
        await union.authenticate(credentials)
    assert error.value.code == 401


async def test_who_brings_nothing_is_anonymous_where_that_is_allowed() -> None:
    nobody = await Union([], [], clock=Now()).authenticate(Credentials({}, path="/api"))
    assert nobody == User("system:anonymous", groups=("system:unauthenticated",))
    only_health = Union([], [], anonymous=AnonymousRule(paths=("/livez",)), clock=Now())
    assert (await only_health.authenticate(Credentials({}, path="/livez"))).name == "system:anonymous"
    for credentials in (Credentials({}, path="/api"), Credentials({"authorization": "Bearer x"}, path="/livez")):
        with pytest.raises(StatusError):
            await only_health.authenticate(credentials)


async def test_impersonation_is_asked_for_each_part() -> None:
    master, nobody = User("root", groups=("system:masters",)), User("ada")
    chain = Chain([])
    assert await impersonate(master, {}, chain) is None
    headers = {"impersonate-user": "bob", "impersonate-group": "a, b", "impersonate-extra-Acme%2Fx": "1"}
    assert await impersonate(master, headers, chain) == User(
        "bob", "", ("a", "b", "system:authenticated"), {"acme/x": ("1",)}
    )
    with pytest.raises(StatusError) as error:
        await impersonate(nobody, headers, chain)
    assert error.value.message == (
        'users "bob" is forbidden: User "ada" cannot impersonate resource "users" in API group "" at the cluster scope'
    )
    with pytest.raises(StatusError):
        await impersonate(master, {"impersonate-group": "a"}, chain)
    robot = await impersonate(master, {"impersonate-user": "system:serviceaccount:one:robot"}, chain)
    assert robot is not None
    assert robot.groups == ("system:serviceaccounts", "system:serviceaccounts:one", "system:authenticated")
