"""Which files the guest gets: the same paths as on this host, so that any command of this host runs there unchanged.

base       interpreter, standard library, installed packages, shared libraries, kernel modules, busybox; kept
sources    this repository's src and tests, and what a caller adds; packed anew for each machine
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.cpio import CpioWriter
from harness.packages import Unpacked

REPOSITORY = Path(__file__).resolve().parents[3]

_STDLIB_UNWANTED = re.compile(
    r"^(test|idlelib|lib2to3|tkinter|turtledemo|ensurepip|pydoc_data|distutils|site-packages|dist-packages|config-.*)$"
)
_PACKAGES_UNWANTED = re.compile(
    r"^(mypy|mypyc|.*__mypyc.*|ast_serialize|librt|ruff|pip|setuptools|pkg_resources|_distutils_hack|grimp|importlinter"
    r"|distutils-precedence\.pth|import_linter.*|mypy-.*|pip-.*|setuptools-.*|ruff-.*)$"
)
# Directories of the kernel's modules that containers may need, and single ones for tests.
_MODULES = (
    *(f"kernel/net/{name}" for name in ("802", "8021q", "bridge", "core", "ipv4", "ipv6", "llc", "netfilter", "sched")),
    *("kernel/net/unix", "kernel/net/xfrm", "kernel/lib", "kernel/crypto", "kernel/arch/x86/crypto", "kernel/block"),
    *("kernel/fs/overlayfs", "kernel/fs/fuse", "kernel/fs/nls", "kernel/drivers/block"),
    *(f"kernel/drivers/net/{name}" for name in ("veth.ko", "vxlan", "macvlan.ko", "ipvlan", "dummy.ko", "tun.ko")),
)
_PROGRAMS = ("busybox", "nft", "ip", "lsns")
_LIBRARIES = ("libnftables.so.1", "libnss_files.so.2", "libgcc_s.so.1")


def _files(top: Path, unwanted: re.Pattern[str] | None = None) -> Iterator[Path]:
    """All files and symbolic links below `top`, compiled files with optimisation and static libraries left out."""
    for directory, names, files in os.walk(top):
        names[:] = sorted(name for name in names if not (unwanted and directory == str(top) and unwanted.match(name)))
        for name in sorted(files):
            if name.endswith((".opt-1.pyc", ".opt-2.pyc", ".a")) or name.startswith("_tkinter."):
                continue
            if unwanted and directory == str(top) and unwanted.match(name):
                continue
            yield Path(directory, name)


def _libraries(files: Iterable[Path]) -> set[Path]:
    """The shared libraries that programs and extension modules need, by the loader's own word."""
    found: set[Path] = set()
    names = [str(file) for file in files]
    # ldd's text for a static program goes to its error output, with an exit status that means nothing here.
    for start in range(0, len(names), 200):
        done = subprocess.run(["ldd", *names[start : start + 200]], capture_output=True, text=True, check=False)
        found.update(Path(match) for match in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", done.stdout, re.M))
    return found


def _python_files() -> Iterator[Path]:
    stdlib = Path(sysconfig.get_path("stdlib"))
    yield from _files(stdlib, _STDLIB_UNWANTED)
    yield Path(sys.executable).resolve()
    if sys.prefix != sys.base_prefix:
        yield Path(sys.prefix, "pyvenv.cfg")
    for name in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        yield from _files(Path(name), _PACKAGES_UNWANTED)
    for script in Path(sys.executable).parent.iterdir():
        if script.is_symlink() or script.name in {"windlass", "wl", "pytest"}:
            yield script


def _system_files() -> Iterator[Path]:
    for name in _PROGRAMS:
        if path := shutil.which(name):
            yield Path(path).resolve()
    listing = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    for name in _LIBRARIES:
        if match := re.search(rf"^\s*{re.escape(name)} .*=> (\S+)$", listing, re.M):
            yield Path(match[1])


def base_files() -> list[Path]:
    """What of this host goes into the base, but for the shared libraries that it needs."""
    return [*_python_files(), *_system_files()]


def _needed_libraries(files: list[Path]) -> list[Path]:
    binaries = [file for file in files if not file.is_symlink() and (".so" in file.name or os.access(file, os.X_OK))]
    return sorted(_libraries(file for file in binaries if _is_elf(file)) - set(files))


def _is_elf(file: Path) -> bool:
    with file.open("rb") as data:
        return data.read(4) == b"\x7fELF"


def _with_links(writer: CpioWriter, path: Path) -> None:
    """Add a file under its path, with the symbolic links that lead to it: /lib → usr/lib, libx.so.1 → libx.so.1.2."""
    for parent in reversed(path.parents):
        if parent.is_symlink():
            writer.symlink(str(parent), os.readlink(parent))
            _with_links(writer, parent.resolve() / path.relative_to(parent))
            return
    if path.is_symlink():
        target = os.readlink(path)
        writer.symlink(str(path), target)
        _with_links(writer, path.parent / target)
    elif path.is_file():
        writer.file(str(path.resolve() if ".." in path.parts else path), path)


def build_base(cache: Path, unpacked: Unpacked) -> Path:
    """The base archive, made once for each state of the interpreter and its packages."""
    files = base_files()
    digest = hashlib.sha256(f"{unpacked.release} {Path(__file__).stat().st_mtime_ns}".encode())
    for file in files:
        info = file.lstat()
        digest.update(f"{file}\0{info.st_size}\0{info.st_mtime_ns}\n".encode())
    archive = cache / f"base-{digest.hexdigest()[:16]}.cpio"
    if archive.exists():
        return archive
    for old in cache.glob("base-*.cpio"):
        old.unlink(missing_ok=True)
    fresh = cache / f"base.{os.getpid()}"
    with fresh.open("wb") as file:
        writer = CpioWriter(file)
        for directory in ("dev", "proc", "sys", "run", "tmp", "root", "var/lib", "var/tmp", "mnt"):
            writer.directory(directory, 0o1777 if directory.endswith("tmp") else 0o755)
        writer.device("dev/console", 0o600, 5, 1)
        writer.device("dev/null", 0o666, 1, 3)
        for name in ("bin", "sbin", "lib", "lib64"):
            writer.directory(f"usr/{name}")
            writer.symlink(name, f"usr/{name}")
        for path in [*files, *_needed_libraries(files)]:
            _with_links(writer, path)
        _modules(writer, unpacked)
        _etc(writer)
        writer.close()
    fresh.rename(archive)
    return archive


def _modules(writer: CpioWriter, unpacked: Unpacked) -> None:
    top = unpacked.tree / "lib/modules" / unpacked.release
    for wanted in _MODULES:
        source = top / wanted
        for path in [source] if source.is_file() else _files(source):
            writer.file(f"usr/lib/modules/{unpacked.release}/{path.relative_to(top)}", path)
    for path in top.glob("modules.*"):
        writer.file(f"usr/lib/modules/{unpacked.release}/{path.name}", path)
    for path in (unpacked.tree / "sbin/apparmor_parser", *_files(unpacked.tree / "etc/apparmor.d")):
        writer.file(
            f"usr/{path.relative_to(unpacked.tree)}" if "sbin" in path.parts else str(path.relative_to(unpacked.tree)),
            path,
        )


def _etc(writer: CpioWriter) -> None:
    writer.data("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    writer.data("etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    writer.data("etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n")
    writer.data("etc/hostname", b"vm\n")
    writer.data("etc/resolv.conf", b"")
    writer.data("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files\n")
    for name in (
        "sh",
        "mount",
        "umount",
        "modprobe",
        "cat",
        "sleep",
        "true",
        "ls",
        "ps",
        "tar",
        "dmesg",
        "echo",
        "env",
    ):
        writer.symlink(f"usr/bin/{name}", "/usr/bin/busybox")
    writer.symlink("usr/sbin/modprobe", "/usr/bin/busybox")


def program_files(names: Iterable[str]) -> list[Path]:
    """Programs of this host, found by name, and the libraries that they need. FileNotFoundError for a missing one."""
    found = []
    for name in names:
        path = shutil.which(name)
        if path is None:
            raise FileNotFoundError(f"{name} is not installed here")
        found.append(Path(path))
    return [*found, *_needed_libraries([path.resolve() for path in found])]


def pack_sources(target: Path, *, extra: Iterable[Path], init: bytes, job: bytes) -> None:
    """The archive with our sources, `extra` files or directories of this host, and process 1's program."""
    with target.open("wb") as file:
        writer = CpioWriter(file)
        for name in ("src", "tests", "scripts", "bench"):
            for path in _files(REPOSITORY / name):
                _with_links(writer, path)
        for name in ("pyproject.toml", "README.md"):
            writer.file(str(REPOSITORY / name), REPOSITORY / name)
        for top in extra:
            for path in _files(top) if top.is_dir() and not top.is_symlink() else [top]:
                _with_links(writer, path)
        writer.data("init", init, 0o755)
        writer.data("job.json", job)
        writer.close()
