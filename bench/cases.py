"""The works that users feel, one function a section: each returns rows for the engines that are there."""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import socket
import statistics
import subprocess
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.measure import Row, interleaved, median_seconds, progress
from bench.peers import IMAGE, Peer, proportional_set_size

LOG_LINES = 1_000_000


class UnixConnection(http.client.HTTPConnection):
    """The Engine API over a unix socket, kept alive: what a program (not a command line) pays."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)

    def call(self, method: str, path: str, body: object = None) -> bytes:
        """One request; raises on an error answer."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = self.getresponse()
        data = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {data.decode(errors='replace')}")
        return data


def whole_life(api: UnixConnection, network: str) -> None:
    """create, start, wait for the exit, delete."""
    body = {"Image": IMAGE, "Cmd": ["true"], "HostConfig": {"NetworkMode": network}}
    container = json.loads(api.call("POST", "/containers/create", body))["Id"]
    api.call("POST", f"/containers/{container}/start")
    api.call("POST", f"/containers/{container}/wait")
    api.call("DELETE", f"/containers/{container}")


def own_configuration(peer: Peer, root: Path) -> Path:
    """A bundle with exactly the configuration that our engine gives to a foreign runtime, seccomp profile included."""
    assert peer.socket
    api = UnixConnection(peer.socket)
    body = {"Image": IMAGE, "Cmd": ["sleep", "60"], "HostConfig": {"NetworkMode": "none", "Runtime": "crun"}}
    container = json.loads(api.call("POST", "/containers/create", body))["Id"]
    api.call("POST", f"/containers/{container}/start")
    config = json.loads((root / "windlass-run/containers" / container / "config.json").read_text())
    bundle = root / "bundle"
    subprocess.run(["mkdir", "-p", str(bundle / "rootfs")], check=True)
    archive = subprocess.Popen(
        [*peer.command, "export", container], stdout=subprocess.PIPE, env=os.environ | peer.environment
    )
    subprocess.run(["tar", "-x", "-C", str(bundle / "rootfs")], stdin=archive.stdout, check=True)
    archive.wait()
    api.call("DELETE", f"/containers/{container}?force=1")
    config["root"] = {"path": "rootfs", "readonly": False}
    config["process"]["args"] = ["true"]
    config["process"]["terminal"] = False
    # The files and the network namespace of that container are gone; a bundle of its own needs neither.
    config["mounts"] = [m for m in config["mounts"] if not m.get("source", "").startswith(str(root))]
    for namespace in config["linux"]["namespaces"]:
        if namespace["type"] == "network":
            namespace.pop("path", None)
    config["linux"].pop("cgroupsPath", None)
    config.pop("hooks", None)
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle


def runtimes(peers: Sequence[Peer], root: Path, runs: int) -> list[Row]:
    """Start to removed of `true` without a network, beside the bare C and Go runtimes with the same configuration."""
    ours = peers[0]
    assert ours.socket
    bundle = own_configuration(ours, root)
    api = UnixConnection(ours.socket)

    def bare(*command: str) -> Callable[[], object]:
        # crun refuses the hybrid cgroup layout unless the v2 mount is out of its sight.
        hide = "umount /sys/fs/cgroup/unified 2>/dev/null; exec "
        return lambda: subprocess.run(
            ["unshare", "-m", "sh", "-c", hide + " ".join(command)], check=True, stdin=subprocess.DEVNULL, cwd=bundle
        )

    works: dict[str, Callable[[], object]] = {"windlass": lambda: whole_life(api, "none")}
    for name in ("crun", "runc"):
        if shutil.which(name):
            works[name] = bare(name, f"--root={root}/{name}", "run", "bench")
    shell = median_seconds(bare("true"), runs=runs)
    seconds = interleaved(works, runs=runs)
    corrected = {name: value - (shell if name in {"crun", "runc"} else 0) for name, value in seconds.items()}
    return [Row("`true`, no network, the whole life", "seconds", corrected)]


