"""Containers through the plain API, for acceptance tests: short to make, and waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from support.engine import PrivateEngine

Document = dict[str, Any]
IMAGE = "busybox"


class Lives:
    """Makes containers on one engine. `create("true", Memory=…)`: keywords are of HostConfig, `body` is the rest."""

    def __init__(self, engine: PrivateEngine) -> None:
        self.engine = engine

    def create(self, *command: str, name: str = "", body: Document | None = None, **host_config: Any) -> str:
        """A new container; its ID."""
        document = {"Image": IMAGE, "Cmd": list(command), "HostConfig": {"NetworkMode": "none"} | host_config}
        path = "/containers/create" + (f"?name={name}" if name else "")
        return str(self.engine.json("POST", path, document | (body or {}))["Id"])

    def run(self, *command: str, **options: Any) -> str:
        """A new container that is started; its ID."""
        container = self.create(*command, **options)
        self.engine.call("POST", f"/containers/{container}/start")
        return container

    def say(self, script: str, **options: Any) -> str:
        """What a shell in a new container prints, until it ends."""
        container = self.run("sh", "-c", script, **options)
        self.engine.json("POST", f"/containers/{container}/wait")
        return self.logs(container)

    def execute(self, container: str, script: str, **options: Any) -> str:
        """What a shell that is executed in a container prints."""
        body = {"Cmd": ["sh", "-c", script], "AttachStdout": True, "AttachStderr": True} | options
        made = self.engine.json("POST", f"/containers/{container}/exec", body)["Id"]
        return frames(self.engine.call("POST", f"/exec/{made}/start", {"Detach": False, "Tty": False}))

    def inspect(self, container: str) -> Document:
        """`docker inspect`."""
        found: Document = self.engine.json("GET", f"/containers/{container}/json")
        return found

    def logs(self, container: str) -> str:
        """What a container without a terminal has said."""
        return frames(self.engine.call("GET", f"/containers/{container}/logs?stdout=1&stderr=1"))

    def until(self, container: str, wanted: Callable[[Document], bool], seconds: float = 15) -> Document:
        """Wait until `wanted(state)`; the state."""
        deadline = time.monotonic() + seconds
        while True:
            state: Document = self.inspect(container)["State"]
            if wanted(state):
                return state
            assert time.monotonic() < deadline, state
            time.sleep(0.02)

    def until_said(self, container: str, text: str, seconds: float = 15) -> None:
        """Wait for words in a container's log."""
        deadline = time.monotonic() + seconds
        while text not in self.logs(container):
            assert time.monotonic() < deadline, self.logs(container)
            time.sleep(0.02)

    def clean(self) -> None:
        """Remove all containers and volumes."""
        for container in self.engine.json("GET", "/containers/json?all=1"):
            self.engine.call("DELETE", f"/containers/{container['Id']}?force=1&v=1")
        for volume in self.engine.json("GET", "/volumes")["Volumes"]:
            self.engine.call("DELETE", f"/volumes/{volume['Name']}")


def ended(state: Document) -> bool:
    """For `until`."""
    return bool(state["Status"] == "exited")


def frames(data: bytes) -> str:
    """The text of a multiplexed stream."""
    text = b""
    while data:
        size = int.from_bytes(data[4:8], "big")
        text, data = text + data[8 : 8 + size], data[8 + size :]
    return text.decode()
