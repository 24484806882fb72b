"""What the flags of `run` become in the body of a create request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.cli.client import Client
from windlass.cli.commands import create_body as cb
from windlass.cli.commands.create_flags import RUN_FLAGS
from windlass.cli.flags import Command, parse

RUN = Command("run", "IMAGE", "Run", lambda options: 0, RUN_FLAGS, 1, None, interspersed=False)


def nobody() -> Client:
    raise AssertionError


def body(*words: str) -> dict[str, Any]:
    return cb.create_body(parse(RUN, [*words, "busybox", "true"], nobody))


@pytest.mark.parametrize(
    ("spec", "exposed", "bindings"),
    [
        ("80", ["80/tcp"], {"80/tcp": [("", "")]}),
        ("8080:80", ["80/tcp"], {"80/tcp": [("", "8080")]}),
        ("127.0.0.1::53/udp", ["53/udp"], {"53/udp": [("127.0.0.1", "")]}),
        ("[::1]:8080:80", ["80/tcp"], {"80/tcp": [("::1", "8080")]}),
        ("8000-8001:80-81", ["80/tcp", "81/tcp"], {"80/tcp": [("", "8000")], "81/tcp": [("", "8001")]}),
        ("8000-8010:80", ["80/tcp"], {"80/tcp": [("", "8000-8010")]}),
        ("target=80,published=8080,protocol=udp", ["80/udp"], {"80/udp": [("", "8080")]}),
    ],
)
def test_published_ports(spec: str, exposed: list[str], bindings: dict[str, list[tuple[str, str]]]) -> None:
    ports, bound = cb.parse_ports([spec])
    assert sorted(ports) == exposed
    assert {port: [(b["HostIp"], b["HostPort"]) for b in given] for port, given in bound.items()} == bindings


@pytest.mark.parametrize("spec", ["", "x", "80:80/quic", "70000", "80-79", "1-2:1-3", "1:2:3:4x"])
def test_wrong_ports(spec: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        cb.parse_ports([spec])


@given(st.text(max_size=40))
def test_any_port_text_is_parsed_or_refused(spec: str) -> None:
    try:
        cb.parse_ports([spec])
    except ValueError:
        pass


@given(st.text(max_size=60))
def test_any_mount_text_is_parsed_or_refused(spec: str) -> None:
    try:
        cb.mount(spec)
    except ValueError:
        pass


def test_mounts() -> None:
    assert cb.mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave") == {
        "Type": "bind",
        "Source": "/a",
        "Target": "/b",
        "ReadOnly": True,
        "BindOptions": {"Propagation": "rslave"},
    }
    assert cb.mount("type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1770")["TmpfsOptions"] == {
        "SizeBytes": 64 << 20,
        "Mode": 0o1770,
    }
    assert cb.mount('"type=volume","src=data","dst=/d","volume-opt=o=a,b"')["VolumeOptions"] == {
        "DriverConfig": {"Options": {"o": "a,b"}}
    }


def test_limits_and_security() -> None:
    found = body(
        "-m", "64m", "--cpus", "0.5", "--pids-limit", "50", "--read-only", "--cap-drop", "ALL", "-u", "1000:1000"
    )
    host = found["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 500_000_000, 50)
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert found["User"] == "1000:1000"


def test_standard_streams() -> None:
    assert [body("-d", "-i")[f"Attach{name}"] for name in ("Stdin", "Stdout", "Stderr")] == [False, False, False]
    assert [body("-i")[f"Attach{name}"] for name in ("Stdin", "Stdout", "Stderr")] == [True, True, True]
    assert [body("-a", "stdout")[f"Attach{name}"] for name in ("Stdin", "Stdout", "Stderr")] == [False, True, False]
    assert body("-i")["StdinOnce"] is True


def test_environment_comes_from_files_and_ourselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "yes")
    monkeypatch.delenv("NOT_HERE", raising=False)
    file = tmp_path / "env"
    file.write_text("# comment\nA=1\n\nFROM_HERE\n")
    assert cb.environment(["B=2", "NOT_HERE"], [str(file)]) == ["A=1", "FROM_HERE=yes", "B=2"]
    file.write_text("bad name=1\n")
    with pytest.raises(ValueError, match="contains whitespaces"):
        cb.environment([], [str(file)])


def test_devices_limits_and_restart() -> None:
    assert cb.device("/dev/fuse:/dev/f:rw") == {
        "PathOnHost": "/dev/fuse",
        "PathInContainer": "/dev/f",
        "CgroupPermissions": "rw",
    }
    assert cb.device("/dev/fuse:r")["PathInContainer"] == "/dev/fuse"
    assert cb.ulimit("nofile=10:20") == {"Name": "nofile", "Soft": 10, "Hard": 20}
    with pytest.raises(ValueError, match="soft limit must be less"):
        cb.ulimit("nofile=20:10")
    assert cb.restart_policy("on-failure:3") == {"Name": "on-failure", "MaximumRetryCount": 3}


def test_a_seccomp_profile_is_read_here(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    profile.write_text("{}")
    assert cb.security_options([f"seccomp={profile}", "seccomp=unconfined", "no-new-privileges"]) == [
        "seccomp={}",
        "seccomp=unconfined",
        "no-new-privileges",
    ]
    with pytest.raises(ValueError, match="opening seccomp profile"):
        cb.security_options(["seccomp=/nowhere"])
