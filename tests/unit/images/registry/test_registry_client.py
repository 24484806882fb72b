"""The client against a registry that misbehaves: every lie is a typed error, every break is healed or said."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs

import orjson
import pytest

from support import certificates
from support.fake_registry import FakeRegistry, Incoming, Reply, error
from windlass.errors import Forbidden, InvalidParameter, NotFound, SystemFailure, Unauthorized, WindlassError
from windlass.images.registry import ANONYMOUS, Credentials, RegistrySettings, registry_settings
from windlass.images.registry.client import RegistryClient, Repository
from windlass.images.registry.failures import ConnectionFailure, UnsupportedContent, VerificationFailure
from windlass.images.registry.manifests import ResolvedImage
from windlass.images.registry.uploads import Outcome
from windlass.oci import image
from windlass.oci.digest import Digest, sha256_digest
from windlass.oci.image import Descriptor
from windlass.oci.platform import Platform, parse_platform
from windlass.oci.reference import Reference, parse_reference

AMD64 = Platform("linux", "amd64")
DATA = bytes(range(256)) * 4096  # 1 MiB
USER = Credentials("user", "secret")


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as fake:
        yield fake


class Pauses:
    """Stands for `asyncio.sleep`: no time passes, and what was asked for is kept."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def client(pauses: Pauses) -> AsyncIterator[RegistryClient]:
    async with RegistryClient(registry_settings(), environment={}, sleep=pauses) as client:
        yield client


def name(registry: FakeRegistry, text: str = "team/x:1") -> Reference:
    return parse_reference(f"{registry.host}/{text}")


async def resolve(
    client: RegistryClient,
    reference: Reference,
    platform: Platform = AMD64,
    credentials: Credentials = ANONYMOUS,
) -> ResolvedImage:
    return await client.pulling(reference, credentials, lambda found: found.manifests.resolve(reference, platform))


async def fetch(client: RegistryClient, reference: Reference, digest: Digest, size: int) -> bytes:
    descriptor = Descriptor(mediaType=image.MEDIA_OCI_LAYER, digest=digest, size=size)

    async def use(repository: Repository) -> bytes:
        return b"".join([chunk async for chunk in repository.blobs.stream(descriptor)])

    return await client.pulling(reference, ANONYMOUS, use)


async def push(
    client: RegistryClient, reference: Reference, data: bytes, mount: list[str] | None = None
) -> tuple[Outcome, str, list[int]]:
    progress: list[int] = []

    async def open_at(offset: int) -> AsyncIterator[bytes]:
        for start in range(offset, len(data), 64 << 10):
            yield data[start : min(start + (64 << 10), len(data))]

    async def use(repository: Repository) -> tuple[Outcome, str]:
        return await repository.uploads.push(
            sha256_digest(data), len(data), open_at, mount_from=mount or [], on_progress=progress.append
        )

    outcome, source = await client.pushing(reference, ANONYMOUS, use)
    return outcome, source, progress


# -- manifests -------------------------------------------------------------------------------------------------------


async def test_a_tag_is_resolved_by_a_head_and_one_get(registry: FakeRegistry, client: RegistryClient) -> None:
    digest = registry.add_image("1", layers=[b"layer"])
    found = await resolve(client, name(registry))
    assert found.target.descriptor["digest"] == digest and found.manifest is found.target
    assert [request.method for request in registry.requests("manifests")] == ["HEAD", "GET"]
    assert registry.requests("GET .*manifests")[0].path.endswith(digest)


async def test_what_is_here_is_not_fetched_again(registry: FakeRegistry, client: RegistryClient) -> None:
    digest = registry.add_image("1", layers=[b"layer"])
    store = {digest: registry.manifests[digest][1]}
    await client.pulling(
        name(registry),
        ANONYMOUS,
        lambda repository: repository.manifests.resolve(name(registry), AMD64, local=store.get),
    )
    assert [request.method for request in registry.requests("manifests")] == ["HEAD"]


