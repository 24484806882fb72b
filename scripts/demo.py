"""The main job, on show: a private daemon, an image of real files, isolated containers, a crash, and nothing left.

Every step checks what it claims; the first that is not true ends the demo with a message and exit code 1.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
BOLD, DIM, GREEN, RED, RESET = (
    ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() else ("",) * 5
)


class Demo:
    """One private engine and the steps that use it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = root / "windlass.sock"
        self.environment = os.environ | {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(root / "config")}
        self.environment.pop("DOCKER_CONTEXT", None)
        self.proved: list[str] = []
        self.daemon: subprocess.Popen[bytes] | None = None

    # What a step is made of ---------------------------------------------------------------------------------------

    def step(self, title: str) -> None:
        """Say what comes."""
        print(f"\n{BOLD}{title}{RESET}", flush=True)

    def run(self, *command: str, quiet: bool = False, check: bool = True) -> str:
        """Run a client command as a person would, show it and what it says."""
        program = str(BIN / "windlass") if command[0] == "windlass" else command[0]
        shown = " ".join(word if word and " " not in word else f"'{word}'" for word in command)
        print(f"{DIM}${RESET} {shown}", flush=True)
        done = subprocess.run(
            [program, *command[1:]], env=self.environment, capture_output=True, text=True, check=False
        )
        if not quiet:
            for line in (done.stdout + done.stderr).rstrip().splitlines():
                print(f"  {line}")
        if check and done.returncode != 0:
            self.fail(f"exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def prove(self, true: bool, what: str) -> None:
        """A claim, checked."""
        if not true:
            self.fail(f"not so: {what}")
        print(f"  {GREEN}✓{RESET} {what}", flush=True)
        self.proved.append(what)

    def fail(self, why: str) -> None:
        print(f"  {RED}✗ {why}{RESET}")
        log = self.root / "daemon.log"
        if log.exists():
            print("".join(f"  | {line}\n" for line in log.read_text().splitlines()[-20:]))
        raise SystemExit(1)

    # The engine -------------------------------------------------------------------------------------------------

    def start_daemon(self) -> float:
        """Start the daemon; returns the seconds until it answered."""
        started = time.perf_counter()
        with (self.root / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                [
                    str(BIN / "windlass"),
                    "daemon",
                    f"--data-root={self.root / 'data'}",
                    f"--exec-root={self.root / 'run'}",
                    f"--host=unix://{self.socket}",
                ],
                stdout=log,
                stderr=log,
            )
        while time.perf_counter() - started < 30:
            if self.daemon.poll() is not None:
                self.fail("the daemon ended at start")
            asked = subprocess.run(
                ["curl", "--silent", "--fail", "--unix-socket", str(self.socket), "http://localhost/_ping"],
                capture_output=True,
                check=False,
            )
            if asked.stdout == b"OK":
                return time.perf_counter() - started
            time.sleep(0.01)
        self.fail("the daemon does not answer")
        raise AssertionError

    def stop(self) -> None:
        """Remove every container, then stop the daemon."""
        if self.daemon is None or self.daemon.poll() is not None:
            return
        names = subprocess.run(
            [str(BIN / "windlass"), "ps", "-aq"], env=self.environment, capture_output=True, text=True, check=False
        ).stdout.split()
        if names:
            subprocess.run(
                [str(BIN / "windlass"), "rm", "-f", *names], env=self.environment, capture_output=True, check=False
            )
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(30)

    # The steps ---------------------------------------------------------------------------------------------------

    def image(self) -> None:
        self.step("1  An image from real files: no registry is asked")
        self.run("windlass", "image", "bootstrap", "busybox")
        self.run("windlass", "images")
        self.run("windlass", "tag", "busybox:latest", "demo/app:v1")
        listed = self.run("windlass", "images", "--format", "{{.Repository}}:{{.Tag}}", quiet=True)
        self.prove("demo/app:v1" in listed, "an image was made from Debian's busybox, and tagged")

    def isolation(self) -> None:
        self.step("2  A container is alone")
        processes = self.run("windlass", "run", "--rm", "--hostname", "ship", "demo/app:v1", "sh", "-c", "hostname; ps")
        self.prove(processes.startswith("ship\n"), "it has its own host name")
        self.prove(
            "windlass" not in processes and "1 root" in processes, "it sees its own processes only, and is number 1"
        )
        status = self.run(
            "windlass", "run", "--rm", "demo/app:v1", "grep", "-E", "CapEff|Seccomp:", "/proc/self/status"
        )
        self.prove("00000000a80425fb" in status, "it has Docker's 14 capabilities and no others")
        self.prove("Seccomp:\t2" in status, "its system calls are filtered")

    def limits(self) -> None:
        self.step("3  Limits hold")
        limited = (
            "windlass",
            "run",
            "--rm",
            "-m",
            "64m",
            "--cpus",
            "0.5",
            "--pids-limit",
            "50",
            "--read-only",
            "--tmpfs",
            "/tmp",
        )
        shown = self.run(
            *limited,
            "--user",
            "1000:1000",
            "--cap-drop",
            "ALL",
            "demo/app:v1",
            "sh",
            "-c",
            "id -u; touch /x; touch /tmp/x && echo wrote /tmp",
        )
        self.prove(
            "1000" in shown.split() and "wrote /tmp" in shown,
            "user 1000, a read-only root and a writable /tmp, as asked",
        )
        self.run(
            "windlass", "run", "--name", "greedy", "-m", "16m", "demo/app:v1", "sh", "-c", "tail /dev/zero", check=False
        )
        killed = self.run("windlass", "inspect", "--format", "{{.State.OOMKilled}} {{.State.ExitCode}}", "greedy")
        self.prove(
            killed.split() == ["true", "137"],
            "a container that takes more memory than its limit is ended, and it is said why",
        )

    def network(self) -> None:
        self.step("4  A service on the network")
        self.run(
            "windlass",
            "run",
            "-d",
            "--name",
            "web",
            "-p",
            "127.0.0.1::80",
            "demo/app:v1",
            "sh",
            "-c",
            "echo hello from a container >/tmp/index.html; httpd -f -p 80 -h /tmp",
        )
        address = self.run("windlass", "port", "web", "80").strip()
        text = self._get(f"http://{address}/")
        print(f"  {text.strip()}")
        self.prove(text == "hello from a container\n", f"its port answers on {address.rpartition(':')[0]}")
        self.run("windlass", "ps")
        self.run("windlass", "exec", "web", "wget", "-qO-", "http://127.0.0.1/")

    def _get(self, url: str) -> str:
        last: Exception | None = None
        for _ in range(100):
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return str(answer.read().decode())
            except OSError as error:
                last = error
                time.sleep(0.02)
        self.fail(f"{url}: {last}")
        raise AssertionError

    def stranger(self) -> None:
        self.step("5  A program that was never written for Windlass")
        docker = next((path for path in ("/usr/local/bin/docker", "/usr/bin/docker") if os.path.exists(path)), None)
        if docker is None:
            print("  the docker client is not installed here; docker-py takes its place")
            code = "import docker; print(docker.from_env().containers.run('demo/app:v1', 'echo hello, docker-py'))"
            done = self.run(sys.executable, "-c", code)
            self.prove("hello, docker-py" in done, "docker-py runs a container through the socket")
            return
        self.environment["PATH"] = f"{os.path.dirname(docker)}:{self.environment['PATH']}"
        said = self.run("docker", "run", "--rm", "demo/app:v1", "echo", "hello, docker")
        self.prove(said == "hello, docker\n", "the docker client runs a container through the socket")
        self.run("docker", "ps")

    def crash(self) -> None:
        self.step("6  The daemon is killed; nothing is lost")
        self.run(
            "windlass",
            "run",
            "-d",
            "--name",
            "counter",
            "demo/app:v1",
            "sh",
            "-c",
            "i=0; while [ $i -lt 400 ]; do echo $i; i=$((i+1)); usleep 5000; done; exit 7",
        )
        assert self.daemon is not None
        print(f"{DIM}${RESET} kill -9 {self.daemon.pid}    # the daemon")
        self.daemon.kill()
        self.daemon.wait()
        time.sleep(0.3)  # the container goes on without it
        seconds = self.start_daemon()
        print(f"  a new daemon answered after {seconds * 1000:.0f} ms")
        code = self.run("windlass", "wait", "counter").strip()
        lines = self.run("windlass", "logs", "counter", quiet=True).split()
        self.prove(
            lines == [str(number) for number in range(400)], "400 lines of log, no gap and no repeat across the crash"
        )
        self.prove(code == "7", "the exit code is right")

    def speed(self) -> None:
        self.step("7  How fast")
        ours = self._median([str(BIN / "windlass"), "run", "--rm", "--network=none", "demo/app:v1", "true"])
        print(f"  windlass run --rm (client, daemon, container, clean-up): {ours * 1000:.1f} ms")
        create = {"Image": "demo/app:v1", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}
        life = self._api_life(json.dumps(create))
        print(f"  the same through the API, without starting a client:     {life * 1000:.1f} ms")
        self.proved.append(f"a whole container life takes {life * 1000:.1f} ms through the API")

    def _median(self, command: list[str]) -> float:
        samples = []
        for _ in range(10):
            started = time.perf_counter()
            subprocess.run(command, env=self.environment, check=True, capture_output=True)
            samples.append(time.perf_counter() - started)
        return statistics.median(samples)

    def _api_life(self, body: str) -> float:
        import http.client
        import socket

        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.socket))

        def call(method: str, path: str, payload: str | None = None) -> bytes:
            connection.request(method, path, payload, {"Content-Type": "application/json"} if payload else {})
            return connection.getresponse().read()

        samples = []
        for _ in range(20):
            started = time.perf_counter()
            container = json.loads(call("POST", "/containers/create", body))["Id"]
            for method, path in (("POST", f"{container}/start"), ("POST", f"{container}/wait"), ("DELETE", container)):
                call(method, f"/containers/{path}")
            samples.append(time.perf_counter() - started)
        return statistics.median(samples)

    def clean(self) -> None:
        self.step("8  Nothing is left")
        self.run("windlass", "rm", "-f", "web", "counter", "greedy")
        self.stop()
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        self.prove(not [m for m in mounts if m.startswith(str(self.root))], "no mount is left")
        mark = hashlib.sha256(str(self.root / "run").encode()).hexdigest()[:8]
        links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
        self.prove(mark not in links, "no interface is left")
        groups = [group for group in Path("/sys/fs/cgroup").glob("*") if (group / f"windlass-{mark}").exists()]
        self.prove(not groups, "no control group is left")


