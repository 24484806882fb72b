"""`python -m bench`: run the sections, print the tables, write bench/RESULTS.md."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from bench import cases, peers
from bench.measure import Row, markdown, progress, show

SECTIONS = ("runtimes", "containers", "api", "memory", "logs", "images")
RESULTS = Path(__file__).parent / "RESULTS.md"


def busybox_root() -> bytes:
    """A root file system of Debian's static busybox, as a tar."""
    applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for directory in ("bin", "etc", "tmp", "root"):
            member = tarfile.TarInfo(directory)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
        archive.add("/bin/busybox", "bin/busybox")
        for applet in applets:
            if applet != "busybox":
                member = tarfile.TarInfo(f"bin/{applet}")
                member.type, member.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(member)
        for name, text in (("passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("group", "root:x:0:\n")):
            member = tarfile.TarInfo(f"etc/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return target.getvalue()


def measure(root: Path, sections: list[str], names: list[str], runs: int) -> dict[str, list[Row]]:
    """Start the engines, give each the image, run the sections."""
    results: dict[str, list[Row]] = {}
    with contextlib.ExitStack() as stack:
        engines = stack.enter_context(peers.windlass(root))
        for name, start in (("docker", peers.docker), ("podman", peers.podman)):
            if name in names:
                engines += stack.enter_context(start(root))
        image = busybox_root()
        stored = set()
        for engine in engines:
            if (place := engine.socket or engine.name) not in stored:
                stored.add(place)
                engine.run("import", "-", peers.IMAGE, stdin=image)
        distinct = [engine for engine in engines if engine.name != "windlass, docker client"]
        for section in sections:
            progress(f"== {section}")
            if section == "runtimes":
                results["Beside the bare runtimes"] = cases.runtimes(engines, root, runs)
            elif section == "containers":
                results["Containers from the command line"] = cases.containers(engines, runs)
            elif section == "api":
                results["Fifty containers from one program"] = cases.fifty_by_api(engines[0])
            elif section == "memory":
                results["Memory"] = cases.memory(distinct)
            elif section == "logs":
                results["Logs"] = cases.logs(distinct)
            elif section == "images":
                results["Images"] = cases.images(distinct, root, runs)
    return results


def main() -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="repetitions of each short work (default 15)")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION", help=", ".join(SECTIONS)
    )
    parser.add_argument(
        "--peers", nargs="*", default=["docker", "podman"], help="docker podman (default: both where installed)"
    )
    parser.add_argument("--directory", default="/dev/shm", help="a tmpfs for the data of all engines")
    parser.add_argument("--no-write", action="store_true", help="leave bench/RESULTS.md as it is")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("containers of all engines are started as root: run it as root")
    with tempfile.TemporaryDirectory(
        dir=arguments.directory, prefix="windlass-bench-", ignore_cleanup_errors=True
    ) as root:
        results = measure(Path(root), arguments.only, arguments.peers, arguments.runs)
    for title, rows in results.items():
        show(title, rows)
    if not arguments.no_write:
        write(results)
    return 0


def write(results: dict[str, list[Row]]) -> None:
    """Write the figures with the command that made them."""
    command = " ".join(["python -m bench", *sys.argv[1:]])
    head = (
        "# Measured beside the peers\n\n"
        f"`{command}` on {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, "
        f"Linux {platform.release().split('-')[0]}, all data on one tmpfs. "
        "Medians; in brackets the peer's figure divided by ours.\n\n"
    )
    RESULTS.write_text(head + "\n".join(markdown(title, rows) for title, rows in results.items()))


if __name__ == "__main__":
    raise SystemExit(main())
