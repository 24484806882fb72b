"""Whose certificate requests are approved without a person, whose are not, and how certificates are renewed."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from support.cluster import PrivateCluster
from support.kube_hosts import WINDLASS
from windlass.cluster import signing
from windlass.cluster.certificates import LeafSpec, new_key
from windlass.cluster.pki import PKI, utc_now
from windlass.cluster.tokens import BadToken, JoinToken
from windlass.kube.agent import authority, certificates
from windlass.kube.agent.certificates import NodeCertificates, NotSigned
from windlass.kube.api.status import StatusError
from windlass.kube.remote.client import RemoteClient
from windlass.kube.remote.transport import Credentials, Transport

Object = dict[str, Any]
CSRS = ("certificates.k8s.io", "certificatesigningrequests")
CLIENT, SERVER = ["digital signature", "client auth"], ["digital signature", "server auth"]


def url_of(cluster: PrivateCluster) -> str:
    return f"https://127.0.0.1:{cluster.port}"


def token_of(cluster: PrivateCluster) -> JoinToken:
    return JoinToken.parse((cluster.root / "data" / "token").read_text())


def authority_of(cluster: PrivateCluster) -> bytes:
    return (cluster.root / "data" / "tls" / "ca.crt").read_bytes()


@asynccontextmanager
async def client_of(cluster: PrivateCluster, **credentials: Any) -> AsyncIterator[RemoteClient]:
    client = RemoteClient(Transport(url_of(cluster), Credentials(authority=authority_of(cluster), **credentials)))
    try:
        yield client
    finally:
        await client.close()


def node_certificate(cluster: PrivateCluster, name: str, directory: Path) -> Path:
    """A certificate of a node, made with the authority's key."""
    leaf = PKI(cluster.root / "data" / "tls").ca.issue(
        LeafSpec(f"system:node:{name}", ("system:nodes",), client=True), utc_now()
    )
    path = directory / f"{name}.pem"
    path.write_bytes(leaf.certificate_pem + leaf.key_pem)
    return path


async def ask(client: RemoteClient, signer: str, usages: list[str], spec: LeafSpec) -> str:
    body = {
        "metadata": {"generateName": "csr-"},
        "spec": {
            "request": base64.b64encode(signing.new_request(new_key(), spec)).decode(),
            "signerName": signer,
            "usages": usages,
        },
    }
    made = await client.create(*CSRS, body)
    return str(made["metadata"]["name"])


async def is_approved(client: RemoteClient, name: str, seconds: float = 0.7) -> bool:
    """Whether a request is approved within a time in which others are."""
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        found = await client.get(*CSRS, "", name)
        if (found.get("status") or {}).get("certificate"):
            return True
        await asyncio.sleep(0.05)
    return False


async def test_only_what_belongs_to_the_asking_node_is_approved(cluster: PrivateCluster, tmp_path: Path) -> None:
    node = {
        "metadata": {"name": "a"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.0.2.7"}, {"type": "Hostname", "address": "host-a"}]
        },
    }
    cluster.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Node", **node}))
    cluster.kubectl("patch", "node", "a", "--subresource=status", "-p", json.dumps({"status": node["status"]}))
    nodes, agents = ("system:nodes",), ("system:windlass:agents",)

    def own(**more: Any) -> LeafSpec:
        return LeafSpec("system:node:a", nodes, **more)

    serving, kubelet = signing.KUBELET_SERVING, signing.KUBELET_CLIENT
    table = (
        (serving, SERVER, own(addresses=("192.0.2.7",), dns_names=("host-a",)), True),
        (serving, SERVER, own(addresses=("192.0.2.7",)), True),
        (serving, SERVER, own(addresses=("192.0.2.7", "192.0.2.1")), False),
        (serving, SERVER, own(dns_names=("kubernetes.default.svc",)), False),
        (serving, SERVER, LeafSpec("system:node:b", nodes, addresses=("192.0.2.7",)), False),
        (kubelet, CLIENT, own(), True),
        (kubelet, CLIENT, LeafSpec("system:node:b", nodes), False),
        (kubelet, CLIENT, LeafSpec("system:admin", ("system:masters",)), False),
        (signing.AGENT, CLIENT, LeafSpec("system:windlass:agent:a", agents), True),
        (signing.AGENT, CLIENT, LeafSpec("system:windlass:agent:b", agents), False),
        (signing.AGENT, CLIENT, LeafSpec("system:windlass:agent:a", ("system:masters",)), False),
        (signing.CLIENT, CLIENT, LeafSpec("system:windlass:agent:a", agents), False),
    )
    async with client_of(cluster, certificate=node_certificate(cluster, "a", tmp_path)) as client:

        async def approved(signer: str, usages: list[str], spec: LeafSpec) -> bool:
            return await is_approved(client, await ask(client, signer, usages, spec))

        found = await asyncio.gather(*(approved(*row[:3]) for row in table))
    assert found == [row[3] for row in table]


