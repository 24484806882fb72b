"""Logs, exec, attach, cp and port-forward of real pods, by kubectl over both protocols and by Python's client."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import kubernetes
import pytest
from kubernetes.stream import portforward, stream

from support.kube_pods import Pods, shell
from support.kubectl_streams import PROTOCOLS, Terminal, ask, forwarded, read_until, run, running

SERVE = "mkdir -p /w; echo home > /w/index.html; exec httpd -f -p {} -h /w"
both = pytest.mark.parametrize("environment", PROTOCOLS.values(), ids=PROTOCOLS)


@pytest.fixture
def core(pods: Pods) -> kubernetes.client.CoreV1Api:
    """Python's client. Streams replace its requests, so each gets one of its own."""
    return pods.cluster.core


def sleeper(pods: Pods, name: str = "p", *more: dict[str, object]) -> None:
    """A pod that does nothing."""
    pods.make(name, shell("trap 'exit 0' TERM; while true; do sleep 0.2; done"), *more)
    pods.ready(name)


# Logs ----------------------------------------------------------------------------------------------------------------


def test_a_log_is_read_as_asked(pods: Pods) -> None:
    pods.make("p", shell("for i in 1 2 3; do echo line $i; done; echo bad >&2; sleep 1000"))
    pods.ready("p")
    assert pods.kubectl("logs", "p") == "line 1\nline 2\nline 3\nbad\n"
    assert pods.kubectl("logs", "p", "--tail=2") == "line 3\nbad\n"
    assert pods.kubectl("logs", "p", "--limit-bytes=8") == "line 1\nl"
    assert pods.kubectl("logs", "p", "--since-time=2099-01-01T00:00:00Z") == ""
    stamped = pods.kubectl("logs", "p", "--timestamps", "--since=1h").splitlines()
    moment, _, text = stamped[0].partition(" ")
    assert text == "line 1" and len(moment) == len("2026-01-01T00:00:00.000000000Z") and moment.endswith("Z")
    path = f"/api/v1/namespaces/{pods.namespace}/pods/p/log"
    assert pods.cluster.request("GET", f"{path}?stream=Stderr") == (200, "bad\n")
    code, body = pods.cluster.request("GET", f"{path}?stream=Stderr&tailLines=1")
    assert code == 422 and "mutually exclusive" in json.loads(body)["message"]
    code, body = pods.cluster.request("GET", f"{path}?tailLines=-1")
    wanted = 'PodLogOptions "p" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0'
    assert (code, json.loads(body)["message"]) == (422, wanted)


def test_a_followed_log_ends_with_its_container(pods: Pods) -> None:
    pods.make("p", shell("echo begin; while ! test -e /end; do sleep 0.05; done; echo end"), restartPolicy="Never")
    pods.ready("p")
    with running(pods.cluster, "-n", pods.namespace, "logs", "-f", "p") as following:
        read_until(following, b"begin\n")
        pods.kubectl("exec", "p", "--", "touch", "/end")
        assert following.stdout
        assert following.stdout.read() == b"end\n"
        assert following.wait(5) == 0


def test_the_log_of_the_run_before_is_kept(pods: Pods) -> None:
    script = (
        'if test -e /d/ran; then echo again; sleep 1000; else touch /d/ran; seq 1 60000; echo "last words"; exit 1; fi'
    )
    mounts = [{"name": "d", "mountPath": "/d"}]
    pods.make("p", shell(script, volumeMounts=mounts), volumes=[{"name": "d", "emptyDir": {}}])
    pods.until(lambda: pods.get("p")["status"].get("containerStatuses", [{}])[0].get("restartCount") == 1)
    pods.ready("p")
    assert pods.kubectl("logs", "p") == "again\n"
    before = pods.kubectl("logs", "p", "--previous").splitlines()
    assert before == [*(str(each) for each in range(1, 60001)), "last words"]
    sleeper(pods, "q")
    refused = pods.kubectl("logs", "q", "--previous", check=False)
    assert 'previous terminated container "c" in pod "q" not found' in refused


