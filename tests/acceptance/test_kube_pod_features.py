"""What pods can ask of a node beyond the everyday: shared processes, resizing, files, ends, and the node's own pods."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from bench.__main__ import busybox_root

from support.kube_pods import IMAGE, Object, Pods, shell
from windlass.runtime import tiny_pause

CGROUP = Path("/sys/fs/cgroup")
FOREVER = "trap exit TERM; while :; do sleep 0.1; done"


def file_of(pods: Pods, name: str, path: str, container: str = "c") -> str:
    """A file of a container, read in the container."""
    identity = next(
        each["containerID"].removeprefix("windlass://")
        for kind in ("containerStatuses", "initContainerStatuses")
        for each in pods.get(name)["status"].get(kind, ())
        if each["name"] == container
    )
    return pods.docker("exec", identity, "cat", path)


def execute(pods: Pods, name: str, *command: str, container: str = "c") -> str:
    """Run a command in a container, by the engine's own API."""
    identity = next(
        each["containerID"].removeprefix("windlass://")
        for each in pods.get(name)["status"]["containerStatuses"]
        if each["name"] == container
    )
    return pods.docker("exec", identity, *command)


# --- processes


@pytest.mark.skipif(tiny_pause.PROGRAM.code() is None, reason="no pause program for this machine")
def test_containers_may_share_their_processes(pods: Pods) -> None:
    other = {"name": "other", "command": ["sh", "-c", f"echo other; {FOREVER}"]}
    again = {"name": "again", "command": ["sh", "-c", "sleep 0.5; exit 3"]}
    pods.make("s", shell(FOREVER), other, again, shareProcessNamespace=True)
    pods.until(lambda: pods.get("s")["status"].get("containerStatuses", [{}] * 3)[2].get("restartCount"))
    assert file_of(pods, "s", "/proc/1/comm") == "pause\n"
    shown = execute(pods, "s", "ps", "-o", "pid,args")
    assert "echo other" in shown and "/pause" in shown
    # An orphan that ends is reaped by process 1, which nothing in the pod can end.
    execute(pods, "s", "sh", "-c", "(sh -c 'sleep 0.1' &) ; kill -TERM 1; kill -KILL 1")
    pods.until(lambda: "Z" not in execute(pods, "s", "ps", "-o", "stat"))
    status = pods.get("s")["status"]["containerStatuses"]
    assert [each["restartCount"] for each in status[:2]] == [0, 0]
    assert [each["name"] for each in status] == ["c", "other", "again"]
    label = f"label=io.kubernetes.pod.uid={pods.get('s')['metadata']['uid']}"
    assert len(pods.docker("ps", "--filter", label, "--filter", "name=k8s_POD_", "-q").split()) == 1
    pods.kubectl("delete", "pod", "s", "--timeout=20s")
    assert pods.docker("ps", "-a", "--filter", label, "-q") == ""


def test_a_pod_can_see_the_host_s_processes_and_ipc(pods: Pods) -> None:
    script = "for i in pid ipc net uts; do readlink /proc/self/ns/$i; done; cat /proc/1/comm"
    pods.make("h", shell(script), hostPID=True, hostIPC=True, restartPolicy="Never")
    pods.make("own", shell(script), restartPolicy="Never")
    pods.wait("h", "Succeeded")
    pods.wait("own", "Succeeded")
    host = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("pid", "ipc", "net", "uts")]
    found, own = pods.log("h").splitlines(), pods.log("own").splitlines()
    assert found[:2] == host[:2] and not set(found[2:4]) & set(host)
    assert found[4] == Path("/proc/1/comm").read_text().strip()
    assert not set(own) & set(host) and own[4] == "cat"


# --- ends


def test_the_end_of_the_log_is_the_message_where_that_is_asked(pods: Pods) -> None:
    policy: Object = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    pods.make("bad", shell("echo it broke; exit 1", **policy), restartPolicy="Never")
    pods.make("good", shell("echo all well", **policy), restartPolicy="Never")
    pods.make("file", shell("echo log; echo file > /tmp/m; exit 1", terminationMessagePath="/tmp/m", **policy))
    bad = pods.wait("bad", "Failed")["status"]["containerStatuses"][0]["state"]["terminated"]
    good = pods.wait("good", "Succeeded")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert bad["message"] == "it broke\n" and "message" not in good
    ended = pods.until(lambda: pods.get("file")["status"].get("containerStatuses", [{}])[0].get("lastState"))
    assert ended["terminated"]["message"] == "file\n"