async def test_a_bootstrap_token_is_good_for_a_first_certificate_alone(cluster: PrivateCluster) -> None:
    async with client_of(cluster, token=token_of(cluster).bootstrap) as client:
        spec = LeafSpec("system:node:x", ("system:nodes",))
        assert await is_approved(client, await ask(client, signing.KUBELET_CLIENT, CLIENT, spec))
        agent = LeafSpec("system:windlass:agent:x", ("system:windlass:agents",))
        assert not await is_approved(client, await ask(client, signing.AGENT, CLIENT, agent))
        for group, plural in (("", "nodes"), ("", "secrets"), ("", "pods")):
            with pytest.raises(StatusError) as caught:
                await client.list(group, plural)
            assert caught.value.code == 403


async def test_a_second_machine_does_not_take_the_place_of_one_that_is_alive(cluster: PrivateCluster) -> None:
    now = datetime.datetime.now(datetime.UTC)
    for name, renewed in (("alive", now), ("silent", now - datetime.timedelta(seconds=39.5))):
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {"leaseDurationSeconds": 40, "renewTime": f"{renewed:%Y-%m-%dT%H:%M:%S.%fZ}"},
        }
        await asyncio.to_thread(cluster.kubectl, "create", "-f", "-", stdin=json.dumps(lease))
    async with client_of(cluster, token=token_of(cluster).bootstrap) as client:
        asked = [
            await ask(client, signing.KUBELET_CLIENT, CLIENT, LeafSpec(f"system:node:{name}", ("system:nodes",)))
            for name in ("alive", "silent")
        ]
        assert await is_approved(client, asked[1], 3)
        assert not await is_approved(client, asked[0])


async def test_certificates_renew_themselves_before_they_end(cluster: PrivateCluster, tmp_path: Path) -> None:
    pem = authority_of(cluster)
    kind, now = certificates.kubelet("r"), utc_now()
    held = NodeCertificates(tmp_path, pem, clock=lambda: now)
    async with client_of(cluster, token=token_of(cluster).bootstrap) as client:
        assert await held.ensure(kind, client)
        assert not await held.ensure(kind, client)
    first = held.find(kind)
    assert first is not None and 0.69 * 365 < held.due(kind) / 86400 < 0.91 * 365
    now += datetime.timedelta(days=0.91 * 365)
    assert held.due(kind) == 0
    async with client_of(cluster, certificate=held.path(kind)) as client:
        assert await held.ensure(kind, client)
        client.transport.reload()
        second = x509.load_pem_x509_certificate(held.path(kind).read_bytes())
        assert second.serial_number != first.certificate.serial_number
        assert (await client.list(*CSRS))[0]["spec"]["username"]
    # One that has ended, or is another node's, is none.
    now += datetime.timedelta(days=400)
    assert held.find(kind) is None
    assert NodeCertificates(tmp_path, pem).find(certificates.agent("r")) is None
    stranger = PKI(tmp_path / "other").ca.certificate_pem
    assert NodeCertificates(tmp_path, stranger).find(kind) is None


