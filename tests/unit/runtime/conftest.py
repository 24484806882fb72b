"""Fixtures of the live runtime tests: a private exec-root, a launcher, and a check that nothing is left."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from runtime_bundles import Bundle, make_rootfs

from windlass.kernel.cgroups import open_cgroup
from windlass.runtime.client import Launcher


@pytest.fixture(scope="session")
def rootfs() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="windlass-rootfs-"))
    yield make_rootfs(folder / "rootfs")
    shutil.rmtree(folder)


@pytest.fixture
def exec_root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="windlass-exec-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["own", "crun", "runc"])
def runtime(request: pytest.FixtureRequest) -> str | None:
    """Which runtime makes the containers."""
    if request.param == "own":
        return None
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture
def new_bundle(exec_root: Path, rootfs: Path) -> Iterator[Callable[..., Bundle]]:
    """Makes bundles; afterwards none of them may have left a process or a cgroup."""
    bundles: list[Bundle] = []

    def make(runtime: str | None = None) -> Bundle:
        bundles.append(Bundle(exec_root, rootfs, runtime=runtime))
        return bundles[-1]

    yield make
    left = []
    for bundle in bundles:
        cgroup = open_cgroup(bundle.cgroup)
        if cgroup.exists():
            left.append(bundle.cgroup)
            cgroup.kill()
            cgroup.remove()
    open_cgroup(os.path.dirname(bundles[0].cgroup)).discard() if bundles else None
    assert not left, f"cgroups were left behind: {left}"


@pytest_asyncio.fixture
async def launcher(exec_root: Path) -> AsyncIterator[Launcher]:
    started = await Launcher.start(exec_root)
    yield started
    await started.close()