def test_a_container_names_the_signal_that_ends_it(pods: Pods, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o777)
    script = "trap 'echo usr1 > /o/l; exit 0' USR1; trap 'echo term > /o/l; exit 0' TERM; while :; do sleep 0.05; done"
    container = shell(script, lifecycle={"stopSignal": "SIGUSR1"}, volumeMounts=[{"name": "o", "mountPath": "/o"}])
    pods.make(
        "s",
        container,
        os={"name": "linux"},
        terminationGracePeriodSeconds=10,
        volumes=[{"name": "o", "hostPath": {"path": str(out)}}],
    )
    pods.ready("s")
    assert pods.get("s")["status"]["containerStatuses"][0]["stopSignal"] == "SIGUSR1"
    pods.kubectl("delete", "pod", "s", "--timeout=20s")
    assert (out / "l").read_text() == "usr1\n"


def test_a_hook_can_be_a_pause(pods: Pods) -> None:
    container = shell("sleep 1000", lifecycle={"preStop": {"sleep": {"seconds": 2}}})
    pods.make("s", container, terminationGracePeriodSeconds=4)
    pods.ready("s")
    begun = time.monotonic()
    pods.kubectl("delete", "pod", "s", "--timeout=20s")
    assert time.monotonic() - begun >= 2


def test_a_container_has_a_restart_policy_and_rules_of_its_own(pods: Pods) -> None:
    rules: list[Object] = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    again = shell("test -e /d/x && exit 0; touch /d/x; exit 42", restartPolicy="Never", restartPolicyRules=rules)
    again["volumeMounts"] = [{"name": "d", "mountPath": "/d"}]
    never = {**shell("exit 3", restartPolicy="Never"), "name": "never"}
    always = {**shell("exit 0", restartPolicy="Always"), "name": "always"}
    volumes: list[Object] = [{"name": "d", "emptyDir": {}}]
    pods.make("p", again, never, always, restartPolicy="Never", volumes=volumes)

    def counts() -> Any:
        found = {each["name"]: each for each in pods.get("p")["status"].get("containerStatuses", ())}
        done = found and found["c"]["restartCount"] and found["always"]["restartCount"]
        return found if done and "terminated" in found["c"]["state"] else None

    found = pods.until(counts, 30)
    assert (found["c"]["restartCount"], found["never"]["restartCount"]) == (1, 0)
    assert found["c"]["state"]["terminated"]["exitCode"] == 0
    assert found["never"]["state"]["terminated"]["exitCode"] == 3


def test_sidecars_end_after_the_others_and_the_last_one_first(pods: Pods, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o777)
    mounts = [{"name": "o", "mountPath": "/o"}]

    def one(name: str, delay: str, **more: Any) -> Object:
        script = f"trap 'sleep {delay}; echo {name} >> /o/l; exit 0' TERM; while :; do sleep 0.05; done"
        return {"name": name, "command": ["sh", "-c", script], "volumeMounts": mounts, **more}

    sidecars = [one("first", "0", restartPolicy="Always"), one("second", "0", restartPolicy="Always")]
    pods.make(
        "s",
        one("c", "0.5"),
        initContainers=sidecars,
        terminationGracePeriodSeconds=10,
        volumes=[{"name": "o", "hostPath": {"path": str(out)}}],
    )
    pods.ready("s")
    pods.kubectl("delete", "pod", "s", "--timeout=20s")
    assert (out / "l").read_text() == "c\nsecond\nfirst\n"


# --- resources


def resize(pods: Pods, name: str, **resources: Object) -> None:
    patch = {"spec": {"containers": [{"name": "c", "resources": resources}]}}
    pods.kubectl("patch", "pod", name, "--subresource=resize", "--patch", json.dumps(patch))


