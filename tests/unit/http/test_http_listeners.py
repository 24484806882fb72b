"""Sockets are made with their rights from the first moment, and never taken from somebody who uses them."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from windlass.http.listeners import bind_tcp, bind_unix, inherited


def test_a_unix_socket_has_its_mode_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    listener = bind_unix(str(path), mode=0o660, gid=os.getgid())
    with listener.sock:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert os.umask(0o022) == os.umask(0o022) == 0o022
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        listener.unlink()
        assert not path.exists()


def test_the_default_mode_is_private(tmp_path: Path) -> None:
    with bind_unix(str(tmp_path / "a.sock")).sock:
        assert stat.S_IMODE((tmp_path / "a.sock").stat().st_mode) == 0o600


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    first = bind_unix(path)
    with pytest.raises(OSError, match="address already in use") as caught:
        bind_unix(path)
    assert caught.value.errno == errno.EADDRINUSE
    first.sock.close()
    second = bind_unix(path)
    first.unlink()  # the name is not ours any more
    assert os.path.exists(path)
    second.sock.close()


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(FileExistsError):
        bind_unix(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"


def test_a_path_longer_than_a_socket_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    listener = bind_unix(str(deep / "a.sock"))
    with listener.sock:
        assert stat.S_ISSOCK((deep / "a.sock").stat().st_mode)
        listener.unlink()
        assert not (deep / "a.sock").exists()


def test_tcp_on_all_addresses_of_a_name() -> None:
    sockets = bind_tcp("localhost", 0)
    try:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        with pytest.raises(OSError, match="in use"):
            bind_tcp("127.0.0.1", sockets[0].getsockname()[1])
    finally:
        for sock in sockets:
            sock.close()


def test_sockets_that_systemd_hands_over() -> None:
    """In a process of its own, since descriptor 3 is where sd_listen_fds(3) puts the first."""
    script = """
import os, socket
from windlass.http.listeners import inherited
a = socket.create_server(("127.0.0.1", 0)); os.dup2(a.fileno(), 3, inheritable=True)
assert inherited({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == []
assert inherited({}) == []
(found,) = inherited({"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "docker.socket"})
assert (found.name, found.fd) == ("docker.socket", 3)
assert found.sock.getsockname() == a.getsockname()
assert not os.get_inheritable(3)
print("fine")
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.stdout == "fine\n", run.stderr


def test_nothing_is_inherited_without_activation() -> None:
    assert inherited({"LISTEN_FDS": "2"}) == []
