"""kubectl with streams: several at once, on a terminal, over the older protocol."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

from support.cluster import PrivateCluster

SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
"""What makes kubectl speak SPDY, as older ones do."""
PROTOCOLS: dict[str, dict[str, str]] = {"websocket": {}, "spdy": SPDY}


def command_of(cluster: PrivateCluster, *words: str) -> list[str]:
    """kubectl's command line."""
    binary = shutil.which("kubectl")
    assert binary
    return [binary, f"--kubeconfig={cluster.kubeconfig}", *words]


def run(
    cluster: PrivateCluster, *words: str, stdin: bytes = b"", environment: dict[str, str] | None = None
) -> tuple[int, bytes, bytes]:
    """Run to the end: exit code, output, errors."""
    done = subprocess.run(
        command_of(cluster, *words),
        input=stdin,
        capture_output=True,
        env=os.environ | {"HOME": str(cluster.root)} | (environment or {}),
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@contextlib.contextmanager
def running(
    cluster: PrivateCluster, *words: str, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run in the background, and end it."""
    process = subprocess.Popen(
        command_of(cluster, *words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"HOME": str(cluster.root)} | (environment or {}),
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout
        process.stdout.close()


def read_until(process: subprocess.Popen[bytes], wanted: bytes, seconds: float = 15) -> bytes:
    """The output of a program up to some words."""
    assert process.stdout
    found = b""
    deadline = time.monotonic() + seconds
    while wanted not in found:
        left = deadline - time.monotonic()
        assert left > 0, found
        if select.select([process.stdout], [], [], left)[0]:
            data = os.read(process.stdout.fileno(), 65536)
            assert data, found
            found += data
    return found


@contextlib.contextmanager
def forwarded(
    cluster: PrivateCluster, *words: str, port: int | str, environment: dict[str, str] | None = None
) -> Iterator[int]:
    """kubectl port-forward to a port; ours."""
    with running(cluster, "port-forward", *words, f":{port}", environment=environment) as process:
        line = read_until(process, b"Forwarding from 127.0.0.1:").decode()
        yield int(line.partition("127.0.0.1:")[2].split()[0])


def ask(port: int, text: bytes) -> bytes:
    """Send to a local port, end our side, and give all that comes back."""
    with socket.create_connection(("127.0.0.1", port), 10) as made:
        made.settimeout(10)
        made.sendall(text)
        made.shutdown(socket.SHUT_WR)
        found = b""
        while data := made.recv(65536):
            found += data
        return found


class Terminal:
    """kubectl on a terminal of its own."""

    def __init__(
        self,
        cluster: PrivateCluster,
        *words: str,
        rows: int = 24,
        columns: int = 80,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._master, slave = pty.openpty()
        self.resize(rows, columns)
        self.seen = b""
        self.process = subprocess.Popen(
            command_of(cluster, *words),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=os.environ | {"HOME": str(cluster.root), "TERM": "xterm"} | (environment or {}),
        )
        os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        """Make the window another size."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        with contextlib.suppress(AttributeError):
            self.process.send_signal(signal.SIGWINCH)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def expect(self, wanted: str, seconds: float = 15) -> str:
        """Wait until something is shown."""
        deadline = time.monotonic() + seconds
        while wanted.encode() not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and self._read(left), self.seen.decode(errors="replace")
        found, _, self.seen = self.seen.partition(wanted.encode())
        return found.decode(errors="replace")

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            self.seen += os.read(self._master, 65536)
        except OSError:  # the other side is closed
            return False
        return True

    def wait(self) -> int:
        """The program's exit code."""
        deadline = time.monotonic() + 15
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(0.1)
        return self.process.wait(1)

    def close(self) -> None:
        """End the program."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)
