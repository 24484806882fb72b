"""Debian's kernel and AppArmor parser, unpacked into a directory of their own. Nothing is installed on this host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

KERNEL = "linux-image-cloud-amd64"
APPARMOR = "apparmor"


class Unpacked(NamedTuple):
    """`tree` holds the packages' files; `kernel` is the image in it, `release` its version (`uname -r`)."""

    tree: Path
    kernel: Path
    release: str


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _kernel_package() -> str:
    """The package that the meta package stands for at present, such as linux-image-6.1.0-40-cloud-amd64."""
    match = re.search(r"^Depends: (linux-image-[^ ,]+)", _run("apt-cache", "show", "--no-all-versions", KERNEL), re.M)
    if not match:
        raise RuntimeError(f"{KERNEL} depends on no kernel")
    return match[1]


def _index_is_there() -> bool:
    try:
        return bool(_run("apt-cache", "show", KERNEL))
    except RuntimeError:
        return False


def unpack(cache: Path) -> Unpacked:
    """Download (once: `cache` keeps it) and unpack. RuntimeError says which command failed and how."""
    done = cache / "packages"
    if not (done / "complete").exists():
        if not _index_is_there():
            _run("apt-get", "update", "-qq")
        fresh = cache / f"packages.{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        _run("apt-get", "download", "-qq", _kernel_package(), APPARMOR, cwd=fresh)
        for package in fresh.glob("*.deb"):
            _run("dpkg-deb", "-x", str(package), str(fresh / "tree"))
            package.unlink()
        release = next((fresh / "tree/lib/modules").iterdir()).name
        _run("busybox", "depmod", "-b", str(fresh / "tree"), release)
        (fresh / "complete").touch()
        if not done.exists():
            fresh.rename(done)
        shutil.rmtree(fresh, ignore_errors=True)
    (kernel,) = (done / "tree/boot").glob("vmlinuz-*")
    return Unpacked(done / "tree", kernel, kernel.name.removeprefix("vmlinuz-"))
