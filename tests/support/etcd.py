"""A private etcd, and servers of one cluster over it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.cluster import PrivateCluster


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def etcd(root: Path) -> Iterator[str]:
    """The URL of an etcd with its data below `root`; it is gone afterwards."""
    port = _free_port()
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{_free_port()}"
    arguments = ["etcd", "--data-dir", str(root / "etcd"), "--listen-client-urls", client, "--unsafe-no-fsync"]
    arguments += ["--advertise-client-urls", client, "--listen-peer-urls", peer]
    arguments += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield client
    finally:
        process.terminate()
        process.wait()


def start_servers(root: Path, made: list[PrivateCluster], url: str, *names: str) -> None:
    """Servers of one cluster, added to `made` as they are started: they share its certificates and keys."""
    for name in names:
        (root / name).mkdir()
        if name != names[0]:
            shutil.copytree(root / names[0] / "data" / "tls", root / name / "data" / "tls")
        cluster = PrivateCluster(root / name, f"--datastore-endpoint={url}")
        made.append(cluster)
        cluster.start()