def conditions(pods: Pods, name: str) -> Any:
    return {each["type"]: each for each in pods.get(name)["status"]["conditions"]}


def limits_of(pods: Pods, name: str) -> tuple[int, int, int]:
    identity = pods.get(name)["status"]["containerStatuses"][0]["containerID"].removeprefix("windlass://")
    shown = "{{.HostConfig.CpuShares}} {{.HostConfig.CpuQuota}} {{.HostConfig.Memory}}"
    shares, quota, memory = pods.docker("inspect", "-f", shown, identity).split()
    return int(shares), int(quota), int(memory)


def test_a_pod_grows_and_shrinks_as_it_runs(pods: Pods) -> None:
    pods.make("g", shell(FOREVER, resources={"limits": {"cpu": "100m", "memory": "32Mi"}}))
    before = pods.ready("g")["status"]["containerStatuses"][0]
    assert limits_of(pods, "g") == (102, 10000, 32 << 20)
    more = {"cpu": "200m", "memory": "64Mi"}
    resize(pods, "g", requests=more, limits=more)
    pods.until(lambda: pods.get("g")["status"]["containerStatuses"][0]["allocatedResources"] == more)
    pods.until(lambda: "PodResizeInProgress" not in conditions(pods, "g"))
    after = pods.get("g")["status"]["containerStatuses"][0]
    assert limits_of(pods, "g") == (204, 20000, 64 << 20)
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    assert after["resources"] == {"limits": more, "requests": more}
    memory = next(path for path in ("memory/memory.limit_in_bytes", "memory.max") if (CGROUP / path).exists())
    assert file_of(pods, "g", f"/sys/fs/cgroup/{memory}") == f"{64 << 20}\n"
    assert "Pod resize completed" in pods.until(lambda: pods.events("g"))
    less = {"cpu": "50m", "memory": "16Mi"}
    resize(pods, "g", requests=less, limits=less)
    pods.until(lambda: limits_of(pods, "g") == (51, 5000, 16 << 20))


def test_a_resize_waits_where_there_is_no_room_and_never_comes_where_there_cannot_be(pods: Pods) -> None:
    memory = pods.cluster.kubectl("get", "node", "n1", "-o", "jsonpath={.status.allocatable.memory}")
    whole = int(memory.removesuffix("Ki")) // 1024
    pods.make("a", shell(FOREVER, resources={"requests": {"memory": f"{whole // 2}Mi"}}))
    pods.make("b", shell(FOREVER, resources={"requests": {"memory": "10Mi"}}))
    pods.ready("a"), pods.ready("b")
    resize(pods, "b", requests={"memory": f"{whole * 2}Mi"})
    pending = pods.until(lambda: conditions(pods, "b").get("PodResizePending"))
    assert (pending["status"], pending["reason"]) == ("True", "Infeasible")
    assert pending["message"].startswith("Node didn't have enough capacity: memory, requested: ")
    resize(pods, "b", requests={"memory": f"{whole * 3 // 4}Mi"})
    pods.until(lambda: conditions(pods, "b")["PodResizePending"]["reason"] == "Deferred")
    assert "Node didn't have enough resource: memory" in conditions(pods, "b")["PodResizePending"]["message"]
    assert pods.get("b")["status"]["containerStatuses"][0]["allocatedResources"] == {"memory": "10Mi"}
    pods.kubectl("delete", "pod", "a", "--timeout=20s")
    pods.until(lambda: "PodResizePending" not in conditions(pods, "b"))
    assert pods.get("b")["status"]["containerStatuses"][0]["allocatedResources"] == {"memory": f"{whole * 3 // 4}Mi"}