async def test_a_denied_request_is_told(cluster: PrivateCluster, tmp_path: Path) -> None:
    held = NodeCertificates(tmp_path, authority_of(cluster))
    async with client_of(cluster, certificate=node_certificate(cluster, "d", tmp_path)) as client:
        asking = asyncio.create_task(held.ensure(certificates.kubelet("other"), client, seconds=20))
        while True:
            names = [
                each["metadata"]["name"]
                for each in await client.list(*CSRS)
                if each["spec"]["username"] == "system:node:d"
            ]
            if names:
                break
            await asyncio.sleep(0.05)
        await asyncio.to_thread(cluster.kubectl, "certificate", "deny", *names)
        with pytest.raises(NotSigned, match="system:node:other"):
            await asking
        with pytest.raises(NotSigned, match="not signed yet"):
            await held.ensure(certificates.agent("other"), client, seconds=0.3)


async def test_the_authority_is_checked_before_anything_is_sent(cluster: PrivateCluster, tmp_path: Path) -> None:
    token, url = token_of(cluster), url_of(cluster)
    path = tmp_path / "ca.crt"
    with pytest.raises(BadToken, match="does not match"):
        await authority.obtain(url, JoinToken(token.id, token.secret, "f" * 64), path)
    assert not path.exists()
    assert await authority.obtain(url, token, path) == authority_of(cluster) == path.read_bytes()
    # What is stored counts, without a server and without a token.
    assert await authority.obtain("https://127.0.0.1:1", token, path) == path.read_bytes()
    assert await authority.obtain("https://127.0.0.1:1", None, path) == path.read_bytes()
    with pytest.raises(StatusError) as caught:
        await authority.obtain("https://127.0.0.1:1", token, tmp_path / "none.crt")
    assert caught.value.code == 503


async def test_who_approves_and_signs_needs_the_signers_permission(cluster: PrivateCluster) -> None:
    cluster.kubectl(
        "create",
        "clusterrole",
        "csr-writer",
        "--verb=get,list,update,patch",
        "--resource=certificatesigningrequests,certificatesigningrequests/approval,certificatesigningrequests/status",
    )
    cluster.kubectl("create", "clusterrolebinding", "csr-writer", "--clusterrole=csr-writer", "--user=ada")
    tls = cluster.root / "data" / "tls"
    async with client_of(cluster, certificate=tls / "admin.crt", key=tls / "admin.key") as client:
        name = await ask(client, signing.CLIENT, CLIENT, LeafSpec("bob", ("dev",)))
        with pytest.raises(StatusError, match="signer with system:masters group is not allowed"):
            await ask(client, signing.CLIENT, CLIENT, LeafSpec("bob", ("system:masters",)))

    def as_ada(*words: str) -> str:
        return cluster.kubectl(*words, "--as=ada", check=False)

    signed = '{"status":{"certificate":"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCi0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K"}}'
    sign = ("patch", "csr", name, "--subresource=status", "--type=merge", "-p", signed)
    permitted = 'requests with signerName "kubernetes.io/kube-apiserver-client"'
    assert f"user not permitted to approve {permitted}" in as_ada("certificate", "approve", name)
    assert f"user not permitted to sign {permitted}" in as_ada(*sign)
    approver = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "csr-approver"},
        "rules": [
            {
                "apiGroups": ["certificates.k8s.io"],
                "resources": ["signers"],
                "resourceNames": ["kubernetes.io/*"],
                "verbs": ["approve"],
            }
        ],
    }
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(approver))
    cluster.kubectl("create", "clusterrolebinding", "csr-approver", "--clusterrole=csr-approver", "--user=ada")
    assert f"certificatesigningrequest.certificates.k8s.io/{name} approved" in as_ada("certificate", "approve", name)
    assert "user not permitted to sign" in as_ada(*sign)


def test_tokens_that_have_expired_are_deleted(cluster: PrivateCluster) -> None:
    command = [WINDLASS, "token", "create", "--kubeconfig", str(cluster.kubeconfig)]
    made = [
        JoinToken.parse(subprocess.run([*command, f"--ttl={ttl}"], check=True, capture_output=True, text=True).stdout)
        for ttl in ("1s", "1h", "0")
    ]
    deadline = time.monotonic() + 10
    while f"bootstrap-token-{made[0].id}" in (
        names := cluster.kubectl("-n", "kube-system", "get", "secrets", "-o", "name")
    ):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert all(f"bootstrap-token-{each.id}" in names for each in made[1:])