def containers(peers: Sequence[Peer], runs: int) -> list[Row]:
    """What people type: run, exec, remove, one and fifty."""
    rows = []
    for network, label in (("bridge", "default network"), ("none", "no network"), ("host", "host network")):
        progress(f"run --rm, {label}")
        works = {p.name: _runner(p, "run", "--rm", f"--network={network}", IMAGE, "true") for p in peers}
        rows.append(Row(f"`run --rm`, {label}", "seconds", interleaved(works, runs=runs)))
    progress("exec")
    for peer in peers:
        peer.run("run", "-d", "--name", f"exec-{peers.index(peer)}", "--network=none", IMAGE, "sleep", "1000")
    works = {p.name: _runner(p, "exec", f"exec-{i}", "true") for i, p in enumerate(peers)}
    rows.append(Row("`exec true`", "seconds", interleaved(works, runs=runs)))
    for index, peer in enumerate(peers):
        peer.run("rm", "-f", f"exec-{index}")
    for network in ("bridge", "none"):
        started, removed = {}, {}
        for peer in peers:
            progress(f"50 at once, {network}: {peer.name}")
            started[peer.name], removed[peer.name] = _fifty(peer, network)
        rows.append(Row(f"50 started at once, {network}", "seconds", started))
        rows.append(Row(f"50 removed, {network}", "seconds", removed))
    return rows


def _runner(peer: Peer, *arguments: str) -> Callable[[], object]:
    return lambda: peer.run(*arguments)


def _fifty(peer: Peer, network: str) -> tuple[float, float]:
    names = [f"fifty-{number}" for number in range(50)]
    start = time.perf_counter()
    clients = [
        peer.start("run", "-d", "--name", name, f"--network={network}", IMAGE, "sleep", "1000") for name in names
    ]
    codes = [client.wait() for client in clients]
    started = time.perf_counter() - start
    if any(codes):
        raise RuntimeError(f"{peer.name}: {sum(map(bool, codes))} of 50 did not start")
    start = time.perf_counter()
    peer.run("rm", "-f", *names)
    return started, time.perf_counter() - start


def fifty_by_api(peer: Peer) -> list[Row]:
    """Fifty through the API from one program: without the price of fifty clients."""
    from concurrent.futures import ThreadPoolExecutor

    assert peer.socket
    path = peer.socket

    def one(number: int) -> str:
        api = UnixConnection(path)
        body = {"Image": IMAGE, "Cmd": ["sleep", "1000"]}
        container: str = json.loads(api.call("POST", f"/containers/create?name=api-{number}", body))["Id"]
        api.call("POST", f"/containers/{container}/start")
        return container

    def remove(container: str) -> None:
        UnixConnection(path).call("DELETE", f"/containers/{container}?force=1")

    started, removed = [], []
    with ThreadPoolExecutor(16) as pool:
        for _ in range(5):
            start = time.perf_counter()
            ids = list(pool.map(one, range(50)))
            started.append(time.perf_counter() - start)
            start = time.perf_counter()
            list(pool.map(remove, ids))
            removed.append(time.perf_counter() - start)
    return [
        Row("50 started at once through the API, default network", "seconds", {peer.name: statistics.median(started)}),
        Row("50 removed through the API", "seconds", {peer.name: statistics.median(removed)}),
    ]


def memory(peers: Sequence[Peer]) -> list[Row]:
    """PSS of the idle daemons, and what 20 idle containers add to all their keepers, per container."""
    idle = {p.name: float(proportional_set_size(p.daemons)) for p in peers if p.daemons}
    rows = [Row("idle daemon and its helpers (PSS)", "bytes", idle)]
    each = {}
    for peer in peers:
        before = set(_all_processes())
        names = [f"idle-{number}" for number in range(20)]
        for name in names:
            peer.run("run", "-d", "--name", name, "--network=none", IMAGE, "sleep", "1000")
        keepers = tuple(pid for pid in set(_all_processes()) - before if not _is_payload(pid))
        each[peer.name] = proportional_set_size(keepers) / len(names)
        peer.run("rm", "-f", *names)
    rows.append(Row("keeper of one idle container (PSS)", "bytes", each))
    return rows


