"""`python -m bench.kube`: the Kubernetes API server under load, over TLS with RBAC, admission and validation on.

One server process on SQLite, one client process with as many connections as said; the client is asyncio's, so on two
cores both have one. Prints a table; `--write` puts it into bench/KUBERNETES.md.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"generateName": "p-", "labels": {"app": "web", "tier": "front"}},
    "spec": {
        "containers": [
            {
                "name": "web",
                "image": "registry.example.com/web:1.2.3",
                "ports": [{"containerPort": 8080, "name": "http"}],
                "env": [{"name": "A", "value": "b"}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
            }
        ]
    },
}


class Server:
    """A server with private data."""

    def __init__(self, root: Path, *flags: str) -> None:
        self.root = root
        self.log = root / "log"
        begun = time.monotonic()
        with self.log.open("w") as log:
            command = [str(Path(sys.executable).parent / "windlass"), "server", "--disable-agent"]
            command += [f"--data-dir={root / 'data'}", "--https-listen-port=0", *flags]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        while " ready at https://" not in self.log.read_text():
            if self.process.poll() is not None:
                raise SystemExit(self.log.read_text())
            time.sleep(0.002)
        self.ready = time.monotonic() - begun
        self.port = int(self.log.read_text().partition(" ready at https://")[2].split()[0].rpartition(":")[2])

    def context(self) -> ssl.SSLContext:
        """TLS as somebody whom RBAC has to look at."""
        tls = self.root / "data" / "tls"
        context = ssl.create_default_context(cafile=str(tls / "ca.crt"))
        context.load_cert_chain(tls / "controller-manager.crt", tls / "controller-manager.key")
        return context

    def admin(self) -> ssl.SSLContext:
        """TLS as the administrator."""
        tls = self.root / "data" / "tls"
        context = ssl.create_default_context(cafile=str(tls / "ca.crt"))
        context.load_cert_chain(tls / "admin.crt", tls / "admin.key")
        return context

    def memory(self) -> float:
        """Resident megabytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


class Client:
    """One kept connection; as little work for each request as can be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: int, context: ssl.SSLContext) -> Client:
        """A new connection."""
        return cls(
            *await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="localhost", limit=256 * 1024 * 1024
            )
        )

    async def request(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        """The body of the answer; an error ends the measurement."""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: "
            f"{len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        data = await self._reader.readexactly(length)
        if not answer.startswith(b"HTTP/1.1 20"):
            raise SystemExit(f"{method} {path}: {data.decode()}")
        return data

    async def stream(self, path: str) -> asyncio.StreamReader:
        """Begin a watch."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await self._reader.readuntil(b"\r\n\r\n")
        return self._reader

    def close(self) -> None:
        """Drop it."""
        self._writer.transport.abort()


async def rate(clients: list[Client], work: Callable[[Client, int], Awaitable[Any]], total: int) -> float:
    """Requests a second."""
    numbers = iter(range(total))

    async def run(client: Client) -> None:
        for number in numbers:
            await work(client, number)

    begun = time.perf_counter()
    await asyncio.gather(*(run(client) for client in clients))
    return total / (time.perf_counter() - begun)


async def measure(server: Server, rows: list[tuple[str, str]]) -> None:
    """All figures of one server."""
    pods = "/api/v1/namespaces/default/pods"
    body = json.dumps(POD, separators=(",", ":")).encode()
    admin = [await Client.connect(server.port, server.admin()) for _ in range(64)]
    rows.append(("memory at start", f"{server.memory():.0f} MB"))
    for count in (1, 16, 64):
        clients = admin[:count]
        names: list[str] = []

        async def create(client: Client, number: int, names: list[str] = names) -> None:
            made = json.loads(await client.request("POST", pods, body))
            names.append(made["metadata"]["name"])

        async def get(client: Client, number: int, names: list[str] = names) -> None:
            await client.request("GET", f"{pods}/{names[number % len(names)]}")

        async def patch(client: Client, number: int, names: list[str] = names) -> None:
            text = b'{"metadata":{"labels":{"n":"%d"}}}' % number
            await client.request("PATCH", f"{pods}/{names[number % len(names)]}", text, "application/merge-patch+json")

        async def delete(client: Client, number: int, names: list[str] = names) -> None:
            await client.request("DELETE", f"{pods}/{names[number]}")

        plural = "client" if count == 1 else "clients"
        total = 300 if count == 1 else 2000
        rows.append((f"create pods, {count} {plural}", f"{await rate(clients, create, total):,.0f}/s"))
        rows.append((f"get, {count} {plural}", f"{await rate(clients, get, total * 2):,.0f}/s"))
        rows.append((f"patch, {count} {plural}", f"{await rate(clients, patch, total):,.0f}/s"))
        rows.append((f"delete, {count} {plural}", f"{await rate(clients, delete, total):,.0f}/s"))

    async def fill(client: Client, number: int) -> None:
        await client.request("POST", pods, body)

    await rate(admin, fill, 10_000)
    rows.append(("memory with 10,000 pods", f"{server.memory():.0f} MB"))
    times = []
    size = 0
    for _ in range(5):
        begun = time.perf_counter()
        size = len(await admin[0].request("GET", pods))
        times.append(time.perf_counter() - begun)
    rows.append((f"list of 10,000 pods ({size / 1e6:.0f} MB)", f"{statistics.median(times) * 1000:.0f} ms"))
    watchers = [await Client.connect(server.port, server.admin()) for _ in range(1000)]
    path = "/api/v1/namespaces/default/configmaps?watch=1&resourceVersion="
    revision = json.loads(await admin[0].request("GET", "/api/v1/namespaces/default/configmaps"))
    streams = [await each.stream(path + revision["metadata"]["resourceVersion"]) for each in watchers]
    latencies: list[float] = []
    for number in range(5):

        async def heard(stream: asyncio.StreamReader, begun: float) -> None:
            await stream.readuntil(b"}\n")
            latencies.append(time.perf_counter() - begun)

        begun = time.perf_counter()
        waiting = [asyncio.ensure_future(heard(stream, begun)) for stream in streams]
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"w{number}"}}
        await admin[0].request("POST", "/api/v1/namespaces/default/configmaps", json.dumps(config).encode())
        await asyncio.gather(*waiting)
    latencies.sort()
    rows.append(("an event at 1,000 watchers, p50", f"{latencies[len(latencies) // 2] * 1000:.0f} ms"))
    rows.append(("an event at 1,000 watchers, p99", f"{latencies[len(latencies) * 99 // 100] * 1000:.0f} ms"))
    for client in (*admin, *watchers):
        client.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.kube", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write bench/KUBERNETES.md")
    parser.add_argument("--datastore", default="", help="a --datastore-endpoint instead of SQLite")
    arguments = parser.parse_args()
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="wlb-") as directory:
        flags = [f"--datastore-endpoint={arguments.datastore}"] if arguments.datastore else []
        server = Server(Path(directory), *flags)
        try:
            rows.append(("start to ready", f"{server.ready * 1000:.0f} ms"))
            asyncio.run(measure(server, rows))
        finally:
            server.stop()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value:>12}")
    if arguments.write:
        lines = ["# The Kubernetes API server, measured", ""]
        lines += [
            f"`python -m bench.kube --write` on {datetime.date.today()}, {os.cpu_count()} cores, Linux "
            f"{os.uname().release}; SQLite on"
        ]
        lines += [
            "the machine's disk, TLS, RBAC, admission and validation on; the client in Python on the same cores.",
            "",
        ]
        lines += ["| work | windlass |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
        (Path(__file__).parent / "KUBERNETES.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