def test_logs_of_many_containers_come_together(pods: Pods) -> None:
    pods.make("a", {**shell("echo one; sleep 1000"), "name": "x"}, {**shell("echo two; sleep 1000"), "name": "y"})
    pods.ready("a")
    label = ("-l", "app=a", "--all-containers", "--prefix")
    assert sorted(pods.kubectl("logs", *label).splitlines()) == ["[pod/a/x] one", "[pod/a/y] two"]
    code, body = pods.cluster.request("GET", f"/api/v1/namespaces/{pods.namespace}/pods/a/log")
    wanted = "a container name must be specified for pod a, choose one of: [x y]"
    assert (code, json.loads(body)["message"]) == (400, wanted)
    code, body = pods.cluster.request("GET", f"/api/v1/namespaces/{pods.namespace}/pods/a/log?container=z")
    assert (code, json.loads(body)["message"]) == (400, "container z is not valid for pod a")


def test_what_has_not_begun_says_why(pods: Pods) -> None:
    pods.make("p", {"name": "c", "image": "registry.invalid/none:1", "imagePullPolicy": "IfNotPresent"})
    pods.until(lambda: "can't be pulled" in pods.kubectl("logs", "p", check=False) or _backs_off(pods))


def _backs_off(pods: Pods) -> bool:
    return "trying and failing to pull image" in pods.kubectl("logs", "p", check=False)


# Exec ----------------------------------------------------------------------------------------------------------------


@both
def test_a_command_has_streams_and_an_exit_code(pods: Pods, environment: dict[str, str]) -> None:
    sleeper(pods)
    words = ("-n", pods.namespace, "exec", "-i", "p", "--", "sh", "-c", "cat; echo bad >&2; exit 7")
    data = os.urandom(3_000_000)
    code, output, errors = run(pods.cluster, *words, stdin=data, environment=environment)
    assert code == 7
    assert hashlib.sha256(output).digest() == hashlib.sha256(data).digest()
    assert errors == b"bad\ncommand terminated with exit code 7\n"
    code, output, _ = run(pods.cluster, "-n", pods.namespace, "exec", "p", "--", "true", environment=environment)
    assert (code, output) == (0, b"")
    words = ("-n", pods.namespace, "exec", "p", "--", "/no/such")
    code, _, errors = run(pods.cluster, *words, environment=environment)
    assert code == 1 and b"error executing command in container" in errors and b"no such file" in errors


@both
def test_a_shell_on_a_terminal_follows_its_size(pods: Pods, environment: dict[str, str]) -> None:
    sleeper(pods)
    words = ("-n", pods.namespace, "exec", "-it", "p", "--", "sh")
    terminal = Terminal(pods.cluster, *words, rows=40, columns=101, environment=environment)
    try:
        terminal.expect("# ")
        terminal.type("stty size\r")
        terminal.expect("40 101")
        terminal.resize(50, 132)
        time.sleep(0.3)
        terminal.type("stty size\r")
        terminal.expect("50 132")
        # No keys detach: these go to the shell, the last of them begins a new line.
        terminal.type("\x10\x11\x03echo still $((40 + 2))\r")
        terminal.expect("still 42")
        terminal.type("exit 5\r")
        assert terminal.wait() == 5
    finally:
        terminal.close()


def test_commands_need_a_container_that_runs(pods: Pods) -> None:
    pods.make("done", shell("true"), restartPolicy="Never")
    pods.wait("done", "Succeeded")
    path = f"/api/v1/namespaces/{pods.namespace}/pods/done/exec?command=ls&stdout=true"
    upgrade = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}
    code, body = pods.cluster.request("POST", path, **upgrade)
    assert code == 500 and 'container not found ("c")' in json.loads(body)["message"]
    sleeper(pods)
    path = f"/api/v1/namespaces/{pods.namespace}/pods/p/exec?command=ls"
    code, body = pods.cluster.request("POST", f"{path}&stdout=true")
    assert (code, json.loads(body)["message"]) == (400, "Upgrade request required")
    code, body = pods.cluster.request("POST", path, **upgrade)
    assert code == 400 and "at least 1 of stdin, stdout, stderr" in body
    code, body = pods.cluster.request("POST", f"{path}&stdout=true", **(upgrade | {"X-Stream-Protocol-Version": "v9"}))
    assert code == 403 and "unable to negotiate protocol" in body


def test_who_may_only_get_may_not_run_commands(pods: Pods) -> None:
    sleeper(pods)
    pods.kubectl("create", "serviceaccount", "reader")
    pods.kubectl("create", "role", "reader", "--verb=get", "--resource=pods,pods/exec,pods/log")
    pods.kubectl("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={pods.namespace}:reader")
    user = f"--as=system:serviceaccount:{pods.namespace}:reader"
    pods.until(lambda: pods.kubectl("logs", "p", user, check=False) == "")
    assert 'cannot create resource "pods/exec"' in pods.kubectl("exec", "p", user, "--", "ls", check=False)