def test_a_container_is_restarted_for_its_limits_where_its_policy_says_so(pods: Pods) -> None:
    policy = [
        {"resourceName": "memory", "restartPolicy": "RestartContainer"},
        {"resourceName": "cpu", "restartPolicy": "NotRequired"},
    ]
    resources = {"limits": {"cpu": "100m", "memory": "32Mi"}}
    pods.make("r", shell(FOREVER, resources=resources, resizePolicy=policy), restartPolicy="OnFailure")
    pods.ready("r")
    resize(pods, "r", limits={"cpu": "200m"}, requests={"cpu": "200m"})
    pods.until(lambda: limits_of(pods, "r")[1] == 20000)
    assert pods.get("r")["status"]["containerStatuses"][0]["restartCount"] == 0
    resize(pods, "r", limits={"memory": "64Mi"}, requests={"memory": "64Mi"})
    pods.until(lambda: pods.get("r")["status"]["containerStatuses"][0]["restartCount"] == 1)
    pods.until(lambda: "PodResizeInProgress" not in conditions(pods, "r"))
    assert limits_of(pods, "r") == (204, 20000, 64 << 20)
    assert "Container c resize requires restart" in pods.events("r")


def test_a_guaranteed_pod_runs(pods: Pods) -> None:
    pods.make("g", shell("true", resources={"limits": {"cpu": "100m", "memory": "32Mi"}}), restartPolicy="Never")
    assert pods.wait("g", "Succeeded")["status"]["qosClass"] == "Guaranteed"


# --- the node's own pods


def manifest(name: str, script: str, **metadata: Any) -> str:
    container = {**shell(script), "image": IMAGE}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **metadata}, "spec": spec})


