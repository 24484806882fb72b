"""Is anything of ours left on the machine? The suite's last question.

Processes are ours when they carry the mark that this test run put into its environment. Everything else (mounts, links,
nftables tables, cgroups, network namespaces) is compared with what stood there before the first test.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from typing import NamedTuple

MARK = "WINDLASS_TEST_RUN"


class Traces(NamedTuple):
    """What a container engine could leave behind."""

    mounts: frozenset[str]
    links: frozenset[str]
    tables: frozenset[str]
    cgroups: frozenset[str]
    namespaces: frozenset[str]

    def minus(self, before: Traces) -> list[str]:
        """Readable lines for what is here and was not before."""
        return [
            f"{kind[:-1]} {name}"
            for kind, now, old in zip(self._fields, self, before, strict=True)
            for name in sorted(now - old)
        ]


def mark_this_run() -> str:
    """Put a mark into the environment that all processes of this run inherit."""
    return os.environ.setdefault(MARK, uuid.uuid4().hex)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _links() -> Iterator[str]:
    for link in json.loads(_output("ip", "-j", "link", "show") or "[]"):
        yield link["ifname"]


def _tables() -> Iterator[str]:
    for item in json.loads(_output("nft", "-j", "list", "tables") or '{"nftables": []}')["nftables"]:
        if table := item.get("table"):
            yield f"{table['family']} {table['name']}"


def _cgroups() -> Iterator[str]:
    for directory, subdirectories, _ in os.walk("/sys/fs/cgroup"):
        yield directory
        # What comes and goes below a foreign group is not ours to look at; ours are at the top of a hierarchy.
        if directory.count("/") > (5 if "windlass" in directory else 4):
            subdirectories.clear()


def _namespaces() -> Iterator[str]:
    for line in _output("lsns", "--noheadings", "--type", "net", "--output", "NS,COMMAND").splitlines():
        yield line.strip()


def _mounts() -> Iterator[str]:
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            yield line.split(" ")[4]


def look() -> Traces:
    """What stands on the machine now."""
    return Traces(
        mounts=frozenset(_mounts()),
        links=frozenset(_links()),
        tables=frozenset(_tables()),
        cgroups=frozenset(_cgroups()),
        namespaces=frozenset(_namespaces()),
    )


def _environment(pid: str) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _ancestors() -> set[str]:
    found, pid = set(), str(os.getpid())
    while pid not in {"0", ""}:
        found.add(pid)
        try:
            with open(f"/proc/{pid}/stat") as file:
                pid = file.read().rpartition(")")[2].split()[1]
        except OSError:
            break
    return found


def processes(mark: str) -> list[str]:
    """Processes of this run that still live, as readable lines."""
    wanted = f"{MARK}={mark}".encode()
    own = _ancestors()
    return [
        f"process {pid} {_command(pid)}"
        for pid in os.listdir("/proc")
        if pid.isdigit() and pid not in own and wanted in _environment(pid).split(b"\0")
    ]


def other_engines(mark: str) -> list[str]:
    """Engines on this machine that this run did not start: with them about, shared names prove nothing."""
    wanted = f"{MARK}={mark}".encode()
    own = _ancestors()
    return [
        f"{pid} {command}"
        for pid in os.listdir("/proc")
        if pid.isdigit()
        and pid not in own
        and "windlass" in (command := _command(pid))
        and wanted not in _environment(pid)
    ]


def left_behind(before: Traces, mark: str, *, patience: float = 10.0) -> list[str]:
    """What this run left, after the kernel had `patience` seconds to finish what it frees in the background."""
    deadline = time.monotonic() + patience
    while (left := processes(mark) + look().minus(before)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left
