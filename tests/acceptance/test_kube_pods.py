"""Pods on a real node: what their manifests ask for is what their containers get, and what people read is true."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from support.kube_pods import Object, Pods, shell


def test_variables_and_volumes_come_from_everywhere(pods: Pods) -> None:
    pods.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "one", "b.txt": "two"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": "hidden"}},
    )
    script = """
        echo "A=$A P=$P NODE=$NODE IP=$IP POD=$POD LIMIT=$LIMIT EXPANDED=$EXPANDED PRE=$PRE_a"
        echo "SVC=$KUBERNETES_SERVICE_PORT"
        cat /m/b.txt /m/sub/x /s/password /d/labels /p/ns; echo; stat -c '%a' /s/..data/password
        cat /etc/resolv.conf /etc/hosts; hostname; touch /m/new 2>&1; touch /e/new && echo wrote
        cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; ls /var/run/secrets/kubernetes.io/serviceaccount
    """
    container = shell(
        script,
        env=[
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "a"}}},
            {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "EXPANDED", "value": "$(A)-$(NOBODY)-$$(A)"},
        ],
        envFrom=[{"prefix": "PRE_", "configMapRef": {"name": "m"}}],
        resources={"limits": {"memory": "64Mi"}},
        volumeMounts=[
            {"name": "m", "mountPath": "/m"},
            {"name": "s", "mountPath": "/s"},
            {"name": "d", "mountPath": "/d"},
            {"name": "p", "mountPath": "/p"},
            {"name": "e", "mountPath": "/e"},
        ],
    )
    volumes: list[Object] = [
        {
            "name": "m",
            "configMap": {"name": "m", "items": [{"key": "b.txt", "path": "b.txt"}, {"key": "a", "path": "sub/x"}]},
        },
        {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "d", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {
            "name": "p",
            "projected": {
                "sources": [
                    {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
                    {"secret": {"name": "s"}},
                ]
            },
        },
        {"name": "e", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    pods.make("v", container, restartPolicy="Never", volumes=volumes)
    status = pods.wait("v", "Succeeded")["status"]
    log = pods.log("v")
    address = status["podIP"]
    wanted = f"A=one P=hidden NODE=n1 IP={address} POD=v LIMIT=64 EXPANDED=one-$(NOBODY)-$(A) PRE=one\nSVC=443\n"
    assert wanted in log
    assert f'twoonehiddenapp="v"{pods.namespace}\n400\n' in log
    assert f"search {pods.namespace}.svc.cluster.local svc.cluster.local cluster.local" in log
    dns = pods.kubectl("get", "service", "kube-dns", "-n", "kube-system", "-o", "jsonpath={.spec.clusterIP}")
    assert f"nameserver {dns}\n" in log and "options ndots:5" in log and f"{address}\tv\n" in log
    assert "Read-only file system" in log and "wrote" in log
    assert f"{pods.namespace}ca.crt" in log.replace("\n", "") and "token" in log


def test_volumes_follow_their_config_maps(pods: Pods) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "old", "gone": "x"}}
    pods.apply(config)
    script = "while ! grep -q new /m/k; do sleep 0.1; done; ls /m; sleep 1000"
    pods.make(
        "f",
        shell(script, volumeMounts=[{"name": "m", "mountPath": "/m"}]),
        volumes=[{"name": "m", "configMap": {"name": "m"}}],
    )
    pods.ready("f")
    pods.apply({**config, "data": {"k": "new"}})
    deadline = time.monotonic() + 10
    while pods.log("f") != "k\n":
        assert time.monotonic() < deadline, pods.log("f")
        time.sleep(0.1)


def test_what_crashes_is_started_again_later_each_time(pods: Pods) -> None:
    pods.make("crash", shell("echo last words > /dev/termination-log; exit 3"))
    status = pods.wait("crash", "CrashLoopBackOff")["status"]
    container = status["containerStatuses"][0]
    assert status["phase"] == "Running"
    ended = container["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", "last words\n")
    assert "back-off 10s restarting failed container=c" in container["state"]["waiting"]["message"]
    assert container["restartCount"] == 1
    assert "Back-off restarting failed container c in pod crash_" in pods.events("crash")


@pytest.mark.parametrize(
    ("policy", "script", "phase"),
    [("Never", "exit 0", "Succeeded"), ("Never", "exit 1", "Failed"), ("OnFailure", "true", "Succeeded")],
)
def test_a_pod_ends_as_its_policy_says(pods: Pods, policy: str, script: str, phase: str) -> None:
    pods.make("p", shell(script), restartPolicy=policy)
    status = pods.wait("p", phase)["status"]
    conditions = {each["type"]: each for each in status["conditions"]}
    assert conditions["Ready"]["status"] == "False"
    assert conditions["Ready"]["reason"] == ("PodCompleted" if phase == "Succeeded" else "PodFailed")
    assert status["containerStatuses"][0]["state"]["terminated"]["containerID"].startswith("windlass://")


def test_init_containers_and_sidecars_go_first_and_in_order(pods: Pods) -> None:
    mounts = [{"name": "d", "mountPath": "/d"}]
    sidecar = {
        "name": "side",
        "restartPolicy": "Always",
        "command": ["sh", "-c", "echo side >> /d/l; sleep 1000"],
        "volumeMounts": mounts,
        "startupProbe": {"exec": {"command": ["grep", "-q", "side", "/d/l"]}, "periodSeconds": 1},
    }
    one = {"name": "one", "command": ["sh", "-c", "sleep 0.5; echo one >> /d/l"], "volumeMounts": mounts}
    two = {"name": "two", "command": ["sh", "-c", "echo two >> /d/l"], "volumeMounts": mounts}
    main = shell("echo main >> /d/l; cat /d/l", volumeMounts=mounts)
    pods.make(
        "i", main, initContainers=[one, sidecar, two], volumes=[{"name": "d", "emptyDir": {}}], restartPolicy="Never"
    )
    status = pods.wait("i", "Succeeded")["status"]
    assert pods.log("i") == "one\nside\ntwo\nmain\n"
    inits = {each["name"]: each["state"]["terminated"] for each in status["initContainerStatuses"]}
    assert inits["one"]["exitCode"] == inits["two"]["exitCode"] == 0


def test_an_init_container_that_fails_fails_the_pod(pods: Pods) -> None:
    pods.make("i", shell("true"), initContainers=[{**shell("exit 5"), "name": "init"}], restartPolicy="Never")
    status = pods.wait("i", "Failed")["status"]
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 5
    assert "Init:Error" in pods.kubectl("get", "pod", "i")
    assert "waiting" in status["containerStatuses"][0]["state"] or status["containerStatuses"][0]["ready"] is False


def test_probes_decide_on_traffic_and_restarts(pods: Pods) -> None:
    script = "mkdir /www; httpd -p 8080 -h /www; sleep 1; touch /www/ok; sleep 1000"
    probe = {"httpGet": {"path": "/ok", "port": "web"}, "periodSeconds": 1}
    pods.make("ready", shell(script, ports=[{"containerPort": 8080, "name": "web"}], readinessProbe=probe))
    dies = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    pods.make("dies", shell("sleep 1000", livenessProbe=dies))
    pods.wait("ready", "Running")
    assert pods.get("ready")["status"]["containerStatuses"][0]["ready"] is False
    pods.ready("ready")
    assert "Readiness probe failed" in pods.events("ready")
    deadline = time.monotonic() + 15
    while not pods.get("dies")["status"]["containerStatuses"][0]["restartCount"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert "Container c failed liveness probe, will be restarted" in pods.events("dies")


def test_a_tcp_probe_and_a_grpc_probe_ask_the_port(pods: Pods) -> None:
    tcp = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    pods.make("tcp", shell("httpd -f -p 8080", readinessProbe=tcp))
    pods.make("grpc", shell("httpd -f -p 8080", readinessProbe={"grpc": {"port": 8080}, "periodSeconds": 1}))
    pods.ready("tcp")
    pods.wait("grpc", "Running")
    assert pods.get("grpc")["status"]["containerStatuses"][0]["ready"] is False


def test_a_deletion_runs_the_hook_and_gives_time(pods: Pods, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o777)
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /o/l"]}}}
    hook["postStart"] = {"exec": {"command": ["sh", "-c", "echo started >> /o/l"]}}
    script = "trap 'echo term >> /o/l; exit 0' TERM; while true; do sleep 0.05; done"
    volume = {"name": "o", "hostPath": {"path": str(out), "type": "Directory"}}
    container = shell(script, lifecycle=hook, volumeMounts=[{"name": "o", "mountPath": "/o"}])
    pods.make("d", container, volumes=[volume], terminationGracePeriodSeconds=10)
    pods.ready("d")
    pods.kubectl("delete", "pod", "d", "--timeout=20s")
    assert (out / "l").read_text() == "started\nhook\nterm\n"
    assert "d" not in pods.docker("ps", "-a", "--filter", f"name=k8s_c_d_{pods.namespace}", "-q")


def test_a_security_context_is_what_the_process_gets(pods: Pods) -> None:
    security = {
        "runAsUser": 1000,
        "runAsGroup": 2000,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    }
    script = "id; grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; touch /x; touch /e/x; stat -c '%g' /e /e/x"
    container = shell(script, securityContext=security, volumeMounts=[{"name": "e", "mountPath": "/e"}])
    pods.make(
        "s",
        container,
        restartPolicy="Never",
        securityContext={
            "fsGroup": 3000,
            "supplementalGroups": [4000],
            "sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}],
        },
        volumes=[{"name": "e", "emptyDir": {}}],
    )
    pods.wait("s", "Succeeded")
    log = pods.log("s")
    assert "uid=1000 gid=2000" in log and "3000" in log.splitlines()[0] and "4000" in log.splitlines()[0]
    assert "CapBnd:\t0000000000000400" in log and "NoNewPrivs:\t1" in log and "Seccomp:\t2" in log
    assert "touch: /x: Read-only file system" in log
    # Output and errors come by two pipes: their lines may change places.
    assert [line for line in log.splitlines() if line.isdigit()] == ["3000", "3000"]


def test_root_is_refused_where_it_must_not_be(pods: Pods) -> None:
    pods.make("r", shell("id"), securityContext={"runAsNonRoot": True})
    status = pods.wait("r", "CreateContainerConfigError")["status"]
    waiting = status["containerStatuses"][0]["state"]["waiting"]
    assert "container has runAsNonRoot and image will run as root" in waiting["message"]


def test_limits_are_the_kernel_s(pods: Pods) -> None:
    big = "head -c 100000000 /dev/zero | tail > /dev/null"
    pods.make("oom", shell(big, resources={"limits": {"memory": "16Mi"}}), restartPolicy="Never")
    status = pods.wait("oom", "Failed")["status"]
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "OOMKilled"
    assert status["qosClass"] == "Burstable"


def test_images_that_cannot_be_had_are_named(pods: Pods) -> None:
    pods.make("never", {"name": "c", "image": "nobody:1", "imagePullPolicy": "Never"})
    pods.make("bad", {"name": "c", "image": "host:1/UPPER"})
    pods.make("none", {"name": "c", "image": "127.0.0.1:1/x:1"})
    assert pods.wait("never", "ErrImageNeverPull")
    assert pods.wait("bad", "InvalidImageName")
    status = pods.wait("none", "ImagePullBackOff")["status"]
    assert 'Back-off pulling image "127.0.0.1:1/x:1"' in status["containerStatuses"][0]["state"]["waiting"]["message"]
    assert "connection refused" in pods.events("none")


def test_what_is_missing_is_said_and_waited_for(pods: Pods) -> None:
    pods.make(
        "waits",
        shell("cat /s/k; echo; sleep 1000", volumeMounts=[{"name": "s", "mountPath": "/s"}]),
        volumes=[{"name": "s", "secret": {"secretName": "late"}}],
    )
    deadline = time.monotonic() + 10
    while 'MountVolume.SetUp failed for volume "s" : secret "late" not found' not in pods.events("waits"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    pods.kubectl("create", "secret", "generic", "late", "--from-literal=k=v")
    pods.ready("waits")
    deadline = time.monotonic() + 10
    while pods.log("waits") != "v\n":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_program_that_is_not_there_is_a_start_error(pods: Pods) -> None:
    pods.make("n", {"name": "c", "command": ["/nowhere"]}, restartPolicy="Never")
    ended = pods.wait("n", "Failed")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
    assert 'exec: "/nowhere"' in ended["message"]


def test_a_subpath_does_not_leave_its_volume(pods: Pods) -> None:
    """CVE-2017-1002101: a link in the volume, made by the pod itself, as the subpath of another container."""
    mounts = [{"name": "e", "mountPath": "/e"}]
    link = {
        "name": "link",
        "command": ["sh", "-c", "ln -s /etc /e/out; mkdir /e/in; echo fine > /e/in/f"],
        "volumeMounts": mounts,
    }
    script = "ls /o; cat /i/f; ls /o/shadow"
    out = [
        {"name": "e", "mountPath": "/o", "subPath": "out"},
        {"name": "e", "mountPath": "/i", "subPathExpr": "$(WHERE)"},
    ]
    container = shell(script, volumeMounts=out, env=[{"name": "WHERE", "value": "in"}])
    pods.make("sub", container, initContainers=[link], volumes=[{"name": "e", "emptyDir": {}}], restartPolicy="Never")
    deadline = time.monotonic() + 15
    while (found := pods.get("sub")["status"])["phase"] not in ("Succeeded", "Failed"):
        waiting = found["containerStatuses"][0]["state"].get("waiting", {})
        if waiting.get("reason") == "CreateContainerConfigError":
            assert "subPath" in waiting["message"]
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    log = pods.log("sub")
    assert "shadow: No such file" in log and "passwd" not in log and "fine" in log


def test_containers_of_a_pod_share_what_they_should(pods: Pods) -> None:
    server = {"name": "server", "command": ["sh", "-c", "mkdir /w; echo hi > /w/i; httpd -f -p 80 -h /w"]}
    script = "while ! wget -qO- http://127.0.0.1:80/i; do sleep 0.1; done; touch /dev/shm/x; hostname; ps | wc -l"
    other = {"name": "other", "command": ["sh", "-c", "while ! ls /dev/shm/x; do sleep 0.1; done; sleep 1000"]}
    pods.make("two", shell(f"{script}; sleep 1000"), server, other)
    pods.ready("two")
    deadline = time.monotonic() + 10
    while pods.log("two", "other") != "" and "/dev/shm/x\n" not in pods.log("two", "other"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    log = pods.log("two").splitlines()
    assert log[-3:-1] == ["hi", "two"]


def test_a_pod_can_be_in_the_host_s_network(pods: Pods) -> None:
    pods.make("h", shell("hostname; ls /sys/class/net; cat /etc/resolv.conf"), hostNetwork=True, restartPolicy="Never")
    status = pods.wait("h", "Succeeded")["status"]
    assert status["podIP"] == status["hostIP"]
    assert "cluster.local" not in pods.log("h")


def test_a_pod_is_over_at_its_deadline(pods: Pods) -> None:
    pods.make("d", shell("sleep 1000"), activeDeadlineSeconds=1)
    status = pods.wait("d", "Failed")["status"]
    assert status["reason"] == "DeadlineExceeded"


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_pods_go_on_when_the_server_does_not(pods: Pods, end: str) -> None:
    cluster = pods.cluster
    pods.make("stays", shell("sleep 1000"))
    pods.make("ends", shell("sleep 1.5; exit 4"), restartPolicy="Never")
    before = pods.ready("stays")["status"]["containerStatuses"][0]
    pods.wait("ends", "Running")
    getattr(cluster, end)()
    time.sleep(2)
    cluster.start()
    cluster.wait_for_node()
    after = pods.ready("stays")["status"]["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    assert after["state"] == before["state"]
    ended = pods.wait("ends", "Failed")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["exitCode"] == 4