def test_files_of_a_directory_are_pods_of_the_node(pods: Pods) -> None:
    directory = pods.cluster.root / "data" / "agent" / "manifests"
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "web.yaml"
    file.write_text(manifest("web", f"echo one; {FOREVER}", namespace=pods.namespace, labels={"app": "web"}))
    try:
        pods.until(lambda: "web-n1" in pods.kubectl("get", "pods", "-o", "name"), 30)
        first = pods.ready("web-n1")
        annotations = first["metadata"]["annotations"]
        assert annotations["kubernetes.io/config.source"] == "file"
        assert annotations["kubernetes.io/config.mirror"] == annotations["kubernetes.io/config.hash"]
        owner = first["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("Node", "n1", True)
        assert pods.log("web-n1") == "one\n"

        # Deleting what shows it does not end it.
        identity = first["status"]["containerStatuses"][0]["containerID"]
        # Not waited for: kubectl may look just when the next one of that name is there.
        pods.kubectl("delete", "pod", "web-n1", "--wait=false")
        shown = ("get", "pods", "-o", "jsonpath={.items[*].metadata.uid}")
        pods.until(lambda: pods.kubectl(*shown) not in ("", first["metadata"]["uid"]), 30)
        again = pods.ready("web-n1")
        assert again["status"]["containerStatuses"][0]["containerID"] == identity
        assert again["status"]["containerStatuses"][0]["restartCount"] == 0

        # A file that is no pod changes nothing, and the next one that is does.
        file.write_text("kind: [")
        (directory / "other.yaml").write_text("kind: Pod")
        pods.until(lambda: "other.yaml is not used" in pods.cluster.log.read_text())
        assert pods.ready("web-n1")["status"]["containerStatuses"][0]["containerID"] == identity
        file.write_text(manifest("web", f"echo two; {FOREVER}", namespace=pods.namespace))
        pods.until(lambda: identity not in pods.kubectl("get", "pods", "-o", "yaml"), 30)
        pods.until(lambda: "containerID" in pods.kubectl("get", "pods", "-o", "yaml"), 30)
        assert pods.ready("web-n1") and pods.log("web-n1") == "two\n"

        # It goes on when the node's agent does not, and ends with its file.
        identity = pods.ready("web-n1")["status"]["containerStatuses"][0]["containerID"]
        pods.cluster.kill()
        pods.cluster.start()
        pods.cluster.wait_for_node()
        assert pods.ready("web-n1")["status"]["containerStatuses"][0]["containerID"] == identity
    finally:
        file.unlink()
    pods.until(lambda: "web-n1" not in pods.kubectl("get", "pods", "-o", "name"))
    assert pods.docker("ps", "-aq", "--filter", f"name=_{pods.namespace}_") == ""


# --- a node in need


def test_a_pod_that_fills_its_disk_is_evicted(pods: Pods) -> None:
    fill = "head -c 3000000 /dev/zero > {}/x; sleep 1000"
    pods.make(
        "dir",
        shell(fill.format("/e"), volumeMounts=[{"name": "e", "mountPath": "/e"}]),
        volumes=[{"name": "e", "emptyDir": {"sizeLimit": "1Mi"}}],
    )
    limit = {"limits": {"ephemeral-storage": "1Mi"}}
    pods.make("whole", shell(fill.format("/tmp"), resources=limit))
    pods.make("within", shell("head -c 30000 /dev/zero > /tmp/x; sleep 1000", resources=limit))
    status = pods.wait("dir", "Failed", 40)["status"]
    assert (status["reason"], status["message"]) == (
        "Evicted",
        'Usage of EmptyDir volume "e" exceeds the limit "1Mi". ',
    )
    assert "terminated" in pods.wait("whole", "Failed", 40)["status"]["containerStatuses"][0]["state"]
    assert "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi." in pods.events("whole")
    assert pods.get("within")["status"]["phase"] == "Running"


def test_a_node_in_need_evicts_pods_and_takes_no_more(pods: Pods) -> None:
    cluster = pods.cluster
    pods.make("rude", shell(FOREVER))
    critical = {"priorityClassName": "system-node-critical"}
    pods.make("critical", shell(FOREVER), **critical)
    pods.ready("rude"), pods.ready("critical")
    flags = cluster.flags
    cluster.stop()
    try:
        cluster.flags = (*flags, "--eviction-hard=memory.available<100Ti")
        cluster.start()
        status = pods.wait("rude", "Failed", 40)["status"]
        assert status["reason"] == "Evicted"
        assert status["message"].startswith("The node was low on resource: memory. Threshold quantity: 100Ti, avail")
        condition = {each["type"]: each for each in status["conditions"]}["DisruptionTarget"]
        assert (condition["status"], condition["reason"]) == ("True", "TerminationByKubelet")
        node = json.loads(pods.kubectl("get", "node", "n1", "-o", "json"))
        pressure = {each["type"]: each for each in node["status"]["conditions"]}["MemoryPressure"]
        assert (pressure["status"], pressure["reason"]) == ("True", "KubeletHasInsufficientMemory")
        pods.make("late", shell(FOREVER))
        late = pods.wait("late", "Failed")["status"]
        message = "Pod was rejected: The node had condition: [MemoryPressure]. "
        assert (late["reason"], late["message"]) == ("Evicted", message)
        assert pods.get("critical")["status"]["phase"] == "Running"
    finally:
        cluster.stop()
        cluster.flags = flags
        cluster.start()
        cluster.wait_for_node()
    node = json.loads(pods.kubectl("get", "node", "n1", "-o", "json"))
    assert {each["type"]: each["status"] for each in node["status"]["conditions"]}["MemoryPressure"] == "False"


def test_images_that_nobody_uses_go_first_when_the_disk_is_full(pods: Pods) -> None:
    cluster = pods.cluster
    archive = subprocess.run(["tar", "-c", "-C", "/etc", "hostname"], capture_output=True, check=True).stdout
    cluster.import_image(archive, "unused:1")
    pods.make("keeps", shell(FOREVER))
    pods.ready("keeps")
    flags = cluster.flags
    cluster.stop()
    try:
        cluster.flags = (*flags, "--eviction-hard=imagefs.available<100Pi")
        cluster.start()
        status = pods.wait("keeps", "Failed", 40)["status"]
        assert "The node was low on resource: ephemeral-storage. " in status["message"]
        assert "unused" not in pods.docker("images", "--format", "{{.Repository}}")
    finally:
        cluster.stop()
        cluster.flags = flags
        cluster.start()
        cluster.wait_for_node()
        cluster.import_image(busybox_root(), IMAGE)


# --- runtimes


@pytest.mark.parametrize("handler", [name for name in ("crun", "runc") if shutil.which(name)])
def test_a_class_names_the_runtime_and_what_it_costs(pods: Pods, handler: str) -> None:
    name = f"{handler}-{pods.namespace}"
    overhead = {"podFixed": {"memory": "16Mi", "cpu": "50m"}}
    meta = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}}
    pods.apply({**meta, "handler": handler, "overhead": overhead})
    resources = {"limits": {"cpu": "100m", "memory": "32Mi"}}
    pods.make("p", shell(f"echo up; {FOREVER}", resources=resources), runtimeClassName=name)
    pod = pods.ready("p")
    assert pod["spec"]["overhead"] == {"memory": "16Mi", "cpu": "50m"}
    identity = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("windlass://")
    assert pods.docker("inspect", "-f", "{{.HostConfig.Runtime}}", identity) == f"{handler}\n"
    assert pods.log("p") == "up\n"
    parent = pods.docker("inspect", "-f", "{{.HostConfig.CgroupParent}}", identity).strip()
    limit = next(
        path
        for path in (CGROUP / f"memory{parent}/memory.limit_in_bytes", CGROUP / f"{parent.strip('/')}/memory.max")
        if path.exists()
    )
    assert int(limit.read_text()) == 48 << 20
    pods.kubectl("delete", "runtimeclass", name)


