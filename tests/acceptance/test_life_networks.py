"""Containers in networks that somebody made: names, several networks, changes while they run, links, restarts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from support.dockercli import Docker
from support.engine import ApiError, PrivateEngine
from support.lives import IMAGE, Lives, ended


@pytest.fixture
def back(engine: PrivateEngine, lives: Lives) -> Iterator[str]:
    """A network `back`; it and `other` are removed after the test."""
    engine.json("POST", "/networks/create", {"Name": "back", "Driver": "bridge"})
    engine.json("POST", "/networks/create", {"Name": "other", "Driver": "bridge"})
    yield "back"
    lives.clean()
    for name in ("back", "other"):
        engine.call("DELETE", f"/networks/{name}")


def networks(lives: Lives, container: str) -> dict[str, Any]:
    found: dict[str, Any] = lives.inspect(container)["NetworkSettings"]["Networks"]
    return found


def test_names_in_a_network(engine: PrivateEngine, lives: Lives, back: str) -> None:
    endpoint = {"NetworkingConfig": {"EndpointsConfig": {back: {"Aliases": ["db"]}}}}
    server = lives.run("sleep", "600", name="server", NetworkMode=back, body=endpoint)
    address = networks(lives, server)[back]["IPAddress"]
    assert set(networks(lives, server)[back]["DNSNames"]) == {"server", "db", server[:12]}
    said = lives.say(
        "cat /etc/resolv.conf; for name in server db; do nslookup $name 2>/dev/null | grep -A9 Name:; done; "
        "ping -c 1 -W 5 db >/dev/null && echo reached",
        NetworkMode=back,
    )
    assert "nameserver 127.0.0.11" in said and said.count(address) >= 2 and "reached" in said
    engine.call("POST", f"/containers/{server}/rename?name=renamed")
    assert address in lives.say("nslookup renamed 2>/dev/null", NetworkMode=back)


def test_several_networks_from_the_start(lives: Lives, back: str) -> None:
    body = {"NetworkingConfig": {"EndpointsConfig": {back: {}, "other": {"Aliases": ["x"]}}}}
    container = lives.run("sleep", "600", NetworkMode=back, body=body)
    assert list(networks(lives, container)) == [back, "other"]
    assert len(lives.execute(container, "ls /sys/class/net").split()) == 3


def test_networks_change_while_it_runs(engine: PrivateEngine, lives: Lives, back: str) -> None:
    container = lives.run("sleep", "600", NetworkMode="bridge")
    before = lives.execute(container, "cat /etc/resolv.conf")
    engine.call("POST", f"/networks/{back}/connect", {"Container": container, "EndpointConfig": {"Aliases": ["late"]}})
    made = networks(lives, container)
    assert set(made) == {"bridge", back}
    assert made[back]["IPAddress"] in lives.execute(container, "cat /etc/hosts; ip addr")
    assert "127.0.0.11" in lives.execute(container, "cat /etc/resolv.conf")
    assert made[back]["IPAddress"] in lives.say("nslookup late 2>/dev/null", NetworkMode=back)
    with pytest.raises(ApiError, match="already exists in network back"):
        engine.call("POST", f"/networks/{back}/connect", {"Container": container})
    engine.kill()
    engine.start()
    assert set(networks(lives, container)) == {"bridge", back}
    with pytest.raises(ApiError, match="has active endpoints"):
        engine.call("DELETE", f"/networks/{back}")
    engine.call("POST", f"/networks/{back}/disconnect", {"Container": container})
    assert set(networks(lives, container)) == {"bridge"}
    assert made[back]["IPAddress"] not in lives.execute(container, "cat /etc/hosts; ip addr")
    assert lives.execute(container, "cat /etc/resolv.conf") == before
    with pytest.raises(ApiError, match="is not connected to"):
        engine.call("POST", f"/networks/{back}/disconnect", {"Container": container})


def test_networks_change_while_it_does_not_run(engine: PrivateEngine, lives: Lives, back: str) -> None:
    container = lives.create("sleep", "600", NetworkMode="bridge")
    engine.call("POST", f"/networks/{back}/connect", {"Container": container})
    engine.call("POST", "/networks/bridge/disconnect", {"Container": container})
    assert set(networks(lives, container)) == {back}
    engine.call("POST", f"/containers/{container}/start")
    assert len(lives.execute(container, "ls /sys/class/net").split()) == 2
    assert networks(lives, container)[back]["IPAddress"]
    engine.call("POST", f"/containers/{container}/kill")
    lives.until(container, ended)
    assert networks(lives, container)[back]["IPAddress"] == ""
    assert networks(lives, container)[back]["NetworkID"] == engine.json("GET", f"/networks/{back}")["Id"]


def test_links_follow(engine: PrivateEngine, lives: Lives, back: str) -> None:
    database = lives.run("sleep", "600", name="database", NetworkMode="bridge")
    client = lives.run("sleep", "600", name="client", NetworkMode="bridge", Links=["database:db"])
    assert lives.inspect(client)["HostConfig"]["Links"] == ["/database:/client/db"]
    first = networks(lives, database)["bridge"]["IPAddress"]
    assert re.search(rf"^{re.escape(first)}\tdb ", lives.execute(client, "cat /etc/hosts"), re.MULTILINE)
    engine.call("POST", f"/containers/{database}/stop?t=0")
    lives.run("sleep", "600", NetworkMode="bridge")  # takes the address, perhaps
    engine.call("POST", f"/containers/{database}/start")
    second = networks(lives, database)["bridge"]["IPAddress"]
    hosts = lives.execute(client, "cat /etc/hosts")
    assert re.findall(r"^(\S+)\tdb ", hosts, re.MULTILINE) == [second]
    engine.call("POST", f"/containers/{database}/stop?t=0")
    with pytest.raises(ApiError, match="Cannot link to a non running container: /database AS /late/db"):
        lives.run("true", name="late", NetworkMode="bridge", Links=["database:db"])
    with pytest.raises(ApiError, match="could not get container for nobody"):
        lives.create("true", NetworkMode="bridge", Links=["nobody:x"])


def test_a_network_that_is_not_there(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.create("true", NetworkMode="nowhere")
    with pytest.raises(ApiError, match="failed to set up container networking: network nowhere not found"):
        engine.call("POST", f"/containers/{container}/start")
    assert lives.inspect(container)["State"]["Status"] == "created"


def test_the_command_line(docker: Docker, lives: Lives) -> None:
    docker("network", "create", "--subnet", "10.251.7.0/24", "made")
    try:
        docker("run", "-d", "--name", "fixed", "--network", "made", "--ip", "10.251.7.9", IMAGE, "sleep", "600")
        seen = docker("run", "--rm", "--network", "made", IMAGE, "nslookup", "fixed", check=False).stdout
        assert "10.251.7.9" in seen
        assert "fixed" in docker("network", "inspect", "made").stdout
        lives.clean()
    finally:
        docker("network", "rm", "made")
    docker("network", "create", "unused")
    assert "unused" in docker("network", "prune", "-f").stdout