def test_python_runs_commands(pods: Pods, core: kubernetes.client.CoreV1Api) -> None:
    sleeper(pods)
    arguments = {"command": ["sh", "-c", "echo out; echo bad >&2"], "stdout": True, "stderr": True, "tty": False}
    assert sorted(stream(core.connect_get_namespaced_pod_exec, "p", pods.namespace, **arguments).split()) == [
        "bad",
        "out",
    ]
    shell_stream = stream(
        pods.cluster.core.connect_get_namespaced_pod_exec,
        "p",
        pods.namespace,
        command=["sh"],
        stdin=True,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    shell_stream.write_stdin("echo hello; exit 3\n")
    shell_stream.run_forever(timeout=10)
    assert shell_stream.read_stdout() == "hello\n"
    assert shell_stream.returncode == 3
    shell_stream.close()


# Attach --------------------------------------------------------------------------------------------------------------


@both
def test_attached_clients_see_and_feed_a_container(pods: Pods, environment: dict[str, str]) -> None:
    pods.make("p", shell("while read line; do echo got $line; done; echo over; exit 4", stdin=True, stdinOnce=True))
    pods.ready("p")
    words = ("-n", pods.namespace, "attach", "-i", "p")
    code, output, _ = run(pods.cluster, *words, stdin=b"one\ntwo\n", environment=environment)
    assert (code, output) == (0, b"got one\ngot two\nover\n")


def test_a_pod_is_run_with_a_terminal_and_removed(pods: Pods) -> None:
    words = ("-n", pods.namespace, "run", "t", "-it", "--rm", "--image=busybox:1", "--restart=Never", "--", "sh")
    terminal = Terminal(pods.cluster, *words)
    try:
        terminal.expect("# ", 30)
        terminal.type("tty; echo $((6 * 7))\r")
        terminal.expect("/dev/pts/0")
        terminal.expect("42")
        terminal.type("exit 0\r")
        terminal.expect('pod "t" deleted', 30)
        assert terminal.wait() == 0
    finally:
        terminal.close()
    words = ("-n", pods.namespace, "run", "u", "-i", "--rm", "--image=busybox:1", "--restart=Never", "-q", "--")
    code, output, _ = run(pods.cluster, *words, "sh", "-c", "cat; exit 9", stdin=b"piped\n")
    assert (code, output) == (9, b"piped\n")


def test_debugging_containers_see_what_they_debug(pods: Pods) -> None:
    sleeper(pods)
    words = ("debug", "p", "--image=busybox:1", "--target=c", "-c", "debugger", "--")
    pods.kubectl(*words, "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline; echo; sleep 1000")
    pods.until(lambda: "while true; do" in pods.kubectl("logs", "p", "-c", "debugger", check=False))
    assert pods.kubectl("exec", "p", "-c", "debugger", "--", "echo", "here") == "here\n"


# Files ---------------------------------------------------------------------------------------------------------------


@both
def test_files_are_copied_both_ways(pods: Pods, tmp_path: Path, environment: dict[str, str]) -> None:
    sleeper(pods)
    data = os.urandom(5_000_000)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "data").write_bytes(data)
    (tmp_path / "in" / "name with blanks").write_text("x")
    code, _, errors = run(
        pods.cluster, "-n", pods.namespace, "cp", str(tmp_path / "in"), "p:/tmp/d", environment=environment
    )
    assert code == 0, errors
    assert hashlib.md5(data).hexdigest() in pods.kubectl("exec", "p", "--", "md5sum", "/tmp/d/data")
    code, _, errors = run(
        pods.cluster, "-n", pods.namespace, "cp", "p:/tmp/d", str(tmp_path / "out"), environment=environment
    )
    assert code == 0, errors
    assert (tmp_path / "out" / "data").read_bytes() == data
    assert (tmp_path / "out" / "name with blanks").read_text() == "x"


# Ports ---------------------------------------------------------------------------------------------------------------