def test_a_runtime_that_is_not_there_is_named(pods: Pods) -> None:
    name = f"nope-{pods.namespace}"
    meta = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}}
    pods.apply({**meta, "handler": "nope"})
    pods.make("p", shell("true"), runtimeClassName=name)
    wanted = 'failed to get sandbox runtime: no runtime for "nope" is configured'
    pods.until(lambda: wanted in pods.events("p"))
    assert "FailedCreatePodSandBox" in pods.events("p")
    assert pods.wait("p", "ContainerCreating")["status"]["phase"] == "Pending"
    pods.kubectl("delete", "runtimeclass", name)


# --- volumes


def test_an_image_can_be_a_volume(pods: Pods, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").write_text("from the image")
    archive = subprocess.run(["tar", "-c", "-C", str(tmp_path), "."], capture_output=True, check=True).stdout
    pods.cluster.import_image(archive, "data:1")
    mounts = [
        {"name": "i", "mountPath": "/whole"},
        {"name": "i", "mountPath": "/part", "subPath": "dir"},
    ]
    script = "cat /whole/dir/file; echo; cat /part/file; echo; touch /whole/x 2>/dev/null || echo read-only"
    volume = {"name": "i", "image": {"reference": "data:1", "pullPolicy": "IfNotPresent"}}
    pods.make("v", shell(script, volumeMounts=mounts), volumes=[volume], restartPolicy="Never")
    pods.wait("v", "Succeeded")
    lines = pods.log("v").splitlines()
    assert lines == ["from the image", "from the image", "read-only"]
    pods.make(
        "none",
        shell("true", volumeMounts=mounts[:1]),
        volumes=[{"name": "i", "image": {"reference": "127.0.0.1:1/x:1"}}],
    )
    pods.wait("none", "ImagePullBackOff")
    assert 'Failed to pull image "127.0.0.1:1/x:1"' in pods.events("none")


def test_mounts_are_seen_as_their_propagation_says(pods: Pods, tmp_path: Path) -> None:
    def one(name: str, propagation: str, script: str, **more: Any) -> Object:
        mounts = [{"name": "h", "mountPath": "/h", "mountPropagation": propagation}]
        return {"name": name, "command": ["sh", "-c", script], "volumeMounts": mounts, **more}

    shared = tmp_path / "shared"
    (shared / "m").mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(shared), str(shared)], check=True)
    subprocess.run(["mount", "--make-shared", str(shared)], check=True)
    try:
        script = f"mount -t tmpfs none /h/m && touch /h/m/seen; {FOREVER}"
        pods.make(
            "p",
            one("c", "Bidirectional", script, securityContext={"privileged": True}),
            one("slave", "HostToContainer", FOREVER),
            one("private", "None", FOREVER),
            volumes=[{"name": "h", "hostPath": {"path": str(shared)}}],
        )
        pods.ready("p")
        pods.until(lambda: (shared / "m" / "seen").exists())
        assert "seen" in execute(pods, "p", "ls", "/h/m", container="slave")
    finally:
        pods.kubectl("delete", "pod", "p", "--timeout=20s")
        subprocess.run(["umount", "-R", str(shared)], check=True)


