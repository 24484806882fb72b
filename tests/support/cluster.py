"""A private Kubernetes API server that a test may kill: the process, its kubeconfig, kubectl, Python's client."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import kubernetes
import urllib3


class PrivateCluster:
    """One server with its own data below `root`; may be killed and started again at will, on the same port."""

    def __init__(self, root: Path, *flags: str, agent: bool = False) -> None:
        """With `agent`, the server has a node, `n1`, whose engine and pods are below `root` too."""
        self.root = root
        self.agent = agent
        self.exec_root = root / "x"
        self.kubeconfig = root / "kubeconfig"
        self.log = root / "server.log"
        self.flags = flags
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._clients: list[kubernetes.client.ApiClient] = []

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        with self.log.open("ab") as log:
            begin = log.tell()
            command = [str(Path(sys.executable).parent / "windlass"), "server"]
            command += [f"--exec-root={self.exec_root}", "--node-name=n1"] if self.agent else ["--disable-agent"]
            command += [f"--data-dir={self.root / 'data'}", f"--https-listen-port={self.port}"]
            command += [f"--write-kubeconfig={self.kubeconfig}", *self.flags]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            text = self.log.read_bytes()[begin:].decode(errors="replace")
            if " ready at https://" in text:
                self.port = int(text.partition(" ready at https://")[2].split()[0].rpartition(":")[2])
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError(f"the server does not start:\n{self.tail()}")

    def tail(self) -> str:
        """The end of the server's own log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM."""
        for client in self._clients:
            client.rest_client.pool_manager.clear()
            client.close()
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    # -- the node

    @property
    def docker_socket(self) -> Path:
        """Where the node's engine serves Docker's API."""
        return self.exec_root / "windlass.sock"

    def import_image(self, archive: bytes, name: str) -> None:
        """Make an image of a root file system (a tar archive)."""
        command = ["docker", "-H", f"unix://{self.docker_socket}", "import", "-", name]
        subprocess.run(command, input=archive, check=True, stdout=subprocess.PIPE, timeout=60)

    def wait_for_node(self, seconds: float = 15) -> None:
        """Wait until pods can run."""
        self.kubectl("wait", "--for=condition=Ready", "node/n1", f"--timeout={seconds:g}s")

    def remove_pods(self) -> None:
        """Delete everything that makes pods, and all pods."""
        kinds = "deployments,statefulsets,daemonsets,replicasets,replicationcontrollers,jobs,cronjobs"
        self.kubectl("delete", kinds, "--all", "-A", "--cascade=foreground", "--timeout=30s")
        self.kubectl("delete", "pods", "--all", "-A", "--grace-period=1", "--timeout=30s")

    # -- clients

    def client(self, **headers: str) -> kubernetes.client.ApiClient:
        """Python's client as the administrator, with further headers."""
        client = kubernetes.config.new_client_from_config(str(self.kubeconfig))
        client.configuration.retries = urllib3.Retry(3, backoff_factor=0.05)
        for name, value in headers.items():
            client.set_default_header(name.replace("_", "-"), value)
        self._clients.append(client)
        return client

    @property
    def core(self) -> kubernetes.client.CoreV1Api:
        """The core group."""
        return kubernetes.client.CoreV1Api(self.client())

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
        """One plain request as the administrator: status and body."""
        client = self.client()
        answer = client.rest_client.pool_manager.request(
            method,
            client.configuration.host + path,
            body=body,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        return answer.status, answer.data.decode(errors="replace")

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl; its output (and errors) as text."""
        binary = shutil.which("kubectl")
        assert binary
        environment = os.environ | {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.root)}
        done = subprocess.run(
            [binary, *arguments],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}:\n{done.stdout}\n{self.tail()}")
        return done.stdout
