"""A cluster's keys and certificates on disk, made at the first start and renewed before they expire.

    <data-dir>/pki/
      ca.crt ca.key                      signs the server's and the clients' certificates; never replaced
      front-proxy-ca.crt/.key            signs who may say "this request is really from …"
      front-proxy-client.crt/.key        with which the API server speaks to aggregated servers
      service-account.key                signs service-account tokens
      service-account.<n>.pub            keys of former times that still verify (key rotation)
      apiserver.crt/.key                 what the server shows; follows the host's addresses
      apiserver-kubelet-client.crt/.key  with which the server speaks to node agents
      admin controller-manager scheduler kubelet …  .crt/.key: clients, CN is the user, O are the groups

Whatever is missing, broken, two thirds through its life, from the future or for other addresses is made anew by
`ensure`, which is cheap enough to be called at each start and by a timer. `ServingContext` takes a new certificate
without a restart. Kubeconfigs embed their certificates and are readable by their owner alone.

Source: https://kubernetes.io/docs/setup/best-practices/certificates/
"""

from __future__ import annotations

import base64
import datetime
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from windlass.cluster.certificates import (
    Authority,
    BadCertificate,
    Leaf,
    LeafSpec,
    encode_key,
    new_key,
    read_leaf,
    write_file,
)

Clock = Callable[[], datetime.datetime]

SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
CLIENTS = {
    "admin": LeafSpec("system:admin", ("system:masters",), client=True),
    "controller-manager": LeafSpec("system:kube-controller-manager", client=True),
    "scheduler": LeafSpec("system:kube-scheduler", client=True),
    "proxy": LeafSpec("system:kube-proxy", client=True),
    "apiserver-kubelet-client": LeafSpec("kube-apiserver-kubelet-client", ("system:masters",), client=True),
}


def utc_now() -> datetime.datetime:
    """The clock of real programs."""
    return datetime.datetime.now(datetime.UTC)