def _all_processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _is_payload(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\0")
    except OSError:
        return True


def logs(peers: Sequence[Peer]) -> list[Row]:
    """A million lines: written by a container with nobody attached, and read back."""
    command = f"i=0; while [ $i -lt 1000 ]; do cat /thousand; i=$((i+1)); done | head -n {LOG_LINES}"
    written, read, tail = {}, {}, {}
    for peer in peers:
        progress(f"logs: {peer.name}")
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            data = b"".join(b"line %06d of a log that a program might write\n" % number for number in range(1000))
            member = tarfile.TarInfo("thousand")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        peer.run("create", "--name", "logger", "--network=none", IMAGE, "sh", "-c", command)
        peer.run("cp", "-", "logger:/", stdin=archive.getvalue())
        start = time.perf_counter()
        peer.run("start", "logger")
        peer.run("wait", "logger")
        written[peer.name] = time.perf_counter() - start
        reader = [*peer.command, "logs", "logger"]
        start = time.perf_counter()
        lines = subprocess.run(
            reader, stdout=subprocess.PIPE, env=os.environ | peer.environment, check=True
        ).stdout.count(b"\n")
        read[peer.name] = time.perf_counter() - start
        tail[peer.name] = median_seconds(_runner(peer, "logs", "--tail", "10", "logger"), runs=5)
        peer.run("rm", "-f", "logger")
        if lines != LOG_LINES:
            progress(f"  {peer.name} gave back {lines} lines of {LOG_LINES}: its log is capped by default")
    return [
        Row("1,000,000 lines written (start + wait)", "seconds", written),
        Row("the kept lines read back", "seconds", read),
        Row("`logs --tail 10`", "seconds", tail),
    ]


def images(peers: Sequence[Peer], root: Path, runs: int) -> list[Row]:
    """A 100 MB image: loaded from an archive, saved, pushed to and pulled from a registry on loopback."""
    tree = root / "big.tar"
    _big_tree(tree, 100_000_000)
    rows: dict[str, dict[str, float]] = {work: {} for work in ("import", "save", "load", "push", "pull")}
    with registry(root) as address:
        for index, peer in enumerate(peers):
            progress(f"images: {peer.name}")
            name = f"{address}/big-{index}:latest"
            saved = root / f"saved-{index}.tar"
            insecure = ["--tls-verify=false"] if peer.name == "podman" else []
            remove = _runner(peer, "rmi", "-f", name)
            rows["import"][peer.name] = _timed(lambda: peer.run("import", str(tree), name))  # noqa: B023
            rows["save"][peer.name] = _timed(lambda: peer.run("save", "-o", str(saved), name))  # noqa: B023
            rows["load"][peer.name] = _median_after(remove, lambda: peer.run("load", "-i", str(saved)), runs)  # noqa: B023
            if peer.name != "docker":
                # dockerd is in a network namespace of its own, whose loopback has no registry.
                rows["push"][peer.name] = _timed(lambda: peer.run("push", *insecure, name))  # noqa: B023
                rows["pull"][peer.name] = _median_after(remove, lambda: peer.run("pull", *insecure, name), runs)  # noqa: B023
            remove()
            saved.unlink()
    return [Row(f"{work}, 100 MB image", "seconds", values) for work, values in rows.items()]


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _median_after(prepare: Callable[[], object], work: Callable[[], object], runs: int) -> float:
    samples = []
    for _ in range(max(3, runs // 5)):
        prepare()
        samples.append(_timed(work))
    return statistics.median(samples)


def _big_tree(path: Path, size: int) -> None:
    """An uncompressed archive of real files from this machine's /usr, about `size` bytes."""
    total = 0
    with tarfile.open(path, "w") as archive:
        for directory, _, files in os.walk("/usr/lib"):
            for name in sorted(files):
                file = os.path.join(directory, name)
                if os.path.islink(file) or not os.path.isfile(file):
                    continue
                total += os.path.getsize(file)
                archive.add(file, recursive=False)
                if total > size:
                    return


class registry:  # noqa: N801 - reads as a context manager
    """Debian's docker-registry on loopback, its data below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        configuration = self._root / "registry.yml"
        configuration.write_text(
            f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {self._root}/registry}}}}\n"
            f"http: {{addr: 127.0.0.1:{port}}}\n"
        )
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return f"127.0.0.1:{port}"
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
