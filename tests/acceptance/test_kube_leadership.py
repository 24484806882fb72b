"""One server of a cluster leads; another takes over when it stops, and later when it dies."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster import PrivateCluster
from support.etcd import etcd, start_servers
from windlass.kube.controllers.leader_election import Timing

LEASE = ("-n", "kube-system", "get", "lease", "kube-controller-manager", "-o")


@pytest.fixture
def root() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="wll-"))
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def made() -> Iterator[list[PrivateCluster]]:
    made: list[PrivateCluster] = []
    yield made
    for cluster in made:
        cluster.stop()
        if cluster.process and cluster.process.poll() is None:
            cluster.process.kill()
            cluster.process.wait()


def leader(cluster: PrivateCluster) -> str:
    return str(json.loads(cluster.kubectl(*LEASE, "json"))["spec"]["holderIdentity"])


def lead_to(cluster: PrivateCluster, *servers: PrivateCluster, seconds: float = 15) -> None:
    """Pods are led to these servers, by their ports, within the time in which servers look at each other."""
    deadline, wanted = time.monotonic() + seconds, {each.port for each in servers}
    while True:
        found = json.loads(cluster.kubectl("get", "endpoints", "kubernetes", "-o", "json"))
        slices = json.loads(cluster.kubectl("get", "endpointslices", "-o", "json"))["items"]
        ports = {port["port"] for subset in found["subsets"] for port in subset["ports"]}
        if ports == wanted == {port["port"] for each in slices for port in each["ports"]}:
            return
        assert time.monotonic() < deadline, (wanted, found, slices)
        time.sleep(0.2)


def identity(cluster: PrivateCluster) -> str:
    return (cluster.root / "data" / "server-id").read_text().strip()


def controllers_work(cluster: PrivateCluster, name: str, seconds: float = 5) -> None:
    """A new namespace gets what the controllers put into it."""
    cluster.kubectl("create", "namespace", name)
    deadline = time.monotonic() + seconds
    while "default" not in cluster.kubectl("-n", name, "get", "serviceaccounts", "-o", "name"):
        assert time.monotonic() < deadline, cluster.tail()
        time.sleep(0.1)


def test_a_single_server_leads_at_once_also_after_a_crash(root: Path, made: list[PrivateCluster]) -> None:
    cluster = PrivateCluster(root)
    made.append(cluster)
    for number in range(3):
        cluster.start()
        assert leader(cluster).endswith(identity(cluster))
        controllers_work(cluster, f"n{number}")
        if number == 0:
            cluster.kill()
        elif number == 1:
            cluster.stop()


@pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed")
def test_another_server_takes_over(root: Path, made: list[PrivateCluster]) -> None:
    with etcd(root) as url:
        start_servers(root, made, url, "one", "two")
        one, two = made
        assert leader(two).endswith(identity(one))
        controllers_work(two, "by-one")
        lead_to(two, one, two)
        one.stop()
        lead_to(two, two)
        deadline = time.monotonic() + 3 * Timing().retry_period
        while not leader(two).endswith(identity(two)):
            assert time.monotonic() < deadline, two.tail()
            time.sleep(0.1)
        controllers_work(two, "by-two")
        one.start()
        lead_to(two, one, two)
        died = time.monotonic()
        two.kill()
        while not leader(one).endswith(identity(one)):
            assert time.monotonic() < died + 25, one.tail()
            time.sleep(0.2)
        # The lease was renewed two seconds before the death at the earliest.
        assert time.monotonic() - died > Timing().lease - 2 * Timing().retry_period
        controllers_work(one, "by-one-again")
        lead_to(one, one, seconds=30)
        events = one.kubectl("-n", "kube-system", "get", "events", "-o", "jsonpath={.items[*].message}")
        assert f"{identity(one)} became leader" in events and "stopped leading" in events
        for cluster in made:
            cluster.stop()


def test_who_loses_the_lease_stops_and_leads_again_when_it_is_free(root: Path, made: list[PrivateCluster]) -> None:
    cluster = PrivateCluster(root)
    made.append(cluster)
    cluster.start()
    controllers_work(cluster, "before")
    taken = '{"spec":{"holderIdentity":"somebody","leaseDurationSeconds":6}}'
    cluster.kubectl("-n", "kube-system", "patch", "lease", "kube-controller-manager", "--type=merge", "-p", taken)
    deadline = time.monotonic() + 5
    while "leader election lost" not in cluster.tail():
        assert time.monotonic() < deadline, cluster.tail()
        time.sleep(0.1)
    cluster.kubectl("create", "namespace", "meanwhile")
    time.sleep(0.5)
    accounts = ("-n", "meanwhile", "get", "serviceaccounts", "-o", "name")
    assert cluster.kubectl(*accounts).strip() == ""
    deadline = time.monotonic() + 15
    while not leader(cluster).endswith(identity(cluster)):
        assert time.monotonic() < deadline, cluster.tail()
        time.sleep(0.1)
    # What happened meanwhile is caught up with.
    deadline = time.monotonic() + 5
    while "default" not in cluster.kubectl(*accounts):
        assert time.monotonic() < deadline, cluster.tail()
        time.sleep(0.1)
    controllers_work(cluster, "after")
    assert "Traceback" not in cluster.log.read_text()
