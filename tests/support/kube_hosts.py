"""A cluster over several hosts: network namespaces on one cable, each with a name, an address and roots of its own.

    lan (a bridge, 192.0.2.0/24)
     ├─ server   .1   windlass server, with or without a node
     ├─ n1       .11  windlass agent
     └─ n2       .12  windlass agent

Namespaces have no names: they are gone when their last process and descriptor are.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from support.private_network import inside, new_namespace
from windlass.kernel.netlink import address, link, route
from windlass.kernel.netlink.connection import NetlinkSocket

NETWORK = ipaddress.IPv4Network("192.0.2.0/24")
PORT = 6443
WINDLASS = str(Path(sys.executable).parent / "windlass")
IMAGE = "busybox:1"
SERVE = r"""
mkdir -p /w/cgi-bin; hostname > /w/name
printf '#!/bin/sh\necho; echo $REMOTE_ADDR' > /w/cgi-bin/asker; chmod +x /w/cgi-bin/asker
exec httpd -f -p 8080 -h /w
"""
"""A web server on 8080: /name is the pod's name, /cgi-bin/asker the address of who asks."""
Object = dict[str, Any]


class Host:
    """A machine of the cluster."""

    def __init__(self, root: Path, name: str, address: str, namespace: int) -> None:
        self.root, self.name, self.address, self.namespace = root, name, address, namespace
        self.exec_root = root / "x"
        self.log = root / "log"
        self.process: subprocess.Popen[bytes] | None = None
        root.mkdir()

    def command(self, *words: str) -> list[str]:
        """A command line in the host's network, under its name."""
        named = 'echo "$0" > /proc/sys/kernel/hostname; exec "$@"'
        return [
            "nsenter",
            f"--net=/proc/self/fd/{self.namespace}",
            *("unshare", "--uts", "sh", "-c", named, self.name, *words),
        ]

    def start(self, *words: str) -> None:
        """Start a program, which goes on in the background."""
        assert self.process is None or self.process.poll() is not None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(*words), stdout=log, stderr=log, pass_fds=[self.namespace])

    def run(self, *words: str, stdin: bytes | None = None, check: bool = True, **environment: str) -> str:
        """Run a command to its end; its output and errors."""
        done = subprocess.run(
            self.command(*words),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[self.namespace],
            env=os.environ | environment,
            timeout=120,
            check=False,
        )
        text = done.stdout.decode(errors="replace")
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {' '.join(words)}:\n{text}\n{self.tail()}")
        return text

    def import_image(self, archive: bytes, name: str) -> None:
        """Make an image of a root file system, as soon as the host's engine is there."""
        socket = self.exec_root / "windlass.sock"
        until(socket.exists, 30, self.tail)
        self.run("docker", "-H", f"unix://{socket}", "import", "-", name, stdin=archive)

    def exec(self, pod: str, *words: str) -> str:
        """Run a command in a pod's container, by the engine of its host."""
        docker = ("docker", "-H", f"unix://{self.exec_root / 'windlass.sock'}")
        found = self.run(*docker, "ps", "-q", "--filter", f"label=io.kubernetes.pod.name={pod}").split()
        assert found, self.tail()
        return self.run(*docker, "exec", found[0], *words)

    def tail(self) -> str:
        """The end of the host's log."""
        return f"--- {self.name}\n" + "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End what was started."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(30)

    def cut(self, *, off: bool) -> None:
        """Pull the cable, or plug it in again."""
        inside(self.namespace, _set_up, not off)


def _set_up(up: bool) -> None:
    with NetlinkSocket() as netlink:
        netlink.request(link.set_link("eth0", up=up))