@pytest.mark.parametrize("list_type", [image.MEDIA_OCI_INDEX, image.MEDIA_DOCKER_LIST])
async def test_the_platform_is_chosen_from_an_index(
    registry: FakeRegistry, client: RegistryClient, list_type: str
) -> None:
    digests = {arch: registry.add_image(layers=[arch.encode()]) for arch in ("amd64", "arm64", "386")}
    entries = [
        {
            "mediaType": image.MEDIA_OCI_MANIFEST,
            "digest": digest,
            "size": len(registry.manifests[digest][1]),
            "platform": {"os": "linux", "architecture": arch},
        }
        for arch, digest in digests.items()
    ]
    attestation = {**entries[0], "platform": {"os": "unknown", "architecture": "unknown"}}
    index = {"schemaVersion": 2, "mediaType": list_type, "manifests": [attestation, *entries]}
    top = registry.add_manifest(index, "1", media_type=list_type)
    for text, expected in (("linux/amd64", "amd64"), ("linux/arm64/v8", "arm64"), ("linux/386", "386")):
        found = await resolve(client, name(registry), parse_platform(text))
        assert found.target.descriptor["digest"] == top
        assert found.manifest.descriptor["digest"] == digests[expected]
        assert [step.kind for step in found.path] == ["index", "manifest"]
    with pytest.raises(NotFound) as caught:
        await resolve(client, name(registry), parse_platform("linux/s390x"))
    assert str(caught.value) == "no matching manifest for linux/s390x in the manifest list entries"


async def test_an_index_in_an_index_and_one_too_many(registry: FakeRegistry, client: RegistryClient) -> None:
    def wrap(digest: Digest, tag: str, kind: str) -> Digest:
        entry = {"mediaType": kind, "digest": digest, "size": len(registry.manifests[digest][1])}
        document = {"schemaVersion": 2, "manifests": [entry]}
        return registry.add_manifest(document, tag, media_type=image.MEDIA_OCI_INDEX)

    digest = registry.add_image(layers=[b"x"])
    inner = wrap(digest, "1", image.MEDIA_OCI_MANIFEST)
    deep = wrap(inner, "2", image.MEDIA_OCI_INDEX)
    assert (await resolve(client, name(registry, "a:2"))).manifest.descriptor["digest"] == digest
    for number in range(3, 7):
        deep = wrap(deep, str(number), image.MEDIA_OCI_INDEX)
    with pytest.raises(InvalidParameter, match="nested too deeply"):
        await resolve(client, name(registry, "a:6"))


async def test_a_manifest_that_is_not_what_its_digest_says(registry: FakeRegistry, client: RegistryClient) -> None:
    digest = registry.add_image("1", layers=[b"x"])
    media_type, data = registry.manifests[digest]
    registry.manifests[digest] = (media_type, data + b" ")
    with pytest.raises(VerificationFailure, match=f"manifest verification failed for digest {digest}"):
        await resolve(client, name(registry))
    with pytest.raises(VerificationFailure):
        await resolve(client, name(registry, f"team/x@{digest}"))


async def test_an_index_that_lies_about_a_size(registry: FakeRegistry, client: RegistryClient) -> None:
    digest = registry.add_image(layers=[b"x"])
    entry = {"mediaType": image.MEDIA_OCI_MANIFEST, "digest": digest, "size": 3}
    registry.add_manifest({"schemaVersion": 2, "manifests": [entry]}, "1", media_type=image.MEDIA_OCI_INDEX)
    with pytest.raises(VerificationFailure, match="manifest verification failed"):
        await resolve(client, name(registry))


