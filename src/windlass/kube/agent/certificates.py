"""A node's certificates: asked for with a bootstrap token, then by themselves, each renewed before it ends.

    client-kubelet.pem    system:node:<name>            what the kubelet writes and reads
    client-agent.pem      system:windlass:agent:<name>  what service proxy, name server and overlay read
    serving-kubelet.pem   the node's names              what the kubelet's own API shows; needs the node's Node

    new key ─▶ CertificateSigningRequest ─▶ approved and signed by the server ─▶ certificate and key in one file

One file, replaced at once, is never half of a pair. A certificate is renewed when 70 to 90 percent of its life have
passed; where in between follows from its serial number, so that nodes that joined together do not renew together.

Source: https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from windlass.cluster.certificates import Leaf, LeafSpec, issued_by, new_key, read_leaf, write_file
from windlass.cluster.pki import Clock, utc_now
from windlass.cluster.signing import (
    AGENT,
    AGENT_GROUP,
    AGENT_PREFIX,
    KUBELET_CLIENT,
    KUBELET_SERVING,
    NODE_GROUP,
    NODE_PREFIX,
    new_request,
)
from windlass.errors import WindlassError
from windlass.kube.api.custom.establishing import condition
from windlass.kube.api.resource import Object
from windlass.kube.client import APIClient

log = logging.getLogger("windlass.kube.agent")

_GROUP, _PLURAL = "certificates.k8s.io", "certificatesigningrequests"
_CLIENT_USAGES: Final = ("digital signature", "client auth")
_SERVER_USAGES: Final = ("digital signature", "server auth")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class NotSigned(WindlassError):
    """A request was denied, refused by the signer, or not answered in time."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the node's certificates: its file, who signs it, for what, and what it says."""

    file: str
    signer: str
    usages: Sequence[str]
    spec: LeafSpec


def kubelet(node: str) -> Kind:
    """The kubelet's own."""
    return Kind(
        "client-kubelet.pem",
        KUBELET_CLIENT,
        _CLIENT_USAGES,
        LeafSpec(f"{NODE_PREFIX}{node}", (NODE_GROUP,), client=True),
    )


def agent(node: str) -> Kind:
    """That of everything else in the agent."""
    return Kind(
        "client-agent.pem", AGENT, _CLIENT_USAGES, LeafSpec(f"{AGENT_PREFIX}{node}", (AGENT_GROUP,), client=True)
    )


def serving(node: str, names: Sequence[str], addresses: Sequence[str]) -> Kind:
    """What the kubelet's API shows."""
    spec = LeafSpec(
        f"{NODE_PREFIX}{node}", (NODE_GROUP,), dns_names=tuple(names), addresses=tuple(addresses), server=True
    )
    return Kind("serving-kubelet.pem", KUBELET_SERVING, _SERVER_USAGES, spec)


class NodeCertificates:
    """The certificates below a directory."""

    def __init__(self, directory: Path, authority: bytes, *, clock: Clock = utc_now) -> None:
        self._directory = directory
        self._authorities = x509.load_pem_x509_certificates(authority)
        self._clock = clock

    def path(self, kind: Kind) -> Path:
        """The file with certificate and key."""
        return self._directory / kind.file

    def find(self, kind: Kind) -> Leaf | None:
        """The stored certificate, None where it is not there, has ended, or says something else."""
        path = self.path(kind)
        found = read_leaf(path, path)
        if found is None or not any(issued_by(found.certificate, each) for each in self._authorities):
            return None
        now, certificate = self._clock(), found.certificate
        if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
            return None
        return found if found.says(kind.spec) else None

    def due(self, kind: Kind) -> float:
        """Seconds until a certificate should be renewed, 0 where that is now."""
        found = self.find(kind)
        if found is None:
            return 0.0
        begin, end = found.certificate.not_valid_before_utc, found.certificate.not_valid_after_utc
        fraction = 0.7 + 0.2 * (found.certificate.serial_number % 1000) / 1000
        return max((begin + (end - begin) * fraction - self._clock()).total_seconds(), 0.0)

    async def ensure(self, kind: Kind, client: APIClient, *, seconds: float = 60.0) -> bool:
        """Ask for a certificate where it is due; whether there is a new one.

        Raises:
            StatusError: the server refuses or does not answer.
            NotSigned, OSError
        """
        if self.due(kind) > 0:
            return False
        key = new_key()
        pem = await _signed(client, kind, new_request(key, kind.spec), seconds)
        leaf = Leaf(x509.load_pem_x509_certificate(pem), key)
        write_file(self.path(kind), pem + leaf.key_pem)
        end = leaf.certificate.not_valid_after_utc
        log.info("%s is good until %s", kind.spec.common_name, end.astimezone(datetime.UTC).isoformat())
        return True


async def _signed(client: APIClient, kind: Kind, request: bytes, seconds: float) -> bytes:
    body: Object = {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "csr-"},
        "spec": {
            "request": base64.b64encode(request).decode(),
            "signerName": kind.signer,
            "usages": list(kind.usages),
        },
    }
    made = await client.create(_GROUP, _PLURAL, body)
    name = made["metadata"]["name"]
    pause = _FIRST_PAUSE
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = await client.get(_GROUP, _PLURAL, "", name)
                for refusal in ("Denied", "Failed"):
                    if decision := condition(found, refusal):
                        why = decision.get("message") or decision.get("reason") or refusal
                        raise NotSigned(f"certificate request {name} of {kind.spec.common_name}: {why}")
                if certificate := (found.get("status") or {}).get("certificate"):
                    return base64.b64decode(certificate)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
    except TimeoutError:
        why = "a node of this name may be alive, or an administrator has to approve it"
        raise NotSigned(f"certificate request {name} of {kind.spec.common_name} is not signed yet: {why}") from None
