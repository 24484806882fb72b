"""A private engine that a test may kill: the daemon as a process, and its API as plain HTTP over the socket."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class ApiError(Exception):
    """An error answer: its status and dockerd's message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))


class PrivateEngine:
    """One daemon with its own roots below `root`; may be killed and started again at will."""

    def __init__(self, root: Path, *flags: str) -> None:
        self.root = root
        self.data_root = root / "data"
        self.exec_root = root / "run"
        self.socket = root / "windlass.sock"
        self.log = root / "daemon.log"
        self.flags = flags
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """For clients: where the engine is, and a private client configuration."""
        return os.environ | {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.root / "client")}

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "windlass"),
                    "daemon",
                    f"--data-root={self.data_root}",
                    f"--exec-root={self.exec_root}",
                    f"--host=unix://{self.socket}",
                    *self.flags,
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.tail()}")
            try:
                self.call("GET", "/_ping")
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)
            else:
                return
        raise AssertionError(f"the daemon does not answer:\n{self.tail()}")

    def tail(self) -> str:
        """The end of the daemon's own log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def kill(self) -> None:
        """SIGKILL the daemon, as a crash would."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM the daemon; its containers go on."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    def close(self) -> None:
        """Remove all containers and stop."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        for container in self.json("GET", "/containers/json?all=1"):
            self.call("DELETE", f"/containers/{container['Id']}?force=1&v=1")
        self.stop()

    def call(self, method: str, path: str, body: Any = None) -> bytes:
        """One request; returns the whole body. Raises ApiError on an error answer."""
        connection = Connection(self.socket)
        try:
            if isinstance(body, bytes):
                connection.request(method, path, body, {"Content-Type": "application/x-tar"})
            elif body is None:
                connection.request(method, path)
            else:
                connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            try:
                message = json.loads(data)["message"]
            except (ValueError, KeyError):
                message = data.decode(errors="replace")
            raise ApiError(answer.status, message)
        return data

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """One request whose answer is JSON."""
        return json.loads(self.call(method, path, body) or b"null")
