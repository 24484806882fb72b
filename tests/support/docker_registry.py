"""Debian's docker-registry as a private process on loopback: plain, with TLS, with a password file, with tokens."""

from __future__ import annotations

import base64
import datetime
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

from support.fake_registry import FakeRegistry, Incoming, Reply, error

# "secret", hashed with bcrypt at its lowest cost.
PASSWORD_LINE = "user:$2b$04$V.KpwgDbdXRiUUJsDn.9zOAeDGoU0Oi5zCCRePQiRNjoRiB0l05ku\n"


@dataclass
class RunningRegistry:
    host: str
    root: Path
    log: Path


@contextmanager
def docker_registry(directory: Path, *, scheme: str = "http", **config: Any) -> Iterator[RunningRegistry]:
    """Run docker-registry with these sections of its configuration; ends with the block."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    directory.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    http = {"addr": f"127.0.0.1:{port}", "secret": "test", **config.pop("http", {})}
    document = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}, "delete": {"enabled": True}},
        "http": http,
        **config,
    }
    path, log = directory / "config.yml", directory / "log"
    path.write_text(json.dumps(document))  # JSON is YAML
    with log.open("wb") as output:
        process = subprocess.Popen([program, "serve", str(path)], stdout=output, stderr=output)
    try:
        _wait_until_it_listens(process, port, log)
        yield RunningRegistry(f"127.0.0.1:{port}", directory / "data", log)
    finally:
        process.terminate()
        process.wait(10)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"docker-registry did not start: {log.read_text(errors='replace')}")


class TokenIssuer:
    """A token server whose signature docker-registry trusts (distribution's JWT format, ES256)."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate = directory / "issuer.pem"
        self.asked: list[Incoming] = []
        self.lifetime = 300
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._write_certificate()
        self.server = FakeRegistry()
        self.server.script("/token", *[self.answer] * 1000)

    @property
    def realm(self) -> str:
        return f"{self.server.url}/token"

    def section(self) -> dict[str, Any]:
        """The `auth` section of docker-registry."""
        return {
            "token": {
                "realm": self.realm,
                "service": "test-registry",
                "issuer": "test-issuer",
                "rootcertbundle": str(self.certificate),
            }
        }

    def answer(self, request: Incoming) -> Reply:
        self.asked.append(request)
        form = parse_qs(request.body.decode())
        given = request.headers.get("authorization", "")
        wanted = "Basic " + base64.b64encode(b"user:secret").decode()
        known = given == wanted or form.get("refresh_token") == ["identity"]
        if given and not known:
            return error(401, "UNAUTHORIZED", "incorrect username or password")
        scopes = form["scope"][0].split() if "scope" in form else [v for k, v in request.query if k == "scope"]
        granted = [entry for scope in scopes if (entry := _grant(scope, known))]
        token = self._sign(granted)
        document = {"token": token, "expires_in": self.lifetime, "refresh_token": "identity" if known else ""}
        return Reply(body=json.dumps(document).encode())

    def _sign(self, access: list[dict[str, Any]]) -> str:
        now = int(time.time())
        chain = [base64.b64encode(self._der).decode()]
        header = {"typ": "JWT", "alg": "ES256", "x5c": chain}
        claims = {
            "iss": "test-issuer",
            "aud": "test-registry",
            "sub": "user",
            "exp": now + self.lifetime,
            "nbf": now - 60,
            "iat": now,
            "jti": str(len(self.asked)),
            "access": access,
        }
        signed = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(claims).encode())}"
        r, s = utils.decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def _write_certificate(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test issuer")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self._der = certificate.public_bytes(serialization.Encoding.DER)
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _grant(scope: str, known: bool) -> dict[str, Any] | None:
    """`public/…` may be pulled by all; the rest belongs to the user; `secret/…` to nobody."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    allowed = set(actions.split(","))
    if name.startswith("secret/") or (not known and not name.startswith("public/")):
        return None
    if not known:
        allowed &= {"pull"}
    return {"type": kind, "name": name, "actions": sorted(allowed)}


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