@both
def test_ports_are_forwarded(pods: Pods, environment: dict[str, str]) -> None:
    # What listens on the loopback alone is reached, too.
    pods.make(
        "p",
        {**shell(SERVE.format(8080)), "name": "web"},
        {**shell(SERVE.format("127.0.0.1:7000")), "name": "local"},
        {**shell("exec nc -ll -p 7001 -e cat"), "name": "echo"},
    )
    pods.ready("p")
    name = ("-n", pods.namespace)
    with forwarded(pods.cluster, *name, "pod/p", port=8080, environment=environment) as port:
        for _ in range(3):
            assert ask(port, b"GET /index.html HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nhome\n")
    with forwarded(pods.cluster, *name, "pod/p", port=7000, environment=environment) as port:
        assert b"home" in ask(port, b"GET / HTTP/1.0\r\n\r\n")
    with forwarded(pods.cluster, *name, "pod/p", port=7001, environment=environment) as port:
        data = os.urandom(2_000_000)
        assert ask(port, data) == data
    pods.kubectl("expose", "pod", "p", "--port=80", "--target-port=8080")
    with forwarded(pods.cluster, *name, "svc/p", port=80, environment=environment) as port:
        assert b"home" in ask(port, b"GET / HTTP/1.0\r\n\r\n")
    with running(pods.cluster, *name, "port-forward", "pod/p", ":9", environment=environment) as process:
        port = int(read_until(process, b"Forwarding from 127.0.0.1:").partition(b"127.0.0.1:")[2].split()[0])
        assert ask(port, b"x") == b""
        assert b"connection refused" in read_until(process, b"connection refused")


def test_python_forwards_ports(pods: Pods, core: kubernetes.client.CoreV1Api) -> None:
    pods.make("p", shell(SERVE.format(8080)))
    pods.ready("p")
    opened = portforward(core.connect_get_namespaced_pod_portforward, "p", pods.namespace, ports="8080,9")
    http = opened.socket(8080)
    http.setblocking(True)
    http.sendall(b"GET / HTTP/1.0\r\n\r\n")
    found = b""
    while data := http.recv(4096):
        found += data
    assert found.endswith(b"home\n")
    http.close()
    pods.until(lambda: "connection refused" in (opened.error(9) or ""))
    opened.close()


# Proxies -------------------------------------------------------------------------------------------------------------


def test_pods_services_and_nodes_are_reached_through_the_server(pods: Pods) -> None:
    page = '<a href="/x">x</a><img src=\'/y.png\' alt="/z">'
    script = f"mkdir -p /w/cgi-bin; echo '{page}' > /w/p.html; echo home > /w/index.html\n"
    script = script.replace("'/y.png'", "'\\''/y.png'\\''")
    script += (
        'printf "#!/bin/sh\\necho Content-Type: text/plain; echo; cat; env" > /w/cgi-bin/e; chmod +x /w/cgi-bin/e\n'
    )
    script += "exec httpd -f -p 8080 -h /w"
    pods.make("p", shell(script, ports=[{"containerPort": 8080, "name": "http"}]))
    pods.ready("p")
    pods.kubectl("expose", "pod", "p", "--port=80", "--target-port=8080", "--name=s")
    base = f"/api/v1/namespaces/{pods.namespace}"
    assert pods.cluster.request("GET", f"{base}/pods/p/proxy/") == (200, "home\n")
    assert pods.cluster.request("GET", f"{base}/pods/http:p:8080/proxy/index.html") == (200, "home\n")
    for name in ("s", "s:80", "http:s:80"):
        pods.until(lambda name=name: pods.cluster.request("GET", f"{base}/services/{name}/proxy/") == (200, "home\n"))
    code, body = pods.cluster.request("POST", f"{base}/pods/p:8080/proxy/cgi-bin/e?a=b%20c", b"posted", X_Mine="1")
    assert code == 200 and body.startswith("posted")
    assert "QUERY_STRING=a=b%20c" in body and "HTTP_AUTHORIZATION" not in body
    _, body = pods.cluster.request("GET", f"{base}/pods/p:8080/proxy/p.html")
    prefix = f"{base}/pods/p:8080/proxy"
    assert f'<a href="{prefix}/x">' in body and f"src='{prefix}/y.png'" in body and 'alt="/z"' in body
    code, body = pods.cluster.request("GET", f"{base}/services/s:81/proxy/")
    assert (code, json.loads(body)["message"]) == (503, 'no endpoints available for service "s:81"')
    code, body = pods.cluster.request("GET", f"{base}/pods/p:9/proxy/")
    assert (code, json.loads(body)["reason"]) == (503, "ServiceUnavailable")
    assert pods.cluster.request("GET", "/api/v1/nodes/n1/proxy/healthz") == (200, "ok")
    assert pods.cluster.request("GET", "/api/v1/nodes/n1/proxy/nothing")[0] == 404