async def test_a_registry_without_head_or_digest_header(registry: FakeRegistry, client: RegistryClient) -> None:
    digest = registry.add_image("1", layers=[b"x"])
    media_type, data = registry.manifests[digest]
    registry.script("HEAD .*manifests", error(405, "UNSUPPORTED"))
    registry.script("GET .*manifests", Reply(200, {"Content-Type": media_type}, data))
    assert (await resolve(client, name(registry))).target.descriptor["digest"] == digest


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (
            Reply(200, {"Content-Type": image.MEDIA_DOCKER_SCHEMA1_SIGNED}, b'{"schemaVersion": 1, "fsLayers": []}'),
            UnsupportedContent,
            "schema 1 support has been removed",
        ),
        (Reply(200, {}, b"{}"), UnsupportedContent, "unsupported manifest format"),
        (Reply(200, {}, b"not json"), InvalidParameter, "manifest: "),
        (Reply(200, {}, b"x" * (image.MAX_DOCUMENT + 1)), SystemFailure, "larger than the allowed"),
        (
            Reply(200, {"Docker-Content-Digest": "sha256:" + "0" * 64}, b"{}"),
            VerificationFailure,
            "verification failed",
        ),
        (Reply(500, {}, b""), SystemFailure, "received unexpected HTTP status: 500 Internal Server Error"),
        (Reply(302, {"Location": "file:///etc/passwd"}), SystemFailure, "unsupported protocol scheme"),
        (Reply(302, {"Location": "http://["}), SystemFailure, "invalid URL"),
        (Reply(302, {"Location": "http://x:port/"}), SystemFailure, "invalid URL"),
        (Reply(302, {"Location": "https:///x"}), SystemFailure, "without a host"),
        (Reply(302, {"Location": "/v2/loop"}), SystemFailure, "stopped after 10 redirects"),
        (
            error(404, "MANIFEST_UNKNOWN"),
            NotFound,
            "manifest for .*team/x:1 not found: manifest unknown: manifest unknown",
        ),
        (error(429, "TOOMANYREQUESTS", "You have reached"), SystemFailure, "toomanyrequests: You have reached"),
    ],
)
async def test_answers_that_are_no_manifest(
    registry: FakeRegistry, client: RegistryClient, reply: Reply, kind: type[Exception], message: str
) -> None:
    registry.script("HEAD", *[error(404, "MANIFEST_UNKNOWN")] * 10)
    registry.script("GET .*/manifests/", *[reply] * 10)
    registry.script("GET /v2/loop", *[Reply(302, {"Location": "/v2/loop"})] * 20)
    with pytest.raises(kind, match=message):
        await resolve(client, name(registry))


async def test_the_accept_header_names_what_we_read(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.add_image("1", layers=[b"x"])
    await resolve(client, name(registry))
    accepted = registry.requests("HEAD .*manifests")[0].headers["accept"]
    for media_type in (*image.MANIFEST_TYPES, *image.INDEX_TYPES):
        assert media_type in accepted


async def test_scratch_is_no_repository(client: RegistryClient) -> None:
    with pytest.raises(Forbidden, match="'scratch' is a reserved name"):
        await resolve(client, parse_reference("scratch"))


# -- blobs -----------------------------------------------------------------------------------------------------------


async def test_a_blob_arrives_whole(registry: FakeRegistry, client: RegistryClient) -> None:
    digest = registry.add_blob(DATA)
    assert await fetch(client, name(registry), digest, len(DATA)) == DATA
    empty = registry.add_blob(b"")
    assert await fetch(client, name(registry), empty, 0) == b""


async def test_a_broken_download_is_taken_up_where_it_broke(
    registry: FakeRegistry, client: RegistryClient, pauses: Pauses
) -> None:
    digest = registry.add_blob(DATA)

    def partial(request: Incoming) -> Reply:
        start = int(request.headers["range"][6:-1])
        headers = {"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"}
        return Reply(206, headers, DATA[start:], cut=200_000)

    registry.script("GET .*blobs", Reply(200, {}, DATA, cut=300_000), partial, partial)
    assert await fetch(client, name(registry), digest, len(DATA)) == DATA
    ranges = [request.headers.get("range") for request in registry.requests("GET .*blobs")]
    assert ranges == [None, "bytes=300000-", "bytes=500000-", "bytes=700000-"]
    assert len(pauses.asked) == 3


async def test_a_server_that_ignores_ranges_costs_only_time(registry: FakeRegistry, client: RegistryClient) -> None:
    digest = registry.add_blob(DATA)
    registry.script("GET .*blobs", Reply(200, {}, DATA, cut=300_000), Reply(200, {}, DATA))
    assert await fetch(client, name(registry), digest, len(DATA)) == DATA


async def test_a_server_that_never_gets_further_is_given_up(
    registry: FakeRegistry, client: RegistryClient, pauses: Pauses
) -> None:
    digest = registry.add_blob(DATA)
    registry.script("GET .*blobs", *[Reply(200, {}, DATA, cut=0)] * 20)
    with pytest.raises(ConnectionFailure, match="EOF"):
        await fetch(client, name(registry), digest, len(DATA))
    assert len(registry.requests("GET .*blobs")) == 5
    assert pauses.asked == sorted(pauses.asked)


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (Reply(200, {}, DATA + b"!"), VerificationFailure, "more than the promised"),
        (Reply(200, {}, DATA[:-1]), VerificationFailure, "ended after 1048575 of 1048576 bytes"),
        (Reply(206, {"Content-Range": "bytes 7-9/10"}, DATA), SystemFailure, "got another range"),
        (Reply(206, {}, DATA), SystemFailure, "got another range"),
        (error(404, "BLOB_UNKNOWN"), SystemFailure, "blob unknown: blob unknown to registry"),
        (Reply(404, {}, b""), SystemFailure, "blob unknown: blob unknown to registry"),
    ],
)
async def test_streams_that_lie(
    registry: FakeRegistry, client: RegistryClient, reply: Reply, kind: type[Exception], message: str
) -> None:
    digest = registry.add_blob(DATA)
    registry.script("GET .*blobs", reply)
    registry.script("GET .*blobs", *[reply] * 10)
    with pytest.raises(kind, match=message):
        await fetch(client, name(registry), digest, len(DATA))