class KubeHosts:
    """The machines and the cluster on them."""

    def __init__(self, root: Path, lan: int) -> None:
        self.root = root
        self._lan = lan
        self._undo = contextlib.ExitStack()
        self.hosts: dict[str, Host] = {}
        self.front = "server"
        inside(lan, _make_lan)

    def add(self, name: str, number: int) -> Host:
        """A machine on the cable with the address of this number."""
        namespace = self._undo.enter_context(new_namespace())
        own = ipaddress.IPv4Interface((NETWORK.network_address + number, NETWORK.prefixlen))
        inside(self._lan, _plug_in, f"h{number}", namespace)
        inside(namespace, _configure, own)
        host = self.hosts[name] = Host(self.root / name, name, str(own.ip), namespace)
        return host

    # -- the cluster

    @property
    def server(self) -> Host:
        """The machine of the server that kubectl and new agents speak to."""
        return self.hosts[self.front]

    @property
    def url(self) -> str:
        """By which agents reach it."""
        return f"https://{self.server.address}:{PORT}"

    @property
    def token(self) -> str:
        """The node token."""
        return (self.server.root / "data" / "token").read_text().strip()

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.server.root / "kubeconfig"

    def start_server(self, *flags: str, node: bool = False, name: str = "server", number: int = 1) -> None:
        """Start a server and wait until it is ready. Several share the certificates of the first one."""
        host = self.hosts.get(name) or self.add(name, number)
        tls = host.root / "data" / "tls"
        if host is not self.server and not tls.exists():
            shutil.copytree(self.server.root / "data" / "tls", tls)
        begin = host.log.stat().st_size if host.log.exists() else 0
        part = [f"--node-name={name}", f"--exec-root={host.exec_root}"] if node else ["--disable-agent"]
        host.start(
            WINDLASS,
            "server",
            f"--data-dir={host.root / 'data'}",
            f"--https-listen-port={PORT}",
            *(() if node else ("--bind-address=0.0.0.0",)),
            f"--write-kubeconfig={host.root / 'kubeconfig'}",
            *part,
            *flags,
        )
        until(lambda: " ready at https://" in host.log.read_bytes()[begin:].decode(), 30, host.tail)

    def start_agent(self, host: Host, *flags: str, token: str | None = None) -> None:
        """Start an agent; it joins in the background."""
        words = [
            WINDLASS,
            "agent",
            f"--server={self.url}",
            f"--data-dir={host.root / 'data'}",
            f"--exec-root={host.exec_root}",
        ]
        host.start(*words, f"--token={self.token if token is None else token}", *flags)

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl as the administrator."""
        binary = shutil.which("kubectl")
        assert binary
        data = stdin.encode() if stdin is not None else None
        return self.server.run(
            binary, *words, stdin=data, check=check, KUBECONFIG=str(self.kubeconfig), HOME=str(self.root)
        )

    def get(self, *words: str) -> Object:
        """An object, or a list."""
        found: Object = json.loads(self.kubectl("get", *words, "-o", "json"))
        return found

    def make_pod(self, name: str, node: str, script: str = SERVE, **spec: Any) -> None:
        """A pod on a node, with one container of a shell script."""
        container = {"name": "c", "image": IMAGE, "command": ["sh", "-c", script], **spec.pop("container", {})}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 1,
                "tolerations": [{"operator": "Exists"}],
                "containers": [container],
                **spec,
            },
        }
        self.kubectl("create", "-f", "-", stdin=json.dumps(body))

    def address_of(self, pod: str) -> str:
        """A pod's address, as soon as it runs."""
        self.kubectl("wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=30s")
        return str(self.get("pod", pod)["status"]["podIP"])

    def condition(self, node: str, kind: str = "Ready") -> str:
        """A node's condition, "" where it or the node is not there."""
        text = self.kubectl(
            "get", "node", node, "-o", f"jsonpath={{.status.conditions[?(@.type=='{kind}')].status}}", check=False
        )
        return text if text in ("True", "False", "Unknown") else ""

    def wait_for_nodes(self, *names: str, seconds: float = 60) -> None:
        """Wait until nodes are ready."""
        until(lambda: all(self.condition(name) == "True" for name in names), seconds, self.tails)

    def tails(self) -> str:
        """The ends of all logs."""
        return "\n".join(host.tail() for host in self.hosts.values())

    def remove_pods(self) -> None:
        """Delete all pods and wait until they are gone: their containers outlive agents."""
        self.kubectl("delete", "pods", "--all-namespaces", "--all", "--grace-period=1", "--timeout=60s", check=False)

    def close(self) -> None:
        """End all programs, then all machines."""
        for host in reversed(self.hosts.values()):
            host.stop()
        self._undo.close()

    def kill(self) -> None:
        """The same without asking."""
        for host in self.hosts.values():
            host.stop(signal.SIGKILL)


def _make_lan() -> None:
    with NetlinkSocket() as netlink:
        netlink.request(link.new_bridge("lan"))


def _plug_in(name: str, namespace: int) -> None:
    with NetlinkSocket() as netlink:
        netlink.request(
            link.new_veth(name, link.VethPeer("eth0", namespace), master=link.read_link(netlink, "lan").index)
        )


def _configure(own: ipaddress.IPv4Interface) -> None:
    with NetlinkSocket() as netlink:
        index = link.read_link(netlink, "eth0").index
        netlink.request(
            link.set_link(index, up=True),
            address.new_address(index, own),
            # A way out, though nobody is there: machines have one.
            route.new_route(route.default_network(4), gateway=NETWORK.network_address + 254),
        )


@contextlib.contextmanager
def kube_hosts(root: Path) -> Iterator[KubeHosts]:
    """Machines below `root`; the programs are ended afterwards."""
    with new_namespace() as lan:
        hosts = KubeHosts(root, lan)
        try:
            yield hosts
            hosts.remove_pods()
            hosts.close()
        finally:
            hosts.kill()


def until(check: Callable[[], Any], seconds: float, explain: Callable[[], str] = lambda: "") -> Any:
    """What a check gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"it does not come\n{explain()}"
        time.sleep(0.1)
    return found
