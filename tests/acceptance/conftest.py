"""A real daemon of one's own for each test module, with docker-py and the docker command line bound to it.

    def test_something(docker, client, busybox): ...

    engine    the daemon (`support.engine.PrivateEngine`): may be stopped, killed and started again
    client    docker-py's client of it            docker    runs the docker command line against it
    busybox   the name of a small image that was imported into it          lives     makes containers of it by the API

After the last test of a module the daemon is stopped, and nothing with its name may be left: no process, mount, network
namespace, interface, nftables table or control group.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.__main__ import busybox_root

from support import leaks
from support.cluster import PrivateCluster
from support.dockercli import Docker, bound_to
from support.engine import PrivateEngine
from support.kube_pods import Pods
from support.lives import Lives
from support.remains import left_of

IMAGE = "busybox:latest"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs root, and a daemon's start is not a unit test's time."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="module")
def engine() -> Iterator[PrivateEngine]:
    """A daemon with private roots (on a short path: socket addresses are short)."""
    before = leaks.look()
    root = Path(tempfile.mkdtemp(prefix="wl-"))
    engine = PrivateEngine(root)
    try:
        engine.start()
        yield engine
        engine.close()
        left = left_of(engine, before)
        assert not left, "left behind:\n" + "\n".join(left) + "\n" + engine.tail()
    finally:
        if engine.process and engine.process.poll() is None:
            engine.process.kill()
            engine.process.wait()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def docker(engine: PrivateEngine) -> Docker:
    """Runs the docker command line against the engine."""
    return bound_to(engine)


@pytest.fixture(scope="module")
def client(engine: PrivateEngine) -> Iterator[Any]:
    """docker-py's client of the engine."""
    import docker

    client = docker.DockerClient(base_url=f"unix://{engine.socket}", timeout=60)
    yield client
    client.close()


@pytest.fixture(scope="module")
def busybox(engine: PrivateEngine) -> str:
    """The name of an imported image with Debian's static busybox."""
    engine.call("POST", "/images/create?fromSrc=-&repo=busybox&tag=latest", busybox_root())
    return IMAGE


@pytest.fixture
def lives(engine: PrivateEngine, busybox: str) -> Iterator[Lives]:
    """Short ways to make containers of that image; they go away after the test, and all volumes with them."""
    lives = Lives(engine)
    yield lives
    lives.clean()


@pytest.fixture(scope="module")
def cluster() -> Iterator[PrivateCluster]:
    """A Kubernetes API server of the module's own."""
    root = Path(tempfile.mkdtemp(prefix="wlk-"))
    cluster = PrivateCluster(root)
    try:
        cluster.start()
        yield cluster
        cluster.stop()
    finally:
        if cluster.process and cluster.process.poll() is None:
            cluster.process.kill()
            cluster.process.wait()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def node() -> Iterator[PrivateCluster]:
    """A cluster of the module's own with a node, which has the busybox image. Nothing of it may be left."""
    before = leaks.look()
    root = Path(tempfile.mkdtemp(prefix="wlk-"))
    # Those who test at the same time have other addresses.
    second = 100 + os.getpid() % 150
    ranges = f"--cluster-cidr=10.{second}.0.0/17", f"--service-cidr=10.{second}.128.0/17"
    cluster = PrivateCluster(root, *ranges, agent=True)
    try:
        cluster.start()
        cluster.import_image(busybox_root(), "busybox:1")
        cluster.wait_for_node()
        yield cluster
        cluster.remove_pods()
        cluster.stop()
        left = left_of(cluster, before)
        assert not left, "left behind:\n" + "\n".join(left) + "\n" + cluster.tail()
    finally:
        if cluster.process and cluster.process.poll() is None:
            cluster.process.kill()
            cluster.process.wait()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def pods(node: PrivateCluster, request: pytest.FixtureRequest) -> Iterator[Pods]:
    """Makes pods on the node in a namespace of the test's own."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_"))[:55].strip("-")
    node.kubectl("create", "namespace", name)
    yield Pods(node, name)
    node.kubectl("delete", "namespace", name, "--timeout=30s")
