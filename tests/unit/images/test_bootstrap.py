"""Base images from Debian's packages."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from windlass.errors import NotFound
from windlass.images import bootstrap


async def test_busybox_is_whole_and_always_the_same() -> None:
    first, changes = await bootstrap.build("busybox")
    second, _ = await bootstrap.build("busybox")
    assert first.read() == second.read()
    assert changes == ['CMD ["sh"]']
    first.seek(0)
    with tarfile.open(fileobj=first) as archive:
        members = {member.name: member for member in archive}
    assert members["bin/busybox"].mode == 0o755
    assert members["bin/sh"].linkname == "busybox"
    assert members["tmp"].mode == 0o1777
    assert members["etc/passwd"].isreg()


def test_a_program_that_needs_libraries_is_not_taken_for_a_static_one(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n" + "#" * 100)
    assert not bootstrap._is_static(str(script))
    assert not bootstrap._is_static("/bin/ls")
    assert bootstrap._is_static("/bin/busybox")


async def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(NotFound, match="one of busybox, debian"):
        await bootstrap.build("plan9")
