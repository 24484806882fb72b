"""Workloads on a real node: what Deployments, StatefulSets, DaemonSets, Jobs and claims come to.

Oracle: https://kubernetes.io/docs/concepts/workloads/controllers/
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from support.kube_pods import IMAGE, Object, Pods, shell

pytestmark = pytest.mark.timeout(120)


def _template(app: str, script: str = "sleep 1000", **spec: Any) -> Object:
    container = shell(script, image=IMAGE, **spec.pop("container", {}))
    spec.setdefault("terminationGracePeriodSeconds", 1)
    return {"metadata": {"labels": {"app": app}}, "spec": {"containers": [container], **spec}}


def _workload(kind: str, name: str, template: Object, **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    }


def _job(name: str, script: str, **spec: Any) -> Object:
    template = _template(name, script, restartPolicy=spec.pop("restartPolicy", "Never"))
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


def _get(pods: Pods, kind: str, name: str) -> Any:
    return json.loads(pods.kubectl("get", kind, name, "-o", "json"))


def _items(pods: Pods, kind: str, *words: str) -> list[Any]:
    return list(json.loads(pods.kubectl("get", kind, "-o", "json", *words))["items"])


def _condition(obj: Any, kind: str) -> Any:
    return next((each for each in obj["status"].get("conditions") or () if each["type"] == kind), {})


# Deployments and replica sets ------------------------------------------------------------------------------------


def test_a_deployment_rolls_forward_and_back(pods: Pods) -> None:
    pods.apply(_workload("Deployment", "web", _template("web"), replicas=3))
    pods.kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    first = _items(pods, "replicasets")[0]["metadata"]["name"]
    pods.kubectl("set", "env", "deployment/web", "VERSION=2")
    pods.kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    sizes = {each["metadata"]["name"]: each["spec"]["replicas"] for each in _items(pods, "replicasets")}
    assert sizes.pop(first) == 0 and list(sizes.values()) == [3]
    assert pods.kubectl("rollout", "history", "deployment/web").split()[-4:] == ["1", "<none>", "2", "<none>"]
    pods.kubectl("rollout", "undo", "deployment/web")
    pods.kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    live = _get(pods, "deployment", "web")
    assert live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    assert _get(pods, "replicaset", first)["spec"]["replicas"] == 3
    assert _condition(live, "Available")["reason"] == "MinimumReplicasAvailable"
    assert _condition(live, "Progressing")["reason"] == "NewReplicaSetAvailable"
    assert "ScalingReplicaSet" in pods.kubectl("describe", "deployment", "web")


def test_a_rollout_that_does_not_get_on_keeps_the_old_pods_and_says_so(pods: Pods) -> None:
    spec = {"replicas": 2, "progressDeadlineSeconds": 2}
    pods.apply(_workload("Deployment", "stuck", _template("stuck"), **spec))
    pods.kubectl("rollout", "status", "deployment/stuck", "--timeout=30s")
    pods.kubectl("set", "image", "deployment/stuck", "c=localhost:1/no/such:1")
    said = pods.kubectl("rollout", "status", "deployment/stuck", "--timeout=20s", check=False)
    assert "exceeded its progress deadline" in said
    live = _get(pods, "deployment", "stuck")
    assert _condition(live, "Progressing")["reason"] == "ProgressDeadlineExceeded"
    assert live["status"]["availableReplicas"] == 2
    pods.kubectl("rollout", "undo", "deployment/stuck")
    pods.kubectl("rollout", "status", "deployment/stuck", "--timeout=30s")


def test_recreate_ends_all_pods_before_it_makes_new_ones(pods: Pods) -> None:
    pods.apply(_workload("Deployment", "once", _template("once"), replicas=2, strategy={"type": "Recreate"}))
    pods.kubectl("rollout", "status", "deployment/once", "--timeout=30s")
    before = {each["metadata"]["uid"] for each in _items(pods, "pods")}
    pods.kubectl("set", "env", "deployment/once", "VERSION=2")
    mixed = False
    deadline = time.monotonic() + 30
    while True:
        # What has ended does not count, though it may still be seen for a moment.
        running = [each for each in _items(pods, "pods") if each["status"]["phase"] not in ("Succeeded", "Failed")]
        found = {each["metadata"]["uid"] for each in running}
        mixed = mixed or bool(found & before and found - before)
        if len(found) == 2 and not found & before:
            break
        assert time.monotonic() < deadline
    assert not mixed


def test_replica_sets_take_in_let_go_and_replace(pods: Pods) -> None:
    pods.make("orphan", shell("sleep 1000"))
    pods.kubectl("label", "pod", "orphan", "app=rs", "--overwrite")
    pods.ready("orphan")
    pods.apply(_workload("ReplicaSet", "rs", _template("rs"), replicas=2))
    pods.until(lambda: _get(pods, "replicaset", "rs")["status"].get("readyReplicas") == 2)
    assert pods.get("orphan")["metadata"]["ownerReferences"][0]["name"] == "rs"
    pods.kubectl("label", "pod", "orphan", "app=free", "--overwrite")
    pods.until(lambda: not pods.get("orphan")["metadata"].get("ownerReferences"))
    pods.until(lambda: len(_items(pods, "pods", "-l", "app=rs")) == 2)
    gone = _items(pods, "pods", "-l", "app=rs")[0]["metadata"]
    pods.kubectl("delete", "pod", gone["name"], "--wait=false")
    pods.until(lambda: gone["uid"] not in {each["metadata"]["uid"] for each in _items(pods, "pods", "-l", "app=rs")})
    pods.until(lambda: _get(pods, "replicaset", "rs")["status"].get("readyReplicas") == 2)
    pods.kubectl("scale", "replicaset/rs", "--replicas=0")
    pods.until(lambda: not _items(pods, "pods", "-l", "app=rs"))


# StatefulSets and claims -----------------------------------------------------------------------------------------


def _stateful(name: str, **spec: Any) -> Object:
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    container = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    template = _template(name, "hostname >> /data/seen; exec sleep 1000", container=container)
    return _workload("StatefulSet", name, template, serviceName=name, volumeClaimTemplates=[claim], **spec)


def test_a_stateful_set_keeps_names_order_and_data(pods: Pods) -> None:
    pods.apply(_stateful("db", replicas=3))
    pods.kubectl("rollout", "status", "statefulset/db", "--timeout=40s")
    born = {each["metadata"]["name"]: each["metadata"] for each in _items(pods, "pods")}
    assert sorted(born) == ["db-0", "db-1", "db-2"]
    assert born["db-0"]["labels"]["apps.kubernetes.io/pod-index"] == "0"
    claims = {each["metadata"]["name"]: each for each in _items(pods, "pvc")}
    assert sorted(claims) == ["data-db-0", "data-db-1", "data-db-2"]
    assert all(each["status"]["phase"] == "Bound" for each in claims.values())
    pods.kubectl("delete", "pod", "db-1")
    pods.kubectl("rollout", "status", "statefulset/db", "--timeout=40s")
    pods.until(lambda: pods.get("db-1")["metadata"]["uid"] != born["db-1"]["uid"])
    pods.ready("db-1")
    assert pods.kubectl("exec", "db-1", "--", "cat", "/data/seen").split() == ["db-1", "db-1"]
    pods.kubectl("scale", "statefulset/db", "--replicas=1")
    pods.until(lambda: [each["metadata"]["name"] for each in _items(pods, "pods")] == ["db-0"])
    assert len(_items(pods, "pvc")) == 3
    volume = _get(pods, "pv", claims["data-db-0"]["spec"]["volumeName"])
    directory = Path(volume["spec"]["hostPath"]["path"])
    assert directory.is_dir()
    pods.kubectl("delete", "statefulset", "db")
    pods.until(lambda: not _items(pods, "pods"))
    pods.kubectl("delete", "pvc", "--all", "--timeout=20s")
    pods.until(lambda: not directory.exists())


def test_an_update_of_a_stateful_set_goes_from_the_last_one_to_the_partition(pods: Pods) -> None:
    spec = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}
    body = _workload("StatefulSet", "part", _template("part"), serviceName="part", replicas=2, **spec)
    pods.apply(body)
    pods.kubectl("rollout", "status", "statefulset/part", "--timeout=40s")
    pods.kubectl("set", "env", "statefulset/part", "VERSION=2")

    def updated() -> list[str]:
        return [each["metadata"]["name"] for each in _items(pods, "pods") if each["spec"]["containers"][0].get("env")]

    pods.until(lambda: updated() == ["part-1"])
    status = _get(pods, "statefulset", "part")["status"]
    assert status["currentRevision"] != status["updateRevision"]
    patch = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}
    pods.kubectl("patch", "statefulset", "part", "-p", json.dumps(patch))
    pods.until(lambda: updated() == ["part-0", "part-1"])


def test_a_claim_without_a_volume_waits_and_one_with_a_volume_binds(pods: Pods) -> None:
    directory = str(pods.cluster.root / "given")
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"given-{pods.namespace}"},
        "spec": {
            "capacity": {"storage": "2Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "given",
            "hostPath": {"path": directory, "type": "DirectoryOrCreate"},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "claim"},
        "spec": {
            "storageClassName": "given",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    pods.apply(claim)
    pods.until(lambda: "ProvisioningFailed" in pods.kubectl("describe", "pvc", "claim"))
    pods.apply(volume)
    pods.until(lambda: _get(pods, "pvc", "claim")["status"]["phase"] == "Bound")
    assert _get(pods, "pvc", "claim")["status"]["capacity"] == {"storage": "2Gi"}
    mounts = [{"name": "v", "mountPath": "/v"}]
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}]
    pods.make("user", shell("echo kept > /v/file; exec sleep 1000", volumeMounts=mounts), volumes=volumes)
    pods.ready("user")
    pods.kubectl("delete", "pvc", "claim", "--wait=false")
    time.sleep(0.5)
    assert _get(pods, "pvc", "claim")["metadata"]["deletionTimestamp"], "it is in use"
    pods.kubectl("delete", "pod", "user")
    pods.until(lambda: "NotFound" in pods.kubectl("get", "pvc", "claim", check=False))
    pods.until(lambda: _get(pods, "pv", volume["metadata"]["name"])["status"]["phase"] == "Released")
    assert Path(directory, "file").read_text() == "kept\n"
    pods.kubectl("delete", "pv", volume["metadata"]["name"], "--timeout=20s")


# DaemonSets and Jobs ---------------------------------------------------------------------------------------------


def test_a_daemon_set_has_a_pod_on_the_node_and_updates_it(pods: Pods) -> None:
    pods.apply(_workload("DaemonSet", "agent", _template("agent")))
    pods.kubectl("rollout", "status", "daemonset/agent", "--timeout=30s")
    pod = _items(pods, "pods")[0]
    assert pod["spec"]["nodeName"] == "n1"
    pods.kubectl("set", "env", "daemonset/agent", "VERSION=2")
    pods.kubectl("rollout", "status", "daemonset/agent", "--timeout=30s")
    pods.until(lambda: [bool(each["spec"]["containers"][0].get("env")) for each in _items(pods, "pods")] == [True])
    status = _get(pods, "daemonset", "agent")["status"]
    assert (status["desiredNumberScheduled"], status["numberReady"], status["updatedNumberScheduled"]) == (1, 1, 1)
    patch = {"spec": {"template": {"spec": {"nodeSelector": {"no": "such"}}}}}
    pods.kubectl("patch", "daemonset", "agent", "-p", json.dumps(patch))
    pods.until(lambda: not _items(pods, "pods"))


def test_jobs_end_with_as_many_successes_as_asked_for(pods: Pods) -> None:
    pods.apply(
        _job("plain", "true", completions=5, parallelism=2),
        _job("indexed", "echo $JOB_COMPLETION_INDEX", completions=3, parallelism=3, completionMode="Indexed"),
    )
    pods.kubectl("wait", "--for=condition=complete", "job/plain", "job/indexed", "--timeout=40s")
    plain, indexed = _get(pods, "job", "plain")["status"], _get(pods, "job", "indexed")["status"]
    assert plain["succeeded"] == 5 and not plain.get("failed")
    assert indexed["completedIndexes"] == "0-2"
    assert _condition({"status": plain}, "SuccessCriteriaMet")["reason"] == "CompletionsReached"
    said = pods.kubectl("logs", "-l", "job-name=indexed", "--tail=-1").split()
    assert sorted(said) == ["0", "1", "2"]
    left = _items(pods, "pods", "-l", "job-name=plain")
    assert len(left) == 5 and not any(each["metadata"].get("finalizers") for each in left)


def test_jobs_fail_by_their_limits(pods: Pods) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    pods.apply(
        _job("limited", "exit 1", backoffLimit=0),
        _job("slow", "exec sleep 1000", activeDeadlineSeconds=1),
        _job("policy", "exit 42", backoffLimit=5, podFailurePolicy={"rules": [rule]}),
    )
    for name, reason in (
        ("limited", "BackoffLimitExceeded"),
        ("slow", "DeadlineExceeded"),
        ("policy", "PodFailurePolicy"),
    ):
        pods.kubectl("wait", "--for=condition=failed", f"job/{name}", "--timeout=40s")
        assert _condition(_get(pods, "job", name), "Failed")["reason"] == reason


def test_a_suspended_job_waits_and_a_deleted_one_takes_its_pods_along(pods: Pods) -> None:
    pods.apply(_job("held", "exec sleep 1000", suspend=True))
    pods.until(lambda: _condition(_get(pods, "job", "held"), "Suspended").get("status") == "True")
    assert not _items(pods, "pods")
    pods.kubectl("patch", "job", "held", "-p", '{"spec": {"suspend": false}}')
    pods.until(lambda: _get(pods, "job", "held")["status"].get("ready") == 1)
    pods.kubectl("delete", "job", "held")
    pods.until(lambda: not _items(pods, "pods"))


# Disruptions -----------------------------------------------------------------------------------------------------


def test_a_budget_holds_evictions_back(pods: Pods) -> None:
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "held"}}},
    }
    pods.apply(_workload("Deployment", "held", _template("held"), replicas=3), budget)
    pods.kubectl("rollout", "status", "deployment/held", "--timeout=30s")
    pods.until(lambda: _get(pods, "pdb", "b")["status"].get("disruptionsAllowed") == 1)
    status = _get(pods, "pdb", "b")["status"]
    assert (status["expectedPods"], status["currentHealthy"], status["desiredHealthy"]) == (3, 3, 2)
    pods.kubectl("patch", "pdb", "b", "--type=merge", "-p", '{"spec": {"maxUnavailable": 0}}')
    pods.until(lambda: _get(pods, "pdb", "b")["status"].get("disruptionsAllowed") == 0)
    drain = ("drain", "n1", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=2s")
    said = pods.cluster.kubectl(*drain, "--pod-selector=app=held", check=False)
    assert "Cannot evict pod as it would violate the pod's disruption budget." in said
    pods.kubectl("patch", "pdb", "b", "--type=merge", "-p", '{"spec": {"maxUnavailable": 3}}')
    pods.until(lambda: _get(pods, "pdb", "b")["status"].get("disruptionsAllowed") == 3)
    said = pods.cluster.kubectl(*drain[:-1], "--timeout=20s", "--pod-selector=app=held")
    assert "node/n1 drained" in said
    pods.until(lambda: {each["status"]["phase"] for each in _items(pods, "pods")} == {"Pending"})
    pods.cluster.kubectl("uncordon", "n1")
    pods.kubectl("rollout", "status", "deployment/held", "--timeout=30s")