class PKI:
    """The directory of a cluster's certificates."""

    def __init__(self, directory: Path, *, clock: Clock = utc_now) -> None:
        self.directory = directory
        self._clock = clock
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.ca = self._authority("ca", "windlass-ca")
        self.front_proxy_ca = self._authority("front-proxy-ca", "windlass-front-proxy-ca")
        self.service_account_key = self._service_account_key()

    def ensure(self, *, addresses: Iterable[str], service_address: str, domain: str, names: Iterable[str] = ()) -> bool:
        """Make or renew the server's and the built-in clients' certificates; whether the server's is a new one.

        `addresses` are the host's, `service_address` is the Service `kubernetes`'s, `domain` the cluster's, such as
        "cluster.local", `names` further host names.
        """
        for name, spec in CLIENTS.items():
            self.leaf(name, spec)
        self.leaf("front-proxy-client", LeafSpec("front-proxy-client", client=True), self.front_proxy_ca)
        _, new = self._leaf("apiserver", server_spec(addresses, service_address, domain, names), self.ca)
        return new

    def ensure_kubelet(self, node: str, addresses: Iterable[str]) -> tuple[Leaf, Leaf]:
        """A node's client and serving certificates."""
        client = LeafSpec(f"system:node:{node}", ("system:nodes",), client=True)
        serving = replace(client, dns_names=(node,), addresses=tuple(addresses), client=False, server=True)
        return self.leaf(f"kubelet-{node}", client), self.leaf(f"kubelet-{node}-serving", serving)

    def leaf(self, name: str, spec: LeafSpec, authority: Authority | None = None) -> Leaf:
        """The pair of this name, made or renewed where needed."""
        return self._leaf(name, spec, authority or self.ca)[0]

    def paths(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of a name."""
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"

    def rotate_service_account_key(self) -> None:
        """Sign with a new key; tokens of the former one stay valid until their end."""
        number = 1 + max((_number(path) for path in self.directory.glob("service-account.*.pub")), default=0)
        write_file(self.directory / f"service-account.{number}.pub", _public_pem(self.service_account_key), 0o644)
        self.service_account_key = new_key()
        write_file(self.directory / "service-account.key", encode_key(self.service_account_key))

    def former_service_account_keys(self) -> list[bytes]:
        """Public keys (PEM) that verify older tokens, latest first."""
        paths = sorted(self.directory.glob("service-account.*.pub"), key=_number, reverse=True)
        return [path.read_bytes() for path in paths]

    def kubeconfig(self, path: Path, *, server: str, client: str, cluster: str = "default") -> None:
        """Write a kubeconfig for one of the clients, mode 0600."""
        certificate, key = self.paths(client)
        content = kubeconfig(server, self.ca.certificate_pem, certificate.read_bytes(), key.read_bytes(), cluster)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content)

    def _authority(self, name: str, common_name: str) -> Authority:
        certificate, key = self.paths(name)
        stored = read_leaf(certificate, key)
        if stored is not None:
            return Authority(stored.certificate, stored.key)
        if certificate.exists() and key.exists():
            # A new one would lock out every client: that is for a person to decide.
            raise BadCertificate(f"{certificate} and {key} cannot be read or do not belong together")
        made = Authority.create(common_name, self._clock())
        write_file(key, made.key_pem)
        write_file(certificate, made.certificate_pem, 0o644)
        return made

    def _service_account_key(self) -> CertificateIssuerPrivateKeyTypes:
        path = self.directory / "service-account.key"
        try:
            return serialization.load_pem_private_key(path.read_bytes(), password=None)  # type: ignore[return-value]
        except FileNotFoundError:
            key = new_key()
            write_file(path, encode_key(key))
            return key
        except ValueError as error:
            raise BadCertificate(f"{path}: {error}") from error

    def _leaf(self, name: str, spec: LeafSpec, authority: Authority) -> tuple[Leaf, bool]:
        certificate, key = self.paths(name)
        now = self._clock()
        stored = read_leaf(certificate, key)
        if stored is not None and not stored.stale(spec, authority, now):
            return stored, False
        made = authority.issue(spec, now)
        # Killed between the two, the next start finds a pair that does not fit and makes it anew.
        write_file(key, made.key_pem)
        write_file(certificate, made.certificate_pem, 0o644)
        return made, True


class ServingContext:
    """The TLS context of a server; `reload` gives new connections the renewed certificate, old ones go on."""

    def __init__(self, certificate: Path, key: Path, client_authorities: Sequence[bytes]) -> None:
        self._paths = (certificate, key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.verify_mode = ssl.CERT_OPTIONAL
        if client_authorities:
            self.context.load_verify_locations(cadata=b"\n".join(client_authorities).decode())
        self.reload()

    def reload(self) -> None:
        """Read the files again."""
        self.context.load_cert_chain(*self._paths)


def server_spec(addresses: Iterable[str], service_address: str, domain: str, names: Iterable[str] = ()) -> LeafSpec:
    """What the API server's certificate must say."""
    every = (*SERVICE_NAMES, f"kubernetes.default.svc.{domain}", "localhost", *names)
    hosts = ("127.0.0.1", "::1", service_address, *addresses)
    return LeafSpec("kube-apiserver", dns_names=every, addresses=tuple(host for host in hosts if host), server=True)


def kubeconfig(server: str, authority: bytes, certificate: bytes, key: bytes, cluster: str = "default") -> bytes:
    """A kubeconfig with everything embedded (JSON, which is YAML)."""

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    user = {"client-certificate-data": text(certificate), "client-key-data": text(key)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": cluster, "cluster": {"server": server, "certificate-authority-data": text(authority)}},
        ],
        "users": [{"name": cluster, "user": user}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
        "current-context": cluster,
        "preferences": {},
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _public_pem(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, spki)


def _number(path: Path) -> int:
    middle = path.name.split(".")[1]
    return int(middle) if middle.isdigit() else 0