class ClusterDemo(Demo):
    """The same with a private cluster of one node."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.socket = root / "run" / "windlass.sock"
        self.environment["DOCKER_HOST"] = f"unix://{self.socket}"
        self.kubeconfig = root / "kubeconfig"
        self.environment["KUBECONFIG"] = str(self.kubeconfig)
        self.begun = 0.0

    def start_server(self) -> None:
        self.step("9  A Kubernetes cluster")
        self.begun = time.perf_counter()
        with (self.root / "daemon.log").open("ab") as log:
            command = [str(BIN / "windlass"), "server", f"--data-dir={self.root / 'server'}"]
            command += [f"--exec-root={self.root / 'run'}", f"--write-kubeconfig={self.kubeconfig}"]
            # Addresses that are nobody else's on this machine, for all we know.
            command += ["--https-listen-port=0", "--cluster-cidr=10.211.0.0/17", "--service-cidr=10.211.128.0/17"]
            self.daemon = subprocess.Popen([*command, "--node-name=demo"], stdout=log, stderr=log)
        self.until(self.kubeconfig.exists, "the server does not start")
        self.until(lambda: self._is_ready("nodes", "demo", "Ready"), "the node does not become ready")
        seconds = time.perf_counter() - self.begun
        if shutil.which("kubectl"):
            self.run("kubectl", "get", "nodes")
        self.prove(True, f"from nothing to a node that is Ready in {seconds:.2f} s")

    def until(self, check: Callable[[], bool], otherwise: str, seconds: float = 30) -> None:
        """Wait for something."""
        deadline = time.perf_counter() + seconds
        while not check():
            if time.perf_counter() > deadline or (self.daemon is not None and self.daemon.poll() is not None):
                self.fail(otherwise)
            time.sleep(0.02)

    def api(self, method: str, path: str, body: object = None) -> Any:
        """One request to the API server as its administrator."""
        import ssl

        import yaml

        entry = yaml.safe_load(self.kubeconfig.read_text())["clusters"][0]["cluster"]
        tls = self.root / "server" / "tls"
        context = ssl.create_default_context(cafile=str(tls / "ca.crt"))
        context.load_cert_chain(tls / "admin.crt", tls / "admin.key")
        request = urllib.request.Request(entry["server"] + path, method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
            request.add_header("Content-Type", kind)
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            return json.load(answer)

    def _is_ready(self, plural: str, name: str, condition: str, prefix: str = "/api/v1") -> bool:
        try:
            found = self.api("GET", f"{prefix}/{plural}/{name}")
        except OSError:
            return False
        conditions = found.get("status", {}).get("conditions") or []
        return any(each["type"] == condition and each["status"] == "True" for each in conditions)

    def deploy(self) -> None:
        self.step("10  A Deployment behind a Service")
        import yaml

        self.run("windlass", "image", "bootstrap", "busybox", quiet=True)
        manifest = Path(__file__).parent.parent / "examples" / "kubernetes" / "web.yaml"
        started = time.perf_counter()
        if shutil.which("kubectl"):
            self.run("kubectl", "apply", "-f", str(manifest))
        else:
            for each in yaml.safe_load_all(manifest.read_text()):
                group = "/apis/apps/v1" if each["apiVersion"] == "apps/v1" else "/api/v1"
                self.api("POST", f"{group}/namespaces/default/{each['kind'].lower()}s", each)
        apps = "/apis/apps/v1/namespaces/default"
        self.until(lambda: self._served(apps) == 3, "the Deployment does not get its pods")
        self.until(lambda: self._is_ready("pods", "client", "Ready", "/api/v1/namespaces/default"), "no client")
        client = self._container("client")
        answers: set[str] = set()
        self.until(lambda: self._asked(client, answers) >= 3, "the Service does not answer by its name")
        seconds, whole = time.perf_counter() - started, time.perf_counter() - self.begun
        if shutil.which("kubectl"):
            self.run("kubectl", "get", "deployment,pods,service")
        self.prove(True, f"3 pods answer through the Service by its DNS name {seconds:.2f} s after the manifest")
        self.prove(True, f"all of that took {whole:.2f} s from the start of the server")
        change = {"spec": {"template": {"metadata": {"annotations": {"example.com/version": "2"}}}}}
        self.api("PATCH", f"{apps}/deployments/web", change)
        lost = asked = 0
        while self._updated(apps) < 3:
            asked += 1
            lost += not self._ask(client)
        self.prove(asked > 0 and not lost, f"a rolling update lost none of {asked} requests")

    def _served(self, apps: str) -> int:
        return int(self.api("GET", f"{apps}/deployments/web").get("status", {}).get("availableReplicas") or 0)

    def _updated(self, apps: str) -> int:
        found = self.api("GET", f"{apps}/deployments/web")
        status = found.get("status", {})
        if status.get("observedGeneration", 0) < found["metadata"]["generation"] or status.get("replicas") != 3:
            return 0
        return min(int(status.get(name) or 0) for name in ("updatedReplicas", "availableReplicas"))

    def _container(self, pod: str) -> str:
        found = self.api("GET", f"/api/v1/namespaces/default/pods/{pod}")
        return str(found["status"]["containerStatuses"][0]["containerID"].removeprefix("windlass://"))

    def _ask(self, client: str) -> str:
        command = [str(BIN / "windlass"), "exec", client, "wget", "-q", "-O", "-", "http://web/"]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False).stdout.strip()

    def _asked(self, client: str, answers: set[str]) -> int:
        answers.add(self._ask(client))
        return len(answers - {""})

    def clean(self) -> None:
        self.step("11  Nothing is left of it")
        for path in ("/apis/apps/v1/namespaces/default/deployments/web", "/api/v1/namespaces/default/pods/client"):
            self.api("DELETE", path)
        pods = "/api/v1/namespaces/default/pods"
        self.until(lambda: not self.api("GET", pods)["items"], "the pods do not go")
        self.stop()
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        self.prove(not [m for m in mounts if m.startswith(str(self.root))], "no mount is left")
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        mark = hashlib.sha256(str(self.root / "server" / "agent").encode()).hexdigest()[:8]
        self.prove(mark not in tables, "no packet filter's table is left")


def main() -> int:
    """Run the steps on a private root and say what was proved."""
    if os.geteuid() != 0:
        print("The demo isolates real processes: run it as root.", file=sys.stderr)
        return 1
    root = Path(tempfile.mkdtemp(prefix="windlass-demo-"))
    demo = Demo(root)
    try:
        seconds = demo.start_daemon()
        print(
            f"{BOLD}windlass daemon{RESET} answers after {seconds * 1000:.0f} ms  {DIM}(everything below {root}){RESET}"
        )
        for step in (
            demo.image,
            demo.isolation,
            demo.limits,
            demo.network,
            demo.stranger,
            demo.crash,
            demo.speed,
            demo.clean,
        ):
            step()
    finally:
        demo.stop()
        shutil.rmtree(root, ignore_errors=True)
    root = Path(tempfile.mkdtemp(prefix="windlass-demo-"))
    cluster = ClusterDemo(root)
    try:
        for step in (cluster.start_server, cluster.deploy, cluster.clean):
            step()
    finally:
        cluster.stop()
        shutil.rmtree(root, ignore_errors=True)
    print(f"\n{BOLD}This demo proved:{RESET}")
    for what in demo.proved + cluster.proved:
        print(f"  {GREEN}✓{RESET} {what}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
