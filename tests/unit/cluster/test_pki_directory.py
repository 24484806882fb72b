"""A cluster's certificates: made once, renewed in time, never wider open than needed."""

import asyncio
import base64
import datetime
import json
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from windlass.cluster.certificates import BadCertificate, LeafSpec
from windlass.cluster.pki import PKI, ServingContext

START = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)
HOST = {"addresses": ["192.0.2.7"], "service_address": "10.43.0.1", "domain": "cluster.local"}


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime.datetime:
        return self.now


def certificate(pki: PKI, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pki.paths(name)[0].read_bytes())


def test_everything_is_made_at_the_first_start_and_kept_at_the_next(tmp_path: Path) -> None:
    assert PKI(tmp_path, clock=Clock()).ensure(**HOST)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert not PKI(tmp_path, clock=Clock()).ensure(**HOST)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.glob("*.key"))


def test_the_servers_names_are_those_clients_use(tmp_path: Path) -> None:
    pki = PKI(tmp_path, clock=Clock())
    pki.ensure(**HOST, names=["node-1"])
    names = certificate(pki, "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {
        "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
        "localhost", "node-1",
    }  # fmt: skip
    assert {str(a) for a in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1", "192.0.2.7", "10.43.0.1"}


@pytest.mark.parametrize(
    ("days", "renewed"), [(0, False), (200, False), (250, True), (364, True), (400, True), (-2, True)]
)
def test_a_leaf_is_renewed_at_two_thirds_of_its_life_or_after_a_clock_jump(
    tmp_path: Path, days: int, renewed: bool
) -> None:
    clock = Clock()
    pki = PKI(tmp_path, clock=clock)
    pki.ensure(**HOST)
    clock.now += datetime.timedelta(days=days)
    assert pki.ensure(**HOST) is renewed
    found = certificate(pki, "apiserver")
    assert found.not_valid_before_utc <= clock.now < found.not_valid_after_utc


def test_new_addresses_make_a_new_server_certificate_and_leave_clients_alone(tmp_path: Path) -> None:
    pki = PKI(tmp_path, clock=Clock())
    pki.ensure(**HOST)
    admin = certificate(pki, "admin")
    assert pki.ensure(**{**HOST, "addresses": ["192.0.2.8"]})
    assert certificate(pki, "admin") == admin


def test_a_pair_torn_apart_is_made_anew(tmp_path: Path) -> None:
    pki = PKI(tmp_path, clock=Clock())
    pki.ensure(**HOST)
    pki.paths("apiserver")[1].write_bytes(pki.paths("admin")[1].read_bytes())
    assert pki.ensure(**HOST)


def test_a_broken_authority_is_never_replaced(tmp_path: Path) -> None:
    PKI(tmp_path, clock=Clock())
    (tmp_path / "ca.key").write_text("garbage")
    with pytest.raises(BadCertificate):
        PKI(tmp_path, clock=Clock())


def test_a_rotated_service_account_key_leaves_its_public_half(tmp_path: Path) -> None:
    pki = PKI(tmp_path, clock=Clock())
    old = pki.service_account_key
    pki.rotate_service_account_key()
    assert PKI(tmp_path, clock=Clock()).service_account_key.private_numbers() != old.private_numbers()  # type: ignore[union-attr]
    assert len(pki.former_service_account_keys()) == 1


async def test_a_kubeconfigs_client_meets_the_server_and_sees_its_renewed_certificate(tmp_path: Path) -> None:
    clock = Clock()
    clock.now = datetime.datetime.now(datetime.UTC)
    pki = PKI(tmp_path / "pki", clock=clock)
    pki.ensure(**HOST)
    serving = ServingContext(*pki.paths("apiserver"), [pki.ca.certificate_pem])
    peers: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(True))
        peers.append(peer.subject.rfc4514_string())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=serving.context)
    port = server.sockets[0].getsockname()[1]
    path = tmp_path / "kubeconfig"
    pki.kubeconfig(path, server=f"https://127.0.0.1:{port}", client="admin")
    assert path.stat().st_mode & 0o777 == 0o600
    config = json.loads(path.read_text())
    user = config["users"][0]["user"]
    (tmp_path / "c.crt").write_bytes(base64.b64decode(user["client-certificate-data"]))
    (tmp_path / "c.key").write_bytes(base64.b64decode(user["client-key-data"]))
    authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    client = ssl.create_default_context(cadata=authority)
    client.load_cert_chain(tmp_path / "c.crt", tmp_path / "c.key")

    async def serial() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        found = writer.get_extra_info("peercert")["serialNumber"]
        await reader.read()
        writer.close()
        return str(found)

    first = await serial()
    assert peers == ["CN=system:admin,O=system:masters"]
    pki.ensure(**{**HOST, "addresses": ["192.0.2.9"]})
    serving.reload()
    assert await serial() != first
    server.close()
    await server.wait_closed()


def test_a_node_has_its_own_name_and_group(tmp_path: Path) -> None:
    client, serving = PKI(tmp_path, clock=Clock()).ensure_kubelet("node-1", ["192.0.2.7"])
    assert client.certificate.subject.rfc4514_string() == "CN=system:node:node-1,O=system:nodes"
    assert serving.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_an_authoritys_end_bounds_its_leaves(tmp_path: Path) -> None:
    pki = PKI(tmp_path, clock=Clock())
    leaf = pki.leaf("long", LeafSpec("x", client=True, life=datetime.timedelta(days=30000)))
    assert leaf.certificate.not_valid_after_utc == pki.ca.certificate.not_valid_after_utc
