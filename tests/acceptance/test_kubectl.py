"""A tour with the unmodified kubectl: every subcommand that needs no node."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support.cluster import PrivateCluster

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: applied, labels: {app: a}}
spec:
  replicas: 2
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
      - {name: c, image: "nginx:1", ports: [{containerPort: 80}]}
"""
CRON_TAB = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [cronSpec]
            x-kubernetes-validations:
            - {rule: "self.replicas <= self.max", message: "replicas above max"}
            - {rule: "self.cronSpec == oldSelf.cronSpec", message: "cronSpec is immutable"}
            properties:
              cronSpec: {type: string, pattern: '^[0-9*/ ]+$', description: When it runs}
              image: {type: string, default: "busybox"}
              replicas: {type: integer, minimum: 1, maximum: 10, default: 1}
              max: {type: integer, default: 5}
          status: {type: object, properties: {replicas: {type: integer}}}
"""


def test_what_is_there(cluster: PrivateCluster) -> None:
    assert "Server Version: v1.37" in cluster.kubectl("version")
    resources = cluster.kubectl("api-resources")
    assert "deployments                         deploy       apps/v1" in resources
    assert "apps/v1" in cluster.kubectl("api-versions")
    assert "Kubernetes control plane" in cluster.kubectl("cluster-info")
    assert "[+]etcd ok" in cluster.kubectl("get", "--raw", "/readyz?verbose")
    namespaces = cluster.kubectl("get", "ns", "-o", "name").split()
    assert {"namespace/default", "namespace/kube-system"} <= set(namespaces)


def test_create_get_describe_delete(cluster: PrivateCluster) -> None:
    k = cluster.kubectl
    k("create", "configmap", "c1", "--from-literal=a=b")
    assert k("get", "cm", "c1", "-o", "jsonpath={.data.a}") == "b"
    assert k("get", "cm", "c1", "--no-headers").split()[:2] == ["c1", "1"]
    assert k("get", "cm", "c1", "-o", "custom-columns=N:.metadata.name,D:.data.a").split() == ["N", "D", "c1", "b"]
    k("run", "p1", "--image=nginx", "--labels=x=y")
    wide = k("get", "pods", "-o", "wide", "-l", "x=y")
    assert wide.splitlines()[0].split() == (
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED", "NODE", "READINESS", "GATES"]
    )
    assert wide.splitlines()[1].split()[:4] == ["p1", "0/1", "Pending", "0"]
    described = k("describe", "pod", "p1")
    assert "Service Account:  default" in described and "/var/run/secrets/kubernetes.io/serviceaccount" in described
    assert k("get", "pods", "--field-selector", "status.phase=Running") == "No resources found in default namespace.\n"
    k("delete", "pod", "p1")
    k("delete", "cm", "c1")
    assert 'configmaps "c1" not found' in k("get", "cm", "c1", check=False)


def test_apply_on_both_sides(cluster: PrivateCluster) -> None:
    k = cluster.kubectl
    assert k("apply", "-f", "-", stdin=DEPLOYMENT) == "deployment.apps/applied created\n"
    assert k("apply", "-f", "-", stdin=DEPLOYMENT) == "deployment.apps/applied unchanged\n"
    second = DEPLOYMENT.replace("nginx:1", "nginx:2")
    difference = k("diff", "-f", "-", stdin=second, check=False)
    assert "-      - image: nginx:1" in difference and "+      - image: nginx:2" in difference
    assert k("apply", "-f", "-", stdin=second) == "deployment.apps/applied configured\n"
    assert k("apply", "--server-side", "-f", "-", stdin=second) == "deployment.apps/applied serverside-applied\n"
    third = DEPLOYMENT.replace("nginx:1", "nginx:3")
    other = ("apply", "--server-side", "--field-manager=other", "-f", "-")
    refused = k(*other, stdin=third, check=False)
    assert 'conflict with "kubectl": .spec.template.spec.containers[name="c"].image' in refused
    k(*other, "--force-conflicts", stdin=third)
    assert k("get", "deploy", "applied", "-o", "jsonpath={.spec.template.spec.containers[0].image}") == "nginx:3"
    assert k("get", "deploy", "applied", "-o", "jsonpath={.metadata.generation}") == "3"


def test_change_in_every_way(cluster: PrivateCluster, tmp_path: Path) -> None:
    k = cluster.kubectl
    k("create", "deployment", "web", "--image=nginx", "--replicas=2")
    k("label", "deploy", "web", "x=y")
    k("annotate", "deploy", "web", "note=hello")
    k("scale", "deploy", "web", "--replicas=5")
    k("set", "image", "deploy/web", "nginx=nginx:9")
    k("set", "env", "deploy/web", "A=b")
    k("rollout", "restart", "deploy/web")
    k("patch", "deploy", "web", "--type=json", "-p", '[{"op":"replace","path":"/spec/replicas","value":6}]')
    k("patch", "deploy", "web", "-p", '{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"s"}]}}}}')
    found = json.loads(k("get", "deploy", "web", "-o", "json"))
    assert found["spec"]["replicas"] == 6 and found["metadata"]["labels"]["x"] == "y"
    images = {each["name"]: each["image"] for each in found["spec"]["template"]["spec"]["containers"]}
    assert images == {"nginx": "nginx:9", "side": "s"}
    k("expose", "deploy", "web", "--port=80", "--target-port=8080", "--name=svc")
    assert k("get", "svc", "svc", "-o", "jsonpath={.spec.ports[0].targetPort}") == "8080"
    k("autoscale", "deploy", "web", "--min=1", "--max=3")
    assert k("get", "hpa", "web", "--no-headers").split()[:2] == ["web", "Deployment/web"]
    editor = tmp_path / "edit"
    editor.write_text("#!/bin/sh\nsed -i 's/replicas: 6/replicas: 7/' \"$1\"\n")
    editor.chmod(0o755)
    import os

    os.environ["KUBE_EDITOR"] = str(editor)
    try:
        k("edit", "deploy", "web")
    finally:
        del os.environ["KUBE_EDITOR"]
    assert k("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "7"
    replaced = json.loads(k("get", "deploy", "web", "-o", "json"))
    replaced["spec"]["replicas"] = 8
    k("replace", "-f", "-", stdin=json.dumps(replaced))
    replaced["spec"]["replicas"] = 9
    assert "the object has been modified" in k("replace", "-f", "-", stdin=json.dumps(replaced), check=False)
    k("delete", "deploy,svc,hpa", "--all")


def test_refusals_say_what_is_wrong(cluster: PrivateCluster) -> None:
    k = cluster.kubectl
    bad = '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"Bad_"},"spec":{"containers":[{"name":"a","foo":1}]}}'
    strict = k("create", "-f", "-", stdin=bad, check=False)
    assert 'strict decoding error: unknown field "spec.containers[0].foo"' in strict
    text = k("create", "--validate=false", "-f", "-", stdin=bad, check=False)
    assert "a lowercase RFC 1123 subdomain must consist of" in text
    assert "spec.containers[0].image: Required value" in text
    k("create", "deployment", "d", "--image=x")
    wrong = k("patch", "deploy", "d", "-p", '{"spec":{"replicas":"x"}}', check=False)
    assert "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32" in wrong
    immutable = k("patch", "deploy", "d", "-p", '{"spec":{"selector":{"matchLabels":{"z":"z"}}}}', check=False)
    assert "field is immutable" in immutable
    assert 'namespaces "nowhere" not found' in k("create", "cm", "x", "-n", "nowhere", check=False)
    assert "this namespace may not be deleted" in k("delete", "ns", "kube-system", check=False)
    k("delete", "deploy", "d")


def test_who_may(cluster: PrivateCluster) -> None:
    k = cluster.kubectl
    assert "system:admin" in k("auth", "whoami")
    k("create", "role", "reader", "--verb=get,list", "--resource=pods")
    k("create", "rolebinding", "bob-reads", "--role=reader", "--user=bob")
    assert k("auth", "can-i", "list", "pods", "--as=bob") == "yes\n"
    assert k("auth", "can-i", "delete", "pods", "--as=bob", check=False) == "no\n"
    assert "pods " in k("auth", "can-i", "--list", "--as=bob")
    refused = k("get", "cm", "--as=bob", check=False)
    assert 'User "bob" cannot list resource "configmaps" in API group "" in the namespace "default"' in refused
    token = k("create", "token", "default").strip()
    assert token.count(".") == 2
    changed = k("patch", "rolebinding", "bob-reads", "--type=json",
                "-p", '[{"op":"replace","path":"/roleRef/name","value":"x"}]', check=False)  # fmt: skip
    assert "cannot change roleRef" in changed


def test_explain_reads_the_schemas(cluster: PrivateCluster) -> None:
    assert "Container image name" in cluster.kubectl("explain", "pod.spec.containers.image")
    recursive = cluster.kubectl("explain", "deployment", "--recursive")
    assert "rollingUpdate" in recursive and "maxSurge" in recursive


def test_namespaces_go_with_what_is_in_them(cluster: PrivateCluster) -> None:
    k = cluster.kubectl
    k("create", "ns", "gone")
    k("create", "cm", "x", "-n", "gone")
    k("run", "p", "--image=x", "-n", "gone")
    k("delete", "ns", "gone", "--timeout=20s")
    assert 'namespaces "gone" not found' in k("get", "ns", "gone", check=False)
    assert k("get", "cm,pods", "-A", "-o", "name").count("/p\n") == 0


def test_owners_take_their_dependents_along(cluster: PrivateCluster) -> None:
    k = cluster.kubectl
    k("create", "cm", "owner")
    uid = k("get", "cm", "owner", "-o", "jsonpath={.metadata.uid}")
    owned = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "owned",
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}],
        },
    }
    k("create", "-f", "-", stdin=json.dumps(owned))
    k("delete", "cm", "owner")
    k("wait", "--for=delete", "cm/owned", "--timeout=10s")
    k("create", "cm", "owner")
    owned["metadata"]["ownerReferences"][0]["uid"] = k("get", "cm", "owner", "-o", "jsonpath={.metadata.uid}")  # type: ignore[index]
    k("create", "-f", "-", stdin=json.dumps(owned))
    k("delete", "cm", "owner", "--cascade=orphan")
    assert k("get", "cm", "owned", "-o", "jsonpath={.metadata.ownerReferences}") == ""
    k("delete", "cm", "owned")


def test_custom_resources(cluster: PrivateCluster) -> None:
    k = cluster.kubectl
    k("apply", "-f", "-", stdin=CRON_TAB)
    k("wait", "--for=condition=Established", "crd/crontabs.stable.example.com", "--timeout=10s")
    tab = {
        "apiVersion": "stable.example.com/v1",
        "kind": "CronTab",
        "metadata": {"name": "my"},
        "spec": {"cronSpec": "* * * * */5", "replicas": 2},
    }
    k("apply", "-f", "-", stdin=json.dumps(tab))
    assert k("get", "ct", "--no-headers").split() == ["my", "*", "*", "*", "*", "*/5", "2"]
    found = json.loads(k("get", "ct", "my", "-o", "json"))
    assert found["spec"] == {"cronSpec": "* * * * */5", "image": "busybox", "max": 5, "replicas": 2}
    k("scale", "ct", "my", "--replicas=3")
    patch = ("patch", "ct", "my", "--type=merge", "-p")
    assert "replicas above max" in k(*patch, '{"spec":{"replicas":7}}', check=False)
    assert "should be less than or equal to 10" in k(*patch, '{"spec":{"replicas":70}}', check=False)
    assert "cronSpec is immutable" in k(*patch, '{"spec":{"cronSpec":"1 * * * *"}}', check=False)
    assert "When it runs" in k("explain", "ct.spec.cronSpec")
    assert "crontabs" in k("api-resources", "--api-group=stable.example.com")
    k("delete", "crd", "crontabs.stable.example.com", "--timeout=20s")
    assert "the server could not find" in k("get", "--raw", "/apis/stable.example.com/v1/crontabs", check=False)


def test_the_rest_of_the_tour(cluster: PrivateCluster) -> None:
    k = cluster.kubectl
    k("create", "ns", "tour")
    n = ("-n", "tour")
    k("create", "job", "j", "--image=busybox", *n, "--", "true")
    k("create", "cronjob", "cj", "--image=busybox", "--schedule=*/5 * * * *", *n, "--", "true")
    k("create", "quota", "q", "--hard=pods=2", *n)
    k("create", "pdb", "p", "--selector=a=b", "--min-available=1", *n)
    k("create", "ingress", "i", "--rule=foo.com/bar=svc1:8080", *n)
    k("create", "sa", "s1", *n)
    k("create", "secret", "generic", "sec", "--from-literal=a=b", *n)
    k("create", "priorityclass", "pc", "--value=5")
    everything = k("get", "job,cronjob,quota,pdb,ing,sa,secret,pc", *n)
    for text in ("job.batch/j", "*/5 * * * *", "pods: ", "foo.com", "Opaque", "priorityclass"):
        assert text in everything
    assert k("get", "secret", "sec", "-o", "go-template={{.data.a | base64decode}}", *n) == "b"
    k("taint", "nodes", "none", "k=v:NoSchedule", check=False)
    k("delete", "ns", "tour", "--timeout=20s")
    k("delete", "priorityclass", "pc")


def test_a_list_is_applied_and_older_explanations_are_had(cluster: PrivateCluster) -> None:
    items = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}}
        for name in ("listed-one", "listed-two")
    ]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    assert cluster.kubectl("apply", "-f", "-", stdin=listed).count("created") == 2
    assert cluster.kubectl("apply", "-f", "-", stdin=listed).count("unchanged") == 2
    assert "RollingUpdate" in cluster.kubectl("explain", "--output=plaintext-openapiv2", "deployment.spec.strategy")
    cluster.kubectl("delete", "configmap", "listed-one", "listed-two")
