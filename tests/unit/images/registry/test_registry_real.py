"""The client against Debian's docker-registry: plain, TLS with and without our certificates, passwords, tokens."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest

from support import certificates
from support.docker_registry import PASSWORD_LINE, RunningRegistry, TokenIssuer, docker_registry
from windlass.errors import NotFound, SystemFailure, Unauthorized, WindlassError
from windlass.images.registry import ANONYMOUS, Credentials, registry_settings
from windlass.images.registry.client import RegistryClient, Repository
from windlass.images.registry.failures import ConnectionFailure
from windlass.images.registry.uploads import Outcome
from windlass.oci import image
from windlass.oci.digest import Digest, sha256_digest
from windlass.oci.image import Descriptor
from windlass.oci.platform import Platform
from windlass.oci.reference import Reference, parse_reference

AMD64 = Platform("linux", "amd64")
USER = Credentials("user", "secret")
LAYER = bytes(range(251)) * 20_000  # 5 MB


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[RegistryClient]:
    async with RegistryClient(registry_settings(), environment={}) as client:
        yield client


def blob(media_type: str, data: bytes) -> Descriptor:
    return Descriptor(mediaType=media_type, digest=sha256_digest(data), size=len(data))


async def push_blob(repository: Repository, data: bytes, mount: tuple[str, ...] = ()) -> Outcome:
    async def open_at(offset: int) -> AsyncIterator[bytes]:
        for start in range(offset, len(data), 1 << 20):
            yield data[start : start + (1 << 20)]

    return (await repository.uploads.push(sha256_digest(data), len(data), open_at, mount_from=mount))[0]


async def push_image(
    client: RegistryClient, reference: Reference, credentials: Credentials = ANONYMOUS, layer: bytes = LAYER
) -> Digest:
    config = orjson.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [sha256_digest(layer)]}}
    )
    manifest = orjson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": image.MEDIA_OCI_MANIFEST,
            "config": blob(image.MEDIA_OCI_CONFIG, config),
            "layers": [blob(image.MEDIA_OCI_LAYER, layer)],
        }
    )

    async def use(repository: Repository) -> Digest:
        await push_blob(repository, layer)
        await push_blob(repository, config)
        return await repository.manifests.put(str(reference.tag), image.MEDIA_OCI_MANIFEST, manifest)

    return await client.pushing(reference, credentials, use)


async def pull_image(client: RegistryClient, reference: Reference, credentials: Credentials = ANONYMOUS) -> bytes:
    async def use(repository: Repository) -> bytes:
        found = await repository.manifests.resolve(reference, AMD64)
        [layer] = image.parse_manifest(found.manifest.data)["layers"]
        return b"".join([chunk async for chunk in repository.blobs.stream(layer)])

    return await client.pulling(reference, credentials, use)


async def test_what_is_pushed_can_be_pulled(plain: RunningRegistry, client: RegistryClient) -> None:
    reference = parse_reference(f"{plain.host}/round/trip:1")
    digest = await push_image(client, reference)
    assert await pull_image(client, reference) == LAYER
    assert await pull_image(client, reference.with_digest(digest)) == LAYER
    assert await client.tags(reference) == ["1"]
    assert "round/trip" in await client.catalogue(plain.host)
    found = await client.inspect(reference)
    assert found["Descriptor"]["digest"] == digest
    assert found["Platforms"] == [{"architecture": "amd64", "os": "linux"}]


async def test_ranges_resume_on_the_real_thing(plain: RunningRegistry, client: RegistryClient) -> None:
    reference = parse_reference(f"{plain.host}/ranges:1")
    await push_image(client, reference)
    descriptor = blob(image.MEDIA_OCI_LAYER, LAYER)

    async def use(repository: Repository) -> bytes:
        return b"".join([chunk async for chunk in repository.blobs.stream(descriptor, offset=1_000_001)])

    assert await client.pulling(reference, ANONYMOUS, use) == LAYER[1_000_001:]


async def test_a_layer_is_mounted_from_a_neighbour(plain: RunningRegistry, client: RegistryClient) -> None:
    layer = b"mount" * 1000
    await push_image(client, parse_reference(f"{plain.host}/mount/from:1"), layer=layer)
    target = parse_reference(f"{plain.host}/mount/to:1")
    outcome = await client.pushing(target, ANONYMOUS, lambda found: push_blob(found, layer, ("mount/from",)))
    assert outcome is Outcome.MOUNTED
    again = await client.pushing(target, ANONYMOUS, lambda found: push_blob(found, layer, ("mount/from",)))
    assert again is Outcome.EXISTS


async def test_upload_in_chunks(plain: RunningRegistry, client: RegistryClient) -> None:
    from windlass.images.registry.uploads import Uploads

    data = b"chunked" * 100_000
    reference = parse_reference(f"{plain.host}/chunks:1")

    async def use(repository: Repository) -> Outcome:
        uploads = Uploads(repository.uploads._session, "chunks", chunk_size=100_000)

        async def open_at(offset: int) -> AsyncIterator[bytes]:
            yield data[offset:]

        return (await uploads.push(sha256_digest(data), len(data), open_at))[0]

    assert await client.pushing(reference, ANONYMOUS, use) is Outcome.UPLOADED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("never/pushed:1", "manifest for {host}/never/pushed:1 not found: manifest unknown: manifest unknown"),
        ("never/pushed@sha256:" + "0" * 64, "manifest unknown: manifest unknown"),
    ],
)
async def test_what_is_not_there(plain: RunningRegistry, client: RegistryClient, text: str, message: str) -> None:
    with pytest.raises(NotFound) as caught:
        await pull_image(client, parse_reference(f"{plain.host}/{text}"))
    assert message.format(host=plain.host) in str(caught.value)


async def test_a_password_file(tmp_path: Path, client: RegistryClient) -> None:
    passwords = tmp_path / "htpasswd"
    passwords.write_text(PASSWORD_LINE)
    section = {"htpasswd": {"realm": "test", "path": str(passwords)}}
    with docker_registry(tmp_path / "r", auth=section) as running:
        reference = parse_reference(f"{running.host}/a/b:1")
        await push_image(client, reference, USER)
        assert await pull_image(client, reference, USER) == LAYER
        with pytest.raises(SystemFailure, match=r'^Head ".*/v2/a/b/manifests/1": no basic auth credentials$'):
            await pull_image(client, reference)
        with pytest.raises(Unauthorized, match="unauthorized: authentication required"):
            await pull_image(client, reference, Credentials("user", "wrong"))
        assert (await client.login(Credentials("user", "secret", server_address=running.host)))[0] == "Login Succeeded"
        with pytest.raises(Unauthorized, match="failed with status: 401 Unauthorized"):
            await client.login(Credentials("user", "wrong", server_address=running.host))


async def test_tokens(tmp_path: Path, client: RegistryClient) -> None:
    issuer = TokenIssuer(tmp_path / "issuer")
    async with issuer.server:
        with docker_registry(tmp_path / "r", auth=issuer.section()) as running:
            public = parse_reference(f"{running.host}/public/x:1")
            private = parse_reference(f"{running.host}/team/x:1")
            await push_image(client, public, USER)
            await push_image(client, private, USER)
            asked = len(issuer.asked)
            assert asked == 2  # one token for each repository, however many requests
            assert await pull_image(client, public) == LAYER
            assert await pull_image(client, private, Credentials(identity_token="identity")) == LAYER
            assert issuer.asked[-1].method == "POST"
            with pytest.raises(NotFound) as caught:
                await pull_image(client, private)
            assert str(caught.value) == (
                f"pull access denied for {running.host}/team/x, repository does not exist or may require "
                "'docker login': denied: requested access to the resource is denied"
            )
            with pytest.raises(WindlassError, match="denied: requested access to the resource is denied"):
                await push_image(client, parse_reference(f"{running.host}/secret/x:1"), USER)
            login = await client.login(Credentials("user", "secret", server_address=running.host))
            assert login == ("Login Succeeded", "identity")


async def test_tls_with_certificates_of_our_own(tmp_path: Path) -> None:
    certificates.make(tmp_path)
    tls = {"certificate": str(tmp_path / "server-cert.pem"), "key": str(tmp_path / "server-key.pem")}
    tls["clientcas"] = [str(tmp_path / "ca.pem")]  # type: ignore[assignment]
    with docker_registry(tmp_path / "r", http={"tls": tls}) as running:
        directory = tmp_path / "certs.d" / running.host
        directory.mkdir(parents=True)
        # As a secure registry: loopback would be insecure by default.
        rules = registry_settings(certificate_directories=[tmp_path / "certs.d"])
        rules = type(rules)(certificate_directories=rules.certificate_directories, insecure_networks=())
        reference = parse_reference(f"{running.host}/tls:1")
        async with RegistryClient(rules, environment={}) as client:
            with pytest.raises(ConnectionFailure) as caught:
                await pull_image(client, reference)
            assert str(caught.value) == (
                f'Get "https://{running.host}/v2/": tls: failed to verify certificate: '
                "x509: certificate signed by unknown authority"
            )
            shutil.copy(tmp_path / "ca.pem", directory / "ca.crt")
            with pytest.raises(ConnectionFailure, match="remote error: tls: bad certificate"):
                await pull_image(client, reference)
            shutil.copy(tmp_path / "cert.pem", directory / "client.cert")
            shutil.copy(tmp_path / "key.pem", directory / "client.key")
            await push_image(client, reference)
            assert await pull_image(client, reference) == LAYER


async def test_tls_that_nobody_signed_is_fine_for_an_insecure_registry(tmp_path: Path, client: RegistryClient) -> None:
    certificates.make(tmp_path)
    tls = {"certificate": str(tmp_path / "server-cert.pem"), "key": str(tmp_path / "server-key.pem")}
    with docker_registry(tmp_path / "r", http={"tls": tls}) as running:
        reference = parse_reference(f"{running.host}/tls:1")
        await push_image(client, reference)
        assert await pull_image(client, reference) == LAYER


async def test_a_plain_registry_where_tls_is_demanded(plain: RunningRegistry) -> None:
    rules = registry_settings()
    rules = type(rules)(insecure_networks=())
    async with RegistryClient(rules, environment={}) as client:
        with pytest.raises(ConnectionFailure) as caught:
            await pull_image(client, parse_reference(f"{plain.host}/x:1"))
    expected = f'Get "https://{plain.host}/v2/": http: server gave HTTP response to HTTPS client'
    assert str(caught.value) == expected


async def test_a_mirror_serves_and_the_origin_is_not_asked(plain: RunningRegistry, client: RegistryClient) -> None:
    await push_image(client, parse_reference(f"{plain.host}/library/mirrored:1"))
    rules = registry_settings(mirrors=[f"http://{plain.host}"])
    async with RegistryClient(rules, environment={"HTTPS_PROXY": "http://127.0.0.1:1"}) as mirrored:
        assert await pull_image(mirrored, parse_reference("mirrored:1")) == LAYER
        with pytest.raises(SystemFailure, match=r"proxyconnect tcp: dial tcp .*: connection refused"):
            await pull_image(mirrored, parse_reference("unknown:1"))