def test_projected_volumes_take_all_their_sources(pods: Pods) -> None:
    pods.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "map"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"b": "secret"}},
    )
    sources: list[Object] = [
        {"configMap": {"name": "m"}},
        {"secret": {"name": "s", "items": [{"key": "b", "path": "deep/b"}]}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"serviceAccountToken": {"path": "token", "audience": "somebody", "expirationSeconds": 600}},
    ]
    script = "cd /p; cat a deep/b name; echo; cut -d. -f2 token; readlink ..data; readlink a"
    container = shell(script, volumeMounts=[{"name": "p", "mountPath": "/p"}])
    pods.make("p", container, volumes=[{"name": "p", "projected": {"sources": sources}}], restartPolicy="Never")
    pods.wait("p", "Succeeded")
    first, claims, data, link = pods.log("p").splitlines()
    assert first == "mapsecretp" and data.startswith("..20") and link == "..data/a"
    assert json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["aud"] == ["somebody"]


def test_a_pod_goes_on_when_its_account_does_not(pods: Pods) -> None:
    pods.kubectl("create", "serviceaccount", "a")
    pods.make("p", shell(FOREVER), serviceAccountName="a")
    identity = pods.ready("p")["status"]["containerStatuses"][0]["containerID"]
    pods.kubectl("delete", "serviceaccount", "a")
    pods.cluster.kill()
    pods.cluster.start()
    pods.cluster.wait_for_node()
    time.sleep(2)
    after = pods.get("p")["status"]["containerStatuses"][0]
    assert (after["containerID"], "running" in after["state"]) == (identity, True)


# --- the node


def test_a_node_that_somebody_deletes_comes_back(pods: Pods) -> None:
    pods.make("p", shell(FOREVER))
    identity = pods.ready("p")["status"]["containerStatuses"][0]["containerID"]
    uid = pods.kubectl("get", "node", "n1", "-o", "jsonpath={.metadata.uid}")
    pods.kubectl("delete", "node", "n1")
    pods.until(lambda: pods.kubectl("get", "node", "n1", "-o", "jsonpath={.metadata.uid}", check=False).count("-") == 4)
    assert pods.kubectl("get", "node", "n1", "-o", "jsonpath={.metadata.uid}") != uid
    pods.cluster.wait_for_node()
    assert pods.ready("p")["status"]["containerStatuses"][0]["containerID"] == identity


def test_a_node_that_is_made_anew_gives_its_pods_new_addresses(pods: Pods) -> None:
    pods.make("old", shell(FOREVER))
    before = pods.ready("old")["status"]["podIP"]
    node = json.loads(pods.kubectl("get", "node", "n1", "-o", "json"))
    metadata = {"name": "n1", "labels": node["metadata"]["labels"]}
    spec = {"podCIDR": "10.142.9.0/24", "podCIDRs": ["10.142.9.0/24"]}
    anew = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}
    pods.kubectl("replace", "--force", "-f", "-", stdin=json.dumps(anew))
    pods.until(lambda: "10.142.9.0/24 from now on" in pods.cluster.log.read_text())
    pods.cluster.wait_for_node()
    pods.make("new", shell(FOREVER))
    assert pods.ready("new")["status"]["podIP"].startswith("10.142.9.")
    assert pods.ready("old")["status"]["podIP"] == before
    # Both are there after a restart; the old bridge goes with the last pod that is on it.
    pods.cluster.kill()
    pods.cluster.start()
    pods.cluster.wait_for_node()
    assert pods.ready("old")["status"]["podIP"] == before
    shown = pods.docker("network", "ls", "--filter", "label=dev.windlass.kubernetes=pods", "-q")
    assert len(shown.split()) == 2
    pods.kubectl("delete", "pod", "old", "--timeout=20s")
    pods.cluster.kill()
    pods.cluster.start()
    pods.cluster.wait_for_node()
    shown = pods.docker("network", "ls", "--filter", "label=dev.windlass.kubernetes=pods", "-q")
    assert len(shown.split()) == 1
    assert pods.ready("new")["status"]["podIP"].startswith("10.142.9.")
