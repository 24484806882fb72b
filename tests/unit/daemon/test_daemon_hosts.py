"""Who may reach the API."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from support import certificates
from windlass.daemon.hosts import Address, check_exposure, close_listeners, open_listeners, parse_host
from windlass.daemon.settings import Settings
from windlass.errors import InvalidParameter, SystemFailure


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///run/a.sock", Address("unix", path="/run/a.sock")),
        ("/run/a.sock", Address("unix", path="/run/a.sock")),
        ("tcp://1.2.3.4:99", Address("tcp", host="1.2.3.4", port=99)),
        ("tcp://1.2.3.4", Address("tcp", host="1.2.3.4", port=2376)),
        ("tcp://:99", Address("tcp", host="", port=99)),
        ("tcp://[::1]:99", Address("tcp", host="::1", port=99)),
        ("1.2.3.4:99", Address("tcp", host="1.2.3.4", port=99)),
        ("fd://", Address("fd")),
        ("fd://docker.socket", Address("fd", path="docker.socket")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_host(text, tls=True) == address


def test_without_tls_the_port_is_another() -> None:
    assert parse_host("tcp://localhost", tls=False).port == 2375


@pytest.mark.parametrize("text", ["unix://", "http://x", "tcp://a:b", "tcp://a:99999", "tcp://::1:2"])
def test_addresses_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid bind address"):
        parse_host(text, tls=True)


@pytest.mark.parametrize(
    ("host", "settings", "allowed"),
    [
        ("0.0.0.0", Settings(), False),
        ("0.0.0.0", Settings(tls=False), False),
        ("0.0.0.0", Settings(tls=True), False),
        ("0.0.0.0", Settings(tlsverify=True), True),
        ("", Settings(tls=False), False),
        ("example.org", Settings(tls=False), False),
        ("127.0.0.1", Settings(), False),
        ("127.0.0.1", Settings(tls=False), True),
        ("::1", Settings(tls=False), True),
        ("localhost", Settings(tls=True), True),
    ],
)
def test_root_is_not_given_to_the_network(host: str, settings: Settings, allowed: bool) -> None:
    address = Address("tcp", host=host, port=1)
    if allowed:
        check_exposure(address, settings)
    else:
        with pytest.raises(InvalidParameter, match="root"):
            check_exposure(address, settings)


def test_unix_sockets_are_for_root_or_a_group(tmp_path: Path) -> None:
    private = Settings(hosts=(f"unix://{tmp_path}/deep/a.sock",))
    listeners = open_listeners(private, {})
    path = tmp_path / "deep" / "a.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    close_listeners(listeners)
    assert not path.exists()
    listeners = open_listeners(Settings(hosts=(f"unix://{path}",), group=str(os.getgid())), {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    close_listeners(listeners)
    with pytest.raises(InvalidParameter, match="group no-such-group not found"):
        open_listeners(Settings(hosts=(f"unix://{path}",), group="no-such-group"), {})


def test_all_sockets_or_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    settings = Settings(hosts=(f"unix://{tmp_path}/a.sock", f"unix://{tmp_path}/file"))
    with pytest.raises(SystemFailure, match="failed to listen on unix://"):
        open_listeners(settings, {})
    assert os.listdir(tmp_path) == ["file"]


def test_tls_needs_readable_files(tmp_path: Path) -> None:
    host = ("tcp://127.0.0.1:0",)
    with pytest.raises(InvalidParameter, match="--tlscert"):
        open_listeners(Settings(hosts=host, tlsverify=True), {})
    with pytest.raises(InvalidParameter, match="could not load X509 key pair"):
        open_listeners(Settings(hosts=host, tlsverify=True, tlscert="/none", tlskey="/none"), {})
    certificates.make(tmp_path)
    files = {"tlscert": f"{tmp_path}/server-cert.pem", "tlskey": f"{tmp_path}/server-key.pem"}
    with pytest.raises(InvalidParameter, match="--tlscacert"):
        open_listeners(Settings(hosts=host, tlsverify=True, **files), {})
    listeners = open_listeners(Settings(hosts=host, tlsverify=True, tlscacert=f"{tmp_path}/ca.pem", **files), {})
    assert listeners[0].tls is not None
    close_listeners(listeners)


def test_without_socket_activation_there_is_nothing_to_take_over() -> None:
    with pytest.raises(InvalidParameter, match="socket activation"):
        open_listeners(Settings(hosts=("fd://",)), {})
