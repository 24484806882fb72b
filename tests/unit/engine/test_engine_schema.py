"""Documents from clients, typed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.engine.shapes import decode_create, decode_exec, decode_update
from windlass.errors import InvalidParameter


def test_an_empty_request_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="config cannot be empty in order to create a container"):
        decode_create({})


def test_absent_fields_have_dockerds_zero_values() -> None:
    config, host_config, endpoints = decode_create({"Image": "busybox"})
    assert list(config) == [
        "Hostname", "Domainname", "User", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin",
        "StdinOnce", "Env", "Cmd", "Image", "Volumes", "WorkingDir", "Entrypoint", "OnBuild", "Labels",
    ]  # fmt: skip
    assert config["Env"] is None and config["Labels"] == {} and config["Volumes"] == {}
    assert host_config["Binds"] is None and host_config["Dns"] == [] and host_config["ConsoleSize"] == [0, 0]
    assert host_config["RestartPolicy"] == {"Name": "", "MaximumRetryCount": 0}
    assert "Mounts" not in host_config and "Init" not in host_config
    assert endpoints == {}


def test_two_requests_share_no_default() -> None:
    first, second = decode_create({"Image": "a"})[1], decode_create({"Image": "a"})[1]
    first["Dns"].append("1.1.1.1")
    first["RestartPolicy"]["Name"] = "always"
    assert second["Dns"] == [] and second["RestartPolicy"]["Name"] == ""


def test_a_command_may_be_one_string() -> None:
    config, _, _ = decode_create({"Image": "a", "Cmd": "true", "Entrypoint": ["sh", "-c"]})
    assert config["Cmd"] == ["true"]
    assert config["Entrypoint"] == ["sh", "-c"]


def test_unknown_fields_are_dropped() -> None:
    config, host_config, _ = decode_create({"Image": "a", "Nope": 1, "HostConfig": {"Nope": 2}})
    assert "Nope" not in config and "Nope" not in host_config


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"Image": 5},
            "json: cannot unmarshal number into Go struct field CreateRequest.Image of type string",
        ),
        (
            {"Image": "a", "HostConfig": {"Memory": "64m"}},
            "json: cannot unmarshal string into Go struct field CreateRequest.HostConfig.Memory of type int64",
        ),
        (
            {"Image": "a", "HostConfig": {"Memory": 1.5}},
            "json: cannot unmarshal number 1.5 into Go struct field CreateRequest.HostConfig.Memory of type int64",
        ),
        (
            {"Image": "a", "HostConfig": {"Memory": 1 << 70}},
            "of type int64",
        ),
        ({"Image": "a", "HostConfig": {"Privileged": "yes"}}, "of type bool"),
        ({"Image": "a", "HostConfig": []}, "json: cannot unmarshal array into Go struct field"),
        ({"Image": "a", "Env": "A=1"}, "of type []string"),
        ({"Image": "a", "ExposedPorts": ["80/tcp"]}, "of type map[string]struct {}"),
        ({"Image": "a", "HostConfig": {"BlkioWeight": 70000}}, "of type uint16"),
        ({"Image": "a", "HostConfig": {"Mounts": [{"Target": 1}]}}, "Mounts.Target of type string"),
        ({"Image": "a", "NetworkingConfig": {"EndpointsConfig": {"x": {"Aliases": 1}}}}, "of type []string"),
    ],
)
def test_wrong_types_name_the_field(body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        decode_create(body)
    assert message in str(refused.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["Image", "Cmd", "Env", "HostConfig", "Healthcheck", "NetworkingConfig", "Volumes", "Labels"])


@given(st.dictionaries(NAMES, JSON, max_size=6))
def test_any_document_is_decoded_or_refused(body: dict[str, Any]) -> None:
    try:
        config, host_config, endpoints = decode_create(body)
    except InvalidParameter:
        return
    assert isinstance(config["Image"], str) and isinstance(host_config["Memory"], int)
    assert isinstance(endpoints, dict)


def test_updates_and_execs() -> None:
    update = decode_update({"Memory": 1 << 30, "RestartPolicy": {"Name": "always"}})
    assert (update["Memory"], update["CpuShares"], update["PidsLimit"]) == (1 << 30, 0, None)
    request = decode_exec({"Cmd": ["ls"], "Tty": True, "ConsoleSize": [24, 80]})
    assert (request["Cmd"], request["ConsoleSize"], request["User"]) == (["ls"], [24, 80], "")
