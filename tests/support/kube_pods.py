"""Pods of a test's own on a private cluster's node: made, looked at, waited for."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

from support.cluster import PrivateCluster

IMAGE = "busybox:1"
Object = dict[str, Any]


class Pods:
    """Makes pods in a namespace of a test's own and looks at them."""

    def __init__(self, cluster: PrivateCluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl("-n", self.namespace, *words, stdin=stdin, check=check)

    def make(self, name: str, *containers: Object, **spec: Any) -> None:
        """A pod on the node; a container without an image gets busybox."""
        for each in (*containers, *spec.get("initContainers", ())):
            each.setdefault("image", IMAGE)
        spec.setdefault("terminationGracePeriodSeconds", 1)
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": "n1", "containers": list(containers), **spec},
        }
        self.kubectl("create", "-f", "-", stdin=json.dumps(body))

    def apply(self, *objects: Object) -> None:
        """kubectl apply."""
        for each in objects:
            self.kubectl("apply", "-f", "-", stdin=json.dumps(each))

    def get(self, name: str) -> Object:
        """A pod as it is now."""
        found: Object = json.loads(self.kubectl("get", "pod", name, "-o", "json"))
        return found

    def until(self, check: Callable[[], Any], seconds: float = 20) -> Any:
        """What `check` gives once it is true."""
        deadline = time.monotonic() + seconds
        while not (found := check()):
            assert time.monotonic() < deadline, self.kubectl("describe", "pods") + self.cluster.tail()
            time.sleep(0.1)
        return found

    def wait(self, name: str, wanted: str, seconds: int = 20) -> Object:
        """Wait for a phase, or for a word of kubectl's STATUS column."""
        deadline = time.monotonic() + seconds
        while True:
            shown = self.kubectl("get", "pod", name, "--no-headers").split()
            if wanted in (shown[2], self.get(name)["status"]["phase"]):
                return self.get(name)
            if time.monotonic() > deadline:
                raise AssertionError(self.kubectl("describe", "pod", name) + self.cluster.tail())
            time.sleep(0.1)

    def ready(self, name: str) -> Object:
        """Wait until a pod is ready."""
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=20s")
        return self.get(name)

    def log(self, name: str, container: str = "c") -> str:
        """What a container has printed, by the engine's own API."""
        identity = next(
            each["containerID"].removeprefix("windlass://")
            for kind in ("containerStatuses", "initContainerStatuses")
            for each in self.get(name)["status"].get(kind, ())
            if each["name"] == container
        )
        return self.docker("logs", identity)

    def docker(self, *words: str) -> str:
        """Run docker against the node's engine."""
        command = ["docker", "-H", f"unix://{self.cluster.docker_socket}", *words]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout

    def events(self, name: str) -> str:
        """What kubectl shows of the events of a pod."""
        return self.kubectl("get", "events", "--field-selector", f"involvedObject.name={name}", "-o", "wide")


def shell(script: str, **more: Any) -> Object:
    """A container `c` that runs a script."""
    return {"name": "c", "command": ["sh", "-c", script], **more}
