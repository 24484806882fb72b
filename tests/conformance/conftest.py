"""Kubernetes' conformance tests as scenarios of our own, keyed by their names; the run ends with a score.

    @pytest.mark.conformance("[sig-api-machinery] server version should find the server version [Conformance]")

A scenario does what the test of that name checks, with the specification as oracle. `names.txt` has the names of v1.36,
so that a misspelt one is an error.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster import PrivateCluster
from support.kubeapi import Api

NAMES = frozenset((Path(__file__).parent / "names.txt").read_text().splitlines())
_outcomes: dict[str, bool] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("conformance"):
            unknown = [name for name in mark.args if name not in NAMES]
            if unknown:
                raise pytest.UsageError(f"{item.nodeid}: no conformance test has the name {unknown[0]!r}")
            item.user_properties += [("conformance", name) for name in mark.args]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.failed:
        for key, name in report.user_properties:
            if key == "conformance":
                _outcomes[str(name)] = _outcomes.get(str(name), True) and report.passed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _outcomes:
        passed = sum(_outcomes.values())
        terminalreporter.write_line(f"conformance: {passed} passed of {len(NAMES)} ({len(_outcomes)} have scenarios)")


@pytest.fixture(scope="session")
def cluster() -> Iterator[PrivateCluster]:
    """One server for all scenarios."""
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


@pytest.fixture(scope="session")
def admin(cluster: PrivateCluster) -> Iterator[Api]:
    """The API as the administrator."""
    with Api(cluster) as api:
        yield api


@pytest.fixture
def api(admin: Api) -> Iterator[Api]:
    """The same, with a namespace of the scenario's own."""
    admin.namespace = admin.make_namespace("scenario-")
    yield admin
    admin.delete(f"/api/v1/namespaces/{admin.namespace}")
