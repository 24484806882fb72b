"""What every kind's API must do: one scenario for many kinds.

discovery lists it ─ create ─ get ─ list here and everywhere ─ watch ─ patch ─ update ─ status by patch and update ─
delete ─ delete a collection
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from support.kubeapi import Api, Refused, names


class Kind(NamedTuple):
    """A kind under test: where it is, an object of it, and the conformance tests that this scenario covers."""

    place: str
    plural: str
    body: dict[str, Any]
    covers: tuple[str, ...]
    namespaced: bool = True
    status: dict[str, Any] | None = None


CONTAINER = {"name": "c", "image": "registry.example.com/x:1"}
TEMPLATE = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [CONTAINER]}}
JOB_TEMPLATE = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}  # type: ignore[dict-item]
SELECTOR = {"matchLabels": {"app": "x"}}
RULES = [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]

KINDS = [
    Kind("apps/v1", "controllerrevisions", {"revision": 1, "data": {"a": 1}},
         ("[sig-apps] ControllerRevision [Serial] should manage the lifecycle of a ControllerRevision [Conformance]",)),
    Kind("batch/v1", "cronjobs",
         {"spec": {"schedule": "*/1 * * * *", "jobTemplate": {"spec": {"template": JOB_TEMPLATE}}}},
         ("[sig-apps] CronJob should support CronJob API operations [Conformance]",),
         status={"lastScheduleTime": "2026-01-01T00:00:00Z"}),
    Kind("networking.k8s.io/v1", "ingresses",
         {"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}},
         ("[sig-network] Ingress API should support creating Ingress API operations [Conformance]",),
         status={"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}}),
    Kind("networking.k8s.io/v1", "ingressclasses", {"spec": {"controller": "example.com/controller"}},
         ("[sig-network] IngressClass API should support creating IngressClass API operations [Conformance]",),
         namespaced=False),
    Kind("networking.k8s.io/v1", "ipaddresses",
         {"metadata": {"name": "192.168.1.1"}, "spec": {"parentRef": {"resource": "services", "name": "s"}}},
         ("[sig-network] ServiceCIDR and IPAddress API should support IPAddress API operations [Conformance]",),
         namespaced=False),
    Kind("networking.k8s.io/v1", "servicecidrs", {"spec": {"cidrs": ["10.1.1.0/24"]}},
         ("[sig-network] ServiceCIDR and IPAddress API should support ServiceCIDR API operations [Conformance]",),
         namespaced=False, status={"conditions": [{"type": "X", "status": "True", "reason": "R", "message": "",
                                                   "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
    Kind("discovery.k8s.io/v1", "endpointslices",
         {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]},
         ("[sig-network] EndpointSlice should support creating EndpointSlice API operations [Conformance]",)),
    Kind("v1", "endpoints",
         {"subsets": [{"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80}]}]},
         ("[sig-network] Endpoints should test the lifecycle of an Endpoint [Conformance]",)),
    Kind("node.k8s.io/v1", "runtimeclasses", {"handler": "h"},
         ("[sig-node] RuntimeClass should support RuntimeClasses API operations [Conformance]",), namespaced=False),
    Kind("v1", "podtemplates", {"template": TEMPLATE},
         ("[sig-node] PodTemplates should run the lifecycle of PodTemplates [Conformance]",
          "[sig-node] PodTemplates should delete a collection of pod templates [Conformance]")),
    Kind("resource.k8s.io/v1", "deviceclasses", {"spec": {}},
         ("[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 DeviceClass [Conformance]",), namespaced=False),
    Kind("resource.k8s.io/v1", "resourceclaims",
         {"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}},
         ("[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaim [Conformance]",)),
    Kind("resource.k8s.io/v1", "resourceclaimtemplates",
         {"spec": {"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}}},
         ("[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaimTemplate [Conformance]",)),
    Kind("resource.k8s.io/v1", "resourceslices",
         {"spec": {"driver": "d.example.com", "nodeName": "n", "pool": {"name": "p", "resourceSliceCount": 1}}},
         ("[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceSlice [Conformance]",), namespaced=False),
    Kind("storage.k8s.io/v1", "csidrivers", {"spec": {"attachRequired": False}},
         ("[sig-storage] CSIInlineVolumes should run through the lifecycle of a CSIDriver [Conformance]",),
         namespaced=False),
    Kind("storage.k8s.io/v1", "csinodes", {"spec": {"drivers": [{"name": "d", "nodeID": "n"}]}},
         ("[sig-storage] CSINodes CSI Conformance should run through the lifecycle of a csinode [Conformance]",),
         namespaced=False),
    Kind("storage.k8s.io/v1", "csistoragecapacities", {"storageClassName": "s", "capacity": "1Gi"},
         ("[sig-storage] CSIStorageCapacity should support CSIStorageCapacities API operations [Conformance]",)),
    Kind("storage.k8s.io/v1", "storageclasses", {"provisioner": "example.com/p"},
         ("[sig-storage] StorageClasses CSI Conformance should run through the lifecycle of a StorageClass "
          "[Conformance]",),
         namespaced=False),
    Kind("storage.k8s.io/v1", "volumeattachments",
         {"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}},
         ("[sig-storage] VolumeAttachment Conformance should run through the lifecycle of a VolumeAttachment "
          "[Conformance]",),
         namespaced=False, status={"attached": True}),
    Kind("storage.k8s.io/v1", "volumeattributesclasses", {"driverName": "d", "parameters": {"a": "b"}},
         ("[sig-storage] VolumeAttributesClass [FeatureGate:VolumeAttributesClass] should run through the lifecycle "
          "of a VolumeAttributesClass [Conformance]",), namespaced=False),
    Kind("flowcontrol.apiserver.k8s.io/v1", "flowschemas",
         {"spec": {"matchingPrecedence": 9000, "priorityLevelConfiguration": {"name": "global-default"}}},
         ("[sig-api-machinery] API priority and fairness should support FlowSchema API operations [Conformance]",),
         namespaced=False, status={"conditions": [{"type": "Dangling", "status": "False"}]}),
    Kind("flowcontrol.apiserver.k8s.io/v1", "prioritylevelconfigurations",
         {"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}},
         ("[sig-api-machinery] API priority and fairness should support PriorityLevelConfiguration API operations "
          "[Conformance]",), namespaced=False, status={"conditions": [{"type": "X", "status": "False"}]}),
    Kind("admissionregistration.k8s.io/v1", "validatingadmissionpolicies",
         {"spec": {"matchConstraints": {"resourceRules": RULES}, "validations": [{"expression": "true"}]}},
         ("[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support "
          "ValidatingAdmissionPolicy API operations [Conformance]",), namespaced=False,
         status={"conditions": [{"type": "X", "status": "True", "reason": "R", "message": "",
                                 "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
    Kind("admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings",
         {"spec": {"policyName": "nobody", "validationActions": ["Deny"]}},
         ("[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support "
          "ValidatingAdmissionPolicyBinding API operations [Conformance]",), namespaced=False),
    Kind("admissionregistration.k8s.io/v1", "mutatingadmissionpolicies",
         {"spec": {"matchConstraints": {"resourceRules": RULES}, "reinvocationPolicy": "Never",
                   "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}},
         ("[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support "
          "MutatingAdmissionPolicy API operations [Conformance]",), namespaced=False),
    Kind("admissionregistration.k8s.io/v1", "mutatingadmissionpolicybindings", {"spec": {"policyName": "nobody"}},
         ("[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support "
          "MutatingAdmissionPolicyBinding API operations [Conformance]",), namespaced=False),
    Kind("v1", "serviceaccounts", {"automountServiceAccountToken": False},
         ("[sig-auth] ServiceAccounts should run through the lifecycle of a ServiceAccount [Conformance]",
          "[sig-auth] ServiceAccounts should update a ServiceAccount [Conformance]")),
    Kind("v1", "secrets", {"stringData": {"a": "b"}}, ("[sig-node] Secrets should patch a secret [Conformance]",)),
    Kind("v1", "services", {"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}},
         ("[sig-network] Services should delete a collection of services [Conformance]",),
         status={"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}),
    Kind("v1", "nodes", {}, ("[sig-node] Node Lifecycle should run through the lifecycle of a node [Conformance]",),
         namespaced=False, status={"phase": "Running"}),
    Kind("v1", "events",
         {"reason": "R", "message": "m", "type": "Normal",
          "involvedObject": {"kind": "Pod", "name": "p", "namespace": "$namespace"}},
         ("[sig-instrumentation] Events should manage the lifecycle of an event [Conformance]",
          "[sig-instrumentation] Events should delete a collection of events [Conformance]")),
    Kind("events.k8s.io/v1", "events",
         {"reason": "R", "note": "n", "type": "Normal", "action": "A", "reportingController": "c",
          "reportingInstance": "i", "eventTime": "2026-01-01T00:00:00.000000Z",
          "regarding": {"kind": "Pod", "name": "p", "namespace": "$namespace"}},
         ("[sig-instrumentation] Events API should ensure that an event can be fetched, patched, deleted, and listed "
          "[Conformance]", "[sig-instrumentation] Events API should delete a collection of events [Conformance]")),
    Kind("v1", "resourcequotas", {"spec": {"hard": {"count/replicasets.apps": "5"}}},
         ("[sig-api-machinery] ResourceQuota should manage the lifecycle of a ResourceQuota [Conformance]",
          "[sig-api-machinery] ResourceQuota should be able to update and delete ResourceQuota. [Conformance]")),
    Kind("policy/v1", "poddisruptionbudgets", {"spec": {"minAvailable": 1, "selector": SELECTOR}}, (),
         status={"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}),
    Kind("coordination.k8s.io/v1", "leases", {"spec": {"holderIdentity": "h", "leaseDurationSeconds": 30}},
         ("[sig-node] Lease lease API should be available [Conformance]",)),
    Kind("v1", "configmaps", {"data": {"a": "b"}},
         ("[sig-node] ConfigMap should run through a ConfigMap lifecycle [Conformance]",)),
    Kind("v1", "limitranges", {"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}}]}},
         ("[sig-scheduling] LimitRange should list, patch and delete a LimitRange by collection [Conformance]",)),
    Kind("scheduling.k8s.io/v1", "priorityclasses", {"value": 100},
         ("[sig-scheduling] SchedulerPreemption [Serial] PriorityClass endpoints verify PriorityClass endpoints can be "
          "operated with different HTTP methods [Conformance]",), namespaced=False),
    Kind("autoscaling/v2", "horizontalpodautoscalers",
         {"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}},
         (),
         status={"currentReplicas": 1, "desiredReplicas": 1, "currentMetrics": []}),
]  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.conformance(*kind.covers), id=f"{kind.plural}.{kind.place}")
        for kind in KINDS
    ],
)
def test_api_operations(api: Api, kind: Kind) -> None:
    base = f"/apis/{kind.place}" if "/" in kind.place else f"/api/{kind.place}"
    resources = {each["name"]: each for each in api.get(base)["resources"]}
    found = resources[kind.plural]
    assert found["namespaced"] is kind.namespaced
    assert set(found["verbs"]) == {
        "create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"
    }  # fmt: skip
    collection = f"{base}/namespaces/{api.namespace}/{kind.plural}" if kind.namespaced else f"{base}/{kind.plural}"
    label = f"scenario={api.namespace}"
    body = json.loads(json.dumps(kind.body).replace("$namespace", api.namespace))
    metadata = body.setdefault("metadata", {})
    name = metadata.setdefault("name", f"x-{api.namespace}")
    metadata["labels"] = {"scenario": api.namespace}
    begin = api.get(f"{collection}?labelSelector={label}")["metadata"]["resourceVersion"]

    made = api.post(collection, body)
    assert made["kind"] == found["kind"] and made["metadata"]["uid"]
    with pytest.raises(Refused) as caught:
        api.post(collection, body)
    assert (caught.value.code, caught.value.reason) == (409, "AlreadyExists")
    one = f"{collection}/{name}"
    assert api.get(one)["metadata"]["uid"] == made["metadata"]["uid"]
    assert list(names(api.get(f"{collection}?labelSelector={label}"))) == [name]
    assert list(names(api.get(f"{base}/{kind.plural}?labelSelector={label}"))) == [name]

    patched = api.patch(one, {"metadata": {"annotations": {"patched": "true"}}})
    assert patched["metadata"]["annotations"]["patched"] == "true"
    updated = api.change(one, lambda found: found["metadata"]["annotations"].update(updated="true"))
    assert updated["metadata"]["annotations"]["updated"] == "true"
    if kind.status is not None:
        changed = api.patch(f"{one}/status", {"status": kind.status})
        assert all(changed["status"][key] == value for key, value in kind.status.items())
        again = api.change(f"{one}/status", lambda found: found["metadata"]["annotations"].update({"in": "status"}))
        assert again["metadata"]["annotations"]["in"] == "status"
        assert api.get(f"{one}/status")["status"] == again["status"]

    api.delete(one)
    assert api.eventually(lambda: api.gone(one))
    del metadata["name"]
    metadata["generateName"] = "y-"
    if kind.plural != "ipaddresses":
        for _ in range(2):
            api.post(collection, body)
        assert len(api.get(f"{collection}?labelSelector={label}")["items"]) == 2
    api.delete(f"{collection}?labelSelector={label}")
    assert api.eventually(lambda: not api.get(f"{collection}?labelSelector={label}")["items"])
    events = [
        kind_of
        for kind_of, obj in api.watch(f"{collection}?labelSelector={label}&resourceVersion={begin}")
        if obj["metadata"]["name"] == name
    ]
    assert events[0] == "ADDED" and events[-1] == "DELETED" and "MODIFIED" in events
