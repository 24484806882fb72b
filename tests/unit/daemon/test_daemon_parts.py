"""Log lines, notifications, locks and PID files."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.daemon.checks import PidFile, RootLock, check_host, check_kernel
from windlass.daemon.logs import JSONFormatter, LogfmtFormatter
from windlass.daemon.notify import Notifier
from windlass.errors import SystemFailure


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("windlass.engine", logging.WARNING, "", 0, message, (), None)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    if fields:
        made.fields = fields
    return made


def test_log_lines_are_pairs() -> None:
    line = LogfmtFormatter().format(record("it is late", container="abc", name="a b"))
    assert line == (
        'time=2023-11-14T22:13:20.250000000Z level=warning msg="it is late" room=engine container=abc name="a b"'
    )


@given(st.text())
def test_a_message_cannot_forge_a_line(text: str) -> None:
    assert len(LogfmtFormatter().format(record(text, name=text)).splitlines()) == 1


def test_json_log_lines() -> None:
    assert json.loads(JSONFormatter().format(record("x", n=1)))["n"] == 1


def test_a_stack_follows_its_line() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        made = logging.LogRecord("x", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    first, *rest = LogfmtFormatter().format(made).splitlines()
    assert first.endswith("error=\"ValueError('why')\"")
    assert all(line.startswith("    ") for line in rest)


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    address = f"@windlass-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0", 1) if abstract else address)
        notifier = Notifier({"NOTIFY_SOCKET": address})
        notifier.ready()
        notifier.reloading()
        notifier.stopping()
        messages = [manager.recv(1000).decode().splitlines()[0] for _ in range(3)]
    assert messages == ["READY=1", "RELOADING=1", "STOPPING=1"]
    notifier.ready()  # the manager is gone: nothing happens
    Notifier({}).ready()


def test_a_root_has_one_daemon(tmp_path: Path) -> None:
    lock = RootLock(tmp_path)
    with pytest.raises(SystemFailure, match=f"in use by another daemon \\(process {os.getpid()}\\)"):
        RootLock(tmp_path)
    lock.release()
    RootLock(tmp_path).release()


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = "\n".join(
        (
            "import os, pathlib",
            "from windlass.daemon.checks import RootLock",
            f"lock = RootLock(pathlib.Path({str(tmp_path)!r}))",
            "os._exit(9)",
        )
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    RootLock(tmp_path).release()


def test_pid_files(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.pid"
    written = PidFile(path)
    assert int(path.read_text()) == os.getpid()
    written.remove()
    assert not path.exists()
    path.write_text("1\n")  # alive, but no daemon of ours
    stale = PidFile(path)
    path.write_text("12345\n")
    stale.remove()  # taken over by somebody else meanwhile
    assert path.exists()


def test_old_kernels_are_refused() -> None:
    check_kernel("6.1.0-44-amd64")
    check_kernel("5.12")
    with pytest.raises(SystemFailure, match=r"kernel 5\.10\.0 is too old"):
        check_kernel("5.10.0")


def test_it_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemFailure, match="needs to be started as root"):
        check_host()