async def test_small_blobs_are_verified_as_they_are_read(registry: FakeRegistry, client: RegistryClient) -> None:
    digest = registry.add_blob(b"good")
    descriptor = Descriptor(mediaType=image.MEDIA_OCI_CONFIG, digest=digest, size=4)

    async def use(repository: Repository) -> bytes:
        return await repository.blobs.read(descriptor)

    assert await client.pulling(name(registry), ANONYMOUS, use) == b"good"
    registry.blobs[digest] = b"evil"
    with pytest.raises(VerificationFailure, match="image config verification failed for digest"):
        await client.pulling(name(registry), ANONYMOUS, use)
    descriptor["size"] = image.MAX_DOCUMENT + 1
    with pytest.raises(VerificationFailure, match="larger than the allowed"):
        await client.pulling(name(registry), ANONYMOUS, use)


async def test_a_reader_that_goes_away_leaves_no_connection_behind(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    digest = registry.add_blob(DATA * 8)
    descriptor = Descriptor(mediaType=image.MEDIA_OCI_LAYER, digest=digest, size=len(DATA) * 8)

    async def use(repository: Repository) -> None:
        stream = repository.blobs.stream(descriptor)
        await anext(stream)
        await stream.aclose()

    await client.pulling(name(registry), ANONYMOUS, use)


async def test_redirects_do_not_carry_credentials_to_another_host(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    digest = sha256_digest(DATA)
    async with FakeRegistry() as storage:
        storage.script("GET /bucket", Reply(200, {}, DATA))
        registry.require_basic("user", "secret")
        location = f"{storage.url}/bucket?signature=a%2Fb"
        registry.script(
            "GET .*blobs", lambda request: registry.authorize(request) or Reply(307, {"Location": location})
        )
        descriptor = Descriptor(mediaType=image.MEDIA_OCI_LAYER, digest=digest, size=len(DATA))

        async def use(repository: Repository) -> bytes:
            return b"".join([chunk async for chunk in repository.blobs.stream(descriptor)])

        assert await client.pulling(name(registry), USER, use) == DATA
        [request] = storage.log
        assert "authorization" not in request.headers
        assert request.query == [("signature", "a/b")]


async def test_too_many_requests_are_waited_out_when_it_is_not_long(
    registry: FakeRegistry, client: RegistryClient, pauses: Pauses
) -> None:
    registry.add_image("1", layers=[b"x"])
    busy = error(429, "TOOMANYREQUESTS", "later")
    busy.headers["Retry-After"] = "7"
    registry.script("HEAD .*manifests", busy, Reply(503, {"Retry-After": "3"}))
    await resolve(client, name(registry))
    assert pauses.asked == [7.0, 3.0]
    long = error(429, "TOOMANYREQUESTS", "You have reached your pull rate limit.")
    long.headers["Retry-After"] = "3600"
    registry.script("manifests", *[long] * 4)
    with pytest.raises(SystemFailure, match="toomanyrequests: You have reached your pull rate limit"):
        await resolve(client, name(registry))
    assert pauses.asked == [7.0, 3.0]


# -- authorization ---------------------------------------------------------------------------------------------------


class Issuer:
    """A token server beside the registry, and the check of its tokens."""

    def __init__(self, registry: FakeRegistry) -> None:
        self.good: set[str] = set()
        self.issued = 0
        self.lifetime: object = 300
        registry.script("/token", *[self.answer] * 50)
        self.realm = f"{registry.url}/token"
        registry.authorize = self.check

    def check(self, request: Incoming) -> Reply | None:
        if request.headers.get("authorization", "").removeprefix("Bearer ") in self.good:
            return None
        reply = error(401, "UNAUTHORIZED", "authentication required")
        reply.headers["WWW-Authenticate"] = f'Bearer realm="{self.realm}",service="fake",scope="repository:other:pull"'
        return reply

    def answer(self, request: Incoming) -> Reply:
        form = parse_qs(request.body.decode())
        basic = base64.b64encode(b"user:secret").decode()
        if form.get("refresh_token") != ["identity"] and request.headers.get("authorization") not in (
            None,
            f"Basic {basic}",
        ):
            return error(401, "UNAUTHORIZED", "incorrect username or password")
        self.issued += 1
        self.good = {f"token{self.issued}"}
        return Reply(
            body=orjson.dumps({"token": f"token{self.issued}", "expires_in": self.lifetime, "refresh_token": "r"})
        )


async def test_tokens_are_fetched_once_and_kept(registry: FakeRegistry, client: RegistryClient) -> None:
    issuer = Issuer(registry)
    registry.add_image("1", layers=[b"x"])
    for _ in range(2):
        await asyncio.gather(*[resolve(client, name(registry), credentials=USER) for _ in range(3)])
    assert issuer.issued == 1
    [request] = registry.requests("GET /token")
    assert request.query == [("service", "fake"), ("scope", "repository:team/x:pull"), ("account", "user")]
    assert request.headers["authorization"].startswith("Basic ")


async def test_a_token_server_of_its_own_may_be_insecure_too(
    registry: FakeRegistry, client: RegistryClient, tmp_path: Path
) -> None:
    certificates.make(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server-cert.pem", tmp_path / "server-key.pem")
    async with FakeRegistry(tls=context) as server:
        issuer = Issuer(registry)
        server.script("/token", issuer.answer)
        issuer.realm = f"{server.url}/token"
        registry.add_image("1", layers=[b"x"])
        await resolve(client, name(registry), credentials=USER)
        assert issuer.issued == 1 and server.log[0].headers["authorization"].startswith("Basic ")


async def test_a_registry_with_tls_does_not_get_our_password_sent_in_the_clear(tmp_path: Path) -> None:
    certificates.make(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server-cert.pem", tmp_path / "server-key.pem")
    async with FakeRegistry(tls=context) as registry, FakeRegistry() as thief:
        (tmp_path / registry.host).mkdir()
        (tmp_path / "ca.pem").rename(tmp_path / registry.host / "ca.crt")
        rules = RegistrySettings(certificate_directories=(tmp_path,), insecure_networks=())
        issuer = Issuer(registry)
        issuer.realm = f"{thief.url}/token"
        async with RegistryClient(rules, environment={}) as client:
            with pytest.raises(SystemFailure, match="refusing to send credentials"):
                await resolve(client, name(registry), credentials=USER)
        assert not thief.log


async def test_expired_tokens_are_renewed(registry: FakeRegistry) -> None:
    issuer, now = Issuer(registry), [0.0]
    registry.add_image("1", layers=[b"x"])
    async with RegistryClient(registry_settings(), environment={}, clock=lambda: now[0]) as client:
        for moment, issued in ((0.0, 1), (290.0, 1), (296.0, 2)):
            now[0] = moment
            await resolve(client, name(registry))
            assert issuer.issued == issued


async def test_a_token_that_the_registry_no_longer_takes_is_renewed_once(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    issuer = Issuer(registry)
    registry.add_image("1", layers=[b"x"])
    await resolve(client, name(registry))
    issuer.good = set()
    await resolve(client, name(registry))
    assert issuer.issued == 2
    scopes = [value for key, value in registry.requests("/token")[-1].query if key == "scope"]
    assert scopes == ["repository:other:pull", "repository:team/x:pull"]
    registry.script("HEAD .*manifests", *[issuer.check] * 5)
    issuer.answer = lambda request: Reply(body=b'{"token": "bad"}')  # type: ignore[method-assign]


async def test_identity_tokens_are_exchanged_by_post(registry: FakeRegistry, client: RegistryClient) -> None:
    Issuer(registry)
    registry.add_image("1", layers=[b"x"])
    await resolve(client, name(registry), credentials=Credentials(identity_token="identity"))
    [request] = registry.requests("POST /token")
    assert "authorization" not in request.headers
    form = parse_qs(request.body.decode())
    assert form["grant_type"] == ["refresh_token"] and form["refresh_token"] == ["identity"]
    assert form["scope"] == ["repository:team/x:pull"] and form["service"] == ["fake"]


async def test_registry_tokens_are_used_as_they_are(registry: FakeRegistry, client: RegistryClient) -> None:
    issuer = Issuer(registry)
    issuer.good = {"mine"}
    registry.add_image("1", layers=[b"x"])
    await resolve(client, name(registry), credentials=Credentials(registry_token="mine"))
    assert issuer.issued == 0


async def test_wrong_passwords_name_the_request(registry: FakeRegistry, client: RegistryClient) -> None:
    Issuer(registry)
    with pytest.raises(SystemFailure) as caught:
        await resolve(client, name(registry), credentials=Credentials("user", "wrong"))
    url = f"{registry.url}/v2/team/x/manifests/1"
    assert str(caught.value) == f'Head "{url}": unauthorized: incorrect username or password'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}", "authorization server did not include a token in the response"),
        (b"[]", "unable to decode token response"),
        (b"x", "unable to decode token response"),
        (b'{"token": "a\\nb"}', "not a header value"),
        (b'{"token": 7}', "not a header value"),
        (b"x" * (2 << 20), "larger than the allowed"),
    ],
)
async def test_token_servers_that_make_no_sense(
    registry: FakeRegistry, client: RegistryClient, body: bytes, message: str
) -> None:
    Issuer(registry)
    registry.script("/token", *[Reply(body=body)] * 5)
    with pytest.raises(SystemFailure, match=message):
        await resolve(client, name(registry))


async def test_a_challenge_without_a_realm(registry: FakeRegistry, client: RegistryClient) -> None:
    for header, message in (
        ("Bearer service=x", "no realm specified"),
        ('Bearer realm="ftp://x"', "invalid token auth challenge realm"),
        ('Bearer realm="/token"', "invalid token auth challenge realm"),
        ('Bearer realm="http://["', "invalid token auth challenge realm"),
    ):
        registry.script("/v2/$", Reply(401, {"WWW-Authenticate": header}))
        with pytest.raises(SystemFailure, match=message):
            await resolve(client, name(registry))


async def test_basic_authentication(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.require_basic("user", "secret")
    registry.add_image("1", layers=[b"x"])
    await resolve(client, name(registry), credentials=USER)
    with pytest.raises(SystemFailure) as caught:
        await resolve(client, name(registry))
    assert str(caught.value) == f'Head "{registry.url}/v2/team/x/manifests/1": no basic auth credentials'
    with pytest.raises(Unauthorized, match="unauthorized: authentication required"):
        await resolve(client, name(registry), credentials=Credentials("user", "wrong"))


async def test_login(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.require_basic("user", "secret")
    assert await client.login(Credentials("user", "secret", server_address=registry.host)) == ("Login Succeeded", "")
    with pytest.raises(Unauthorized) as caught:
        await client.login(Credentials("user", "wrong", server_address=f"http://{registry.host}/v2/"))
    assert str(caught.value) == f"login attempt to {registry.url}/v2/ failed with status: 401 Unauthorized"


async def test_login_with_a_token_server_gives_an_identity_token(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    Issuer(registry)
    assert await client.login(Credentials("user", "secret", server_address=registry.host)) == ("Login Succeeded", "r")
    assert ("offline_token", "true") in registry.requests("/token")[0].query
    with pytest.raises(Unauthorized, match=r'^Get ".*/v2/": unauthorized: incorrect username or password$'):
        await client.login(Credentials("user", "wrong", server_address=registry.host))


async def test_nobody_there(client: RegistryClient) -> None:
    async with FakeRegistry() as gone:
        host = gone.host
    with pytest.raises(ConnectionFailure) as caught:
        await resolve(client, parse_reference(f"{host}/x:1"))
    assert str(caught.value) == f'Get "http://{host}/v2/": dial tcp {host}: connect: connection refused'
    with pytest.raises(SystemFailure, match="connection refused"):
        await client.login(Credentials("user", "secret", server_address=host))


# -- mirrors ---------------------------------------------------------------------------------------------------------


async def test_a_mirror_is_asked_first_and_its_failure_is_not_the_end(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = registry.add_image("1", layers=[b"x"])
    async with FakeRegistry() as broken, FakeRegistry() as gone_soon:
        gone = gone_soon.url
        await gone_soon.__aexit__()
        broken.script("manifests", *[error(404, "MANIFEST_UNKNOWN")] * 4)
        broken.require_basic("nobody", "nothing")
        rules = registry_settings(mirrors=[gone, broken.url, registry.url])
        async with RegistryClient(rules, environment={}) as client:
            found = await resolve(client, parse_reference("team/x:1"), credentials=USER)
        assert found.target.descriptor["digest"] == digest
        assert broken.log and all("authorization" not in request.headers for request in broken.log)


# -- uploads ---------------------------------------------------------------------------------------------------------


async def test_a_push_sends_what_is_missing_and_nothing_else(registry: FakeRegistry, client: RegistryClient) -> None:
    outcome, _, progress = await push(client, name(registry), DATA)
    assert outcome is Outcome.UPLOADED and registry.blobs[sha256_digest(DATA)] == DATA
    assert progress[-1] == len(DATA) and progress == sorted(progress)
    assert [request.method for request in registry.requests("blobs")] == ["HEAD", "POST", "PUT"]
    outcome, _, _ = await push(client, name(registry), DATA)
    assert outcome is Outcome.EXISTS


async def test_an_empty_blob_can_be_pushed(registry: FakeRegistry, client: RegistryClient) -> None:
    assert (await push(client, name(registry), b""))[0] is Outcome.UPLOADED
    assert registry.blobs[sha256_digest(b"")] == b""


async def test_a_blob_is_mounted_from_another_repository(registry: FakeRegistry, client: RegistryClient) -> None:
    digest = registry.add_blob(DATA)
    registry.script("HEAD .*blobs", error(404, "BLOB_UNKNOWN"))
    outcome, source, _ = await push(client, name(registry), DATA, ["team/base"])
    assert (outcome, source) == (Outcome.MOUNTED, "team/base")
    [request] = registry.requests("POST")
    assert request.query == [("mount", digest), ("from", "team/base")]


async def test_a_mount_that_is_refused_becomes_an_upload(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.script("POST", error(401, "DENIED"))
    assert (await push(client, name(registry), DATA, ["secret/base", "other"]))[0] is Outcome.UPLOADED
    assert len(registry.requests("DELETE .*uploads")) == 1  # the upload that "other" opened instead of a mount


async def test_a_broken_upload_is_taken_up_where_it_broke(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.read_limit = 400_000
    outcome, _, progress = await push(client, name(registry), DATA)
    assert outcome is Outcome.UPLOADED and registry.blobs[sha256_digest(DATA)] == DATA
    assert [request.method for request in registry.requests("uploads")] == ["POST", "PUT", "GET", "PATCH", "PUT"]
    [patch] = registry.requests("PATCH")
    assert patch.headers["content-range"] == f"400000-{len(DATA) - 1}"
    assert len(patch.body) == len(DATA) - 400_000
    assert progress[-1] == len(DATA)


async def test_a_registry_that_forgets_an_upload_gets_it_again(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.read_limit = 400_000
    registry.script("GET .*uploads", error(404, "BLOB_UPLOAD_UNKNOWN"))
    assert (await push(client, name(registry), DATA))[0] is Outcome.UPLOADED
    assert [request.method for request in registry.requests("uploads")] == ["POST", "PUT", "GET", "POST", "PUT"]


async def test_a_blob_too_large_for_one_request_goes_in_pieces(registry: FakeRegistry, client: RegistryClient) -> None:
    data = DATA * 17
    registry.script("PUT .*uploads", Reply(413, {"Content-Type": "text/html"}, b"too large"))
    assert (await push(client, name(registry), data))[0] is Outcome.UPLOADED
    assert [len(request.body) for request in registry.requests("PATCH")] == [16 << 20, 1 << 20]
    assert registry.blobs[sha256_digest(data)] == data


@pytest.mark.parametrize(
    ("pattern", "reply", "message"),
    [
        ("POST", error(401, "UNAUTHORIZED"), "^unauthorized: authentication required$"),
        ("POST", error(403, "DENIED"), "^denied: requested access to the resource is denied$"),
        ("POST", Reply(202), "did not say where to upload"),
        ("POST", Reply(202, {"Location": "file:///x"}), "unsupported protocol scheme"),
        ("PUT", error(400, "DIGEST_INVALID"), "digest invalid"),
        ("PUT", Reply(302, {"Location": "/elsewhere"}), "received unexpected HTTP status: 302"),
    ],
)
async def test_pushes_that_are_refused(
    registry: FakeRegistry, client: RegistryClient, pattern: str, reply: Reply, message: str
) -> None:
    registry.script(pattern, *[reply] * 10)
    with pytest.raises(WindlassError, match=message):
        await push(client, name(registry), DATA)


async def test_a_push_without_credentials_says_so(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.require_basic("user", "secret")
    with pytest.raises(SystemFailure, match=r"^no basic auth credentials$"):
        await push(client, name(registry), DATA)


async def test_manifests_are_put_and_their_digest_compared(registry: FakeRegistry, client: RegistryClient) -> None:
    data = orjson.dumps({"schemaVersion": 2})

    async def use(repository: Repository) -> Digest:
        return await repository.manifests.put("1", image.MEDIA_OCI_MANIFEST, data)

    assert await client.pushing(name(registry), ANONYMOUS, use) == sha256_digest(data)
    assert registry.manifests["1"] == (image.MEDIA_OCI_MANIFEST, data)
    registry.script("PUT", Reply(201, {"Docker-Content-Digest": "sha256:" + "1" * 64}))
    with pytest.raises(VerificationFailure, match="stored manifest"):
        await client.pushing(name(registry), ANONYMOUS, use)


# -- lists and inspection --------------------------------------------------------------------------------------------


async def test_tags_and_catalogue_are_read_page_by_page(registry: FakeRegistry, client: RegistryClient) -> None:
    first = Reply(200, {"Link": '</v2/team/x/tags/list?last=b&n=2>; rel="next"'}, b'{"tags": ["a", "b"]}')
    registry.script("tags/list", first, Reply(200, {}, b'{"tags": ["c"]}'))
    assert await client.tags(name(registry)) == ["a", "b", "c"]
    assert registry.requests("tags")[1].query == [("last", "b"), ("n", "2")]
    assert await client.catalogue(registry.host) == ["a", "b/c"]
    registry.script("tags/list", Reply(200, {}, b'{"tags": null}'))
    assert await client.tags(name(registry)) == []
    registry.script("tags/list", Reply(200, {}, b'{"tags": [1]}'))
    with pytest.raises(SystemFailure, match="not a list of names"):
        await client.tags(name(registry))


async def test_distribution_inspect(registry: FakeRegistry, client: RegistryClient) -> None:
    digest = registry.add_image("latest", layers=[b"x"])
    found = await client.inspect(name(registry, "team/x"))
    assert found["Descriptor"]["digest"] == digest
    assert found["Platforms"] == [{"architecture": "amd64", "os": "linux"}]
    entry = {"mediaType": image.MEDIA_OCI_MANIFEST, "digest": digest, "size": len(registry.manifests[digest][1])}
    platform = {"architecture": "arm", "os": "linux", "variant": "v7"}
    document = {"schemaVersion": 2, "manifests": [{**entry, "platform": platform}]}
    registry.add_manifest(document, "2", media_type=image.MEDIA_OCI_INDEX)
    found = await client.inspect(name(registry, "team/x:2"))
    assert found["Descriptor"]["mediaType"] == image.MEDIA_OCI_INDEX and found["Platforms"] == [platform]
