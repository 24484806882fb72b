"""Tests of this repository, run in the guest: which passed, which did not, and why."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

from harness.machine import VmFailed, VmResult, run_in_vm

_REPORT = "/tmp/junit.xml"
# Plugins that these tests do not use and whose import takes seconds in an emulated processor.
_PLUGINS = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:xdist")


class VmTests(NamedTuple):
    """Names of tests (`directory/file::name[parameters]`); `failed` and `skipped` with the reason of each."""

    passed: tuple[str, ...]
    failed: dict[str, str]
    skipped: dict[str, str]
    result: VmResult

    def of(self, file: str) -> VmTests:
        """The tests of one file only."""
        start = file.removesuffix(".py")
        return VmTests(
            tuple(name for name in self.passed if name.startswith(start)),
            {name: reason for name, reason in self.failed.items() if name.startswith(start)},
            {name: reason for name, reason in self.skipped.items() if name.startswith(start)},
            self.result,
        )


def parse_report(xml: bytes, result: VmResult) -> VmTests:
    """pytest's JUnit report by outcome."""
    passed: list[str] = []
    failed: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for case in ElementTree.fromstring(xml).iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')}::{case.get('name')}"
        for kind, found in (("failure", failed), ("error", failed), ("skipped", skipped)):
            if (element := case.find(kind)) is not None:
                found[name] = element.get("message") or (element.text or "").strip()
                break
        else:
            passed.append(name)
    return VmTests(tuple(passed), failed, skipped, result)


def pytest_in_vm(selection: Sequence[str], timeout: float = 180.0, **machine: Any) -> VmTests:
    """Run a selection of this repository's tests in a fresh machine; `machine` is what `run_in_vm` takes besides.

    Raises `VmFailed`, with all that the machine said, when pytest came to no report.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-rs", *_PLUGINS, f"--junitxml={_REPORT}", *selection]
    result = run_in_vm(command, timeout, collect=[_REPORT], **machine)
    if _REPORT not in result.files:
        raise VmFailed(f"pytest wrote no report (exit code {result.exit_code}):\n{result.output}\n{result.console}")
    return parse_report(result.files[_REPORT], result)
