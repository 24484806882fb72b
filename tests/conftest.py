"""Shared by every test: what needs root is skipped without it, and the run ends by looking for what it left behind."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

from support import leaks

# Nothing here asserts how long something takes: the machine may be busy.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

BEFORE = pytest.StashKey[leaks.Traces]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    needs_root = pytest.mark.skip(reason="needs root")
    for item in items:
        if "root" in item.keywords:
            item.add_marker(needs_root)


def _is_leader(config: pytest.Config) -> bool:
    """The process that sees the whole run: the only one, or xdist's controller."""
    return os.geteuid() == 0 and not hasattr(config, "workerinput")


def pytest_sessionstart(session: pytest.Session) -> None:
    leaks.mark_this_run()
    if _is_leader(session.config):
        session.config.stash[BEFORE] = leaks.look()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not _is_leader(session.config) or BEFORE not in session.config.stash:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    mark = os.environ[leaks.MARK]
    left = leaks.left_behind(session.config.stash[BEFORE], mark)
    if not left:
        reporter.write_line("\nnothing left behind: no process, mount, namespace, interface, table or cgroup")
        return
    for line in left:
        reporter.write_line(f"\nleft behind: {line}", red=True)
    if others := leaks.other_engines(mark):
        reporter.write_line(f"another engine runs here, so this may be its: {'; '.join(others)}", yellow=True)
        if not leaks.processes(mark):
            return
    session.exitstatus = pytest.ExitCode.TESTS_FAILED
