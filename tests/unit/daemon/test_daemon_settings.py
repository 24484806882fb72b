"""Flags, daemon.json and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.daemon.arguments import help_text, parse_arguments
from windlass.daemon.options import OPTIONS, parse_bytes
from windlass.daemon.settings import RELOADABLE, Settings, load_settings
from windlass.errors import InvalidParameter


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """Settings from a daemon.json and flags."""

    def load(document: Any, *flags: str) -> Settings:
        path = tmp_path / "daemon.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return load_settings(parse_arguments([f"--config-file={path}", *flags]))

    return load


def refused(load: Any, *arguments: Any) -> str:
    with pytest.raises(InvalidParameter) as caught:
        load(*arguments)
    return str(caught.value)


def test_the_grammar_of_flags() -> None:
    words = ["--data-root=/a", "--exec-root", "/b", "-H", "unix:///c", "-Htcp://d", "-D", "--icc=false", "--tlsverify"]
    arguments = parse_arguments(words)
    assert arguments.values == {
        "data_root": "/a",
        "exec_root": "/b",
        "hosts": ["unix:///c", "tcp://d"],
        "debug": True,
        "icc": False,
        "tlsverify": True,
    }
    assert parse_arguments(["-D=false"]).values == {"debug": False}
    assert parse_arguments(["-l=warn", "-s", "vfs", "-Dlerror"]).values == {
        "log_level": "error",
        "storage_driver": "vfs",
        "debug": True,
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["--data-root"], "flag needs an argument: --data-root"),
        (["-H"], "flag needs an argument: -H"),
        (["extra"], '"windlass daemon" accepts no arguments: extra'),
        (["--"], '"windlass daemon" accepts no arguments: --'),
        (["--mtu=big"], 'invalid argument "big" for "--mtu" flag: strconv.ParseInt: parsing "big": invalid syntax'),
        (
            ["--icc=perhaps"],
            'invalid argument "perhaps" for "--icc" flag: strconv.ParseBool: parsing "perhaps": invalid syntax',
        ),
        (["--ip=here"], 'invalid argument "here" for "--ip" flag: invalid IP address: here'),
        (
            ["--default-ulimit=nofile"],
            'invalid argument "nofile" for "--default-ulimit" flag: invalid ulimit argument: nofile',
        ),
        (
            ["--add-runtime=x"],
            'invalid argument "x" for "--add-runtime" flag: invalid runtime \'x\': expected name=path',
        ),
    ],
)
def test_wrong_command_lines(words: list[str], message: str) -> None:
    assert refused(parse_arguments, words) == message


@given(st.lists(st.text(max_size=12) | st.sampled_from([f"--{option.flag}" for option in OPTIONS]), max_size=6))
def test_any_command_line_is_read_or_refused(words: list[str]) -> None:
    try:
        parse_arguments(words)
    except InvalidParameter:
        pass


def test_help_names_every_option_that_is_not_hidden() -> None:
    text = help_text()
    assert all(f"--{option.flag} " in text for option in OPTIONS if not option.hidden)
    assert "Examples:" in text


def test_every_option_is_a_field_of_the_settings() -> None:
    fields = set(Settings.__dataclass_fields__)
    assert {option.field for option in OPTIONS} - {""} <= fields
    assert set(RELOADABLE) <= fields
    assert fields - {option.field for option in OPTIONS} == {"ignored"}


def test_defaults() -> None:
    settings = Settings()
    assert settings.listen_on == ("unix:///run/windlass/windlass.sock",)
    assert settings.pid_path == Path("/run/windlass/windlass.pid")
    assert settings.log_driver == "json-file"
    assert settings.live_restore


def test_the_file_has_dockerds_keys(config: Any) -> None:
    settings = config(
        {
            "data-root": "/a",
            "hosts": ["unix:///b"],
            "labels": ["a=b"],
            "log-driver": "local",
            "log-opts": {"max-size": "1m"},
            "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 64, "Soft": 32}},
            "runtimes": {"kata": {"path": "/usr/bin/kata", "runtimeArgs": ["--debug"]}},
            "default-address-pools": [{"base": "10.9.0.0/16", "size": 24}],
            "default-shm-size": "128M",
            "features": {"buildkit": True},
            "proxies": {"http-proxy": "http://p:1", "no-proxy": "localhost"},
            "dns": ["1.1.1.1"],
            "host-gateway-ip": "10.0.0.1",
            "userland-proxy": False,
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
        }
    )
    assert settings.data_root == Path("/a")
    assert settings.hosts == ("unix:///b",)
    assert settings.log_opts == {"max-size": "1m"}
    assert settings.default_ulimits["nofile"] == {"Name": "nofile", "Hard": 64, "Soft": 32}
    assert settings.runtimes == {"kata": {"path": "/usr/bin/kata", "runtimeArgs": ["--debug"]}}
    assert settings.default_address_pools == ({"base": "10.9.0.0/16", "size": 24},)
    assert settings.default_shm_size == 128 << 20
    assert (settings.http_proxy, settings.no_proxy) == ("http://p:1", "localhost")
    assert settings.host_gateway_ips == ("10.0.0.1",)
    assert not settings.userland_proxy


def test_flags_and_file_do_not_contradict_each_other(config: Any) -> None:
    assert refused(config, {"debug": True, "labels": ["a=b"]}, "--debug", "--label=c=d").endswith(
        "the following directives are specified both as a flag and in the configuration file: "
        "debug: (from flag: true, from file: true), labels: (from flag: c=d, from file: [a=b])"
    )
    masked = refused(config, {"http-proxy": "http://u:secret@p"}, "--http-proxy=http://v:hidden@q")
    assert "secret" not in masked
    assert "hidden" not in masked
    merged = config({"runtimes": {"a": {"path": "/a"}}}, "--add-runtime=b=/b")
    assert merged.runtimes == {"a": {"path": "/a"}, "b": {"path": "/b"}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"colour": 1, "apple": 2}, "the following directives don't match any configuration option: apple, colour"),
        ({"mtu": "x"}, "json: cannot unmarshal string into Go struct field Config.mtu of type int"),
        ({"debug": 1}, "json: cannot unmarshal number into Go struct field Config.debug of type bool"),
        ({"labels": "a=b"}, "json: cannot unmarshal string into Go struct field Config.labels of type []string"),
        ({"log-opts": {"a": 1}}, "json: cannot unmarshal number into Go struct field Config.log-opts of type string"),
        ("[]", "json: cannot unmarshal the file into a configuration: it must be an object"),
        (
            {"host-gateway-ip": "1.1.1.1", "host-gateway-ips": []},
            "host-gateway-ip and host-gateway-ips must not both be specified in the config file",
        ),
    ],
)
def test_files_that_are_refused(config: Any, document: Any, message: str) -> None:
    assert refused(config, document).endswith(f"daemon.json: {message}")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--log-level=loud", "invalid logging level: loud"),
        ("--log-format=xml", "invalid log format: xml"),
        ("--label=a", "bad attribute format: a"),
        ("--dns-search=-a-", "-a- is not a valid domain"),
        ("--mtu=-1", "invalid default MTU: -1"),
        ("--max-concurrent-uploads=-2", "invalid max concurrent uploads: -2"),
        ("--registry-mirror=ftp://a", 'invalid mirror: unsupported scheme "ftp" in "ftp://a"'),
        ("--registry-mirror=https://u:p@a", "invalid mirror: username/password not allowed in URI"),
        ("--default-ipc-mode=host", 'IPC mode "host" is not supported as default value; use "shareable" or "private"'),
        ("--default-cgroupns-mode=x", 'invalid default cgroup namespace (x): use "host" or "private"'),
        ("--exec-opt=native.cgroupdriver=systemd", "this engine writes cgroups itself: use cgroupfs"),
        ("--authorization-plugin=opa", "authorization plugins are not supported"),
        ("--host=ftp://x", "invalid bind address format: ftp://x"),
    ],
)
def test_values_that_are_refused(flag: str, message: str) -> None:
    assert refused(load_settings, parse_arguments(["--config-file=/dev/null", flag])).endswith(message)


def test_labels_must_not_contradict_each_other(config: Any) -> None:
    assert refused(config, {"labels": ["a=1", "a=2"]}).endswith("conflict labels for a=2 and a=1")


def test_a_missing_file_is_an_error_only_when_it_was_named(tmp_path: Path) -> None:
    message = refused(load_settings, parse_arguments([f"--config-file={tmp_path}/none"]))
    assert message.endswith("no such file or directory")


def test_an_empty_file_and_byte_order_marks(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    for data in (b"", b" \n", b"\xef\xbb\xbf{}", '{"mtu": 9000}'.encode("utf-16")):
        path.write_bytes(data)
        load_settings(parse_arguments([f"--config-file={path}"]))


def test_options_that_do_nothing_say_why(config: Any) -> None:
    settings = config({"containerd": "/x", "swarm-raft-election-tick": 3}, "--raw-logs")
    assert [reason.split(" ")[0] for reason in settings.ignored] == [
        "containerd",
        "swarm-raft-election-tick",
        "raw-logs",
    ]


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("64", 64), ("64k", 65536), ("64 KiB", 65536), ("1.5g", 3 << 29), ("64MB", 64 << 20), ("1b", 1)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1x", "1 2", "0x10", "1e3"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("nofile=1024", {"Name": "nofile", "Hard": 1024, "Soft": 1024}),
        ("nofile=64:128", {"Name": "nofile", "Hard": 128, "Soft": 64}),
        ("core=-1", {"Name": "core", "Hard": -1, "Soft": -1}),
    ],
)
def test_ulimits(text: str, limit: dict[str, Any]) -> None:
    assert parse_arguments([f"--default-ulimit={text}"]).values["default_ulimits"] == {limit["Name"]: limit}
