"""What a StatefulSet's pod is called, and the claims that are its own.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#pod-identity
"""

from __future__ import annotations

from typing import Final

from windlass.kube.api import objects
from windlass.kube.api.resource import Object
from windlass.kube.controllers import history
from windlass.kube.controllers.ownership import plain_reference
from windlass.kube.controllers.pod_control import pod_of

POD_NAME: Final = "statefulset.kubernetes.io/pod-name"
INDEX: Final = "apps.kubernetes.io/pod-index"


def first_ordinal(stateful_set: Object) -> int:
    """The ordinal of the first pod."""
    return int((stateful_set["spec"].get("ordinals") or {}).get("start") or 0)


def ordinal_of(stateful_set: Object, pod: Object) -> int | None:
    """The ordinal that a pod's name states, None where it is no name of this set's pods."""
    before, _, text = str(pod["metadata"]["name"]).rpartition("-")
    return int(text) if before == stateful_set["metadata"]["name"] and text.isdigit() else None


def pod_for(stateful_set: Object, ordinal: int, revision: str) -> Object:
    """The pod of an ordinal; `stateful_set` has the template of that revision."""
    name = f"{stateful_set['metadata']['name']}-{ordinal}"
    made = pod_of(stateful_set["spec"]["template"], stateful_set)
    del made["metadata"]["generateName"]
    made["metadata"]["name"] = name
    labels = made["metadata"].setdefault("labels", {})
    labels |= {POD_NAME: name, INDEX: str(ordinal), history.HASH: revision}
    spec = made["spec"]
    spec["hostname"] = name
    spec["subdomain"] = stateful_set["spec"].get("serviceName", "")
    claims = {each["metadata"]["name"]: claim_name(stateful_set, each, ordinal) for each in templates(stateful_set)}
    own = [
        {"name": volume, "persistentVolumeClaim": {"claimName": claim, "readOnly": False}}
        for volume, claim in claims.items()
    ]
    volumes = [*own, *(each for each in spec.get("volumes") or () if each["name"] not in claims)]
    if volumes:
        spec["volumes"] = volumes
    return made


def templates(stateful_set: Object) -> list[Object]:
    """The templates of the claims."""
    return list(stateful_set["spec"].get("volumeClaimTemplates") or ())


def claim_name(stateful_set: Object, template: Object, ordinal: int) -> str:
    """The name of an ordinal's claim."""
    return f"{template['metadata']['name']}-{stateful_set['metadata']['name']}-{ordinal}"


def claim_for(stateful_set: Object, template: Object, ordinal: int) -> Object:
    """An ordinal's claim."""
    metadata = template["metadata"]
    selector = stateful_set["spec"].get("selector") or {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim_name(stateful_set, template, ordinal),
            "namespace": stateful_set["metadata"]["namespace"],
            "labels": {**(metadata.get("labels") or {}), **(selector.get("matchLabels") or {})},
            "annotations": dict(metadata.get("annotations") or {}),
        },
        "spec": objects.copy(template["spec"]),
    }


def owners(stateful_set: Object, references: list[Object], pod: Object | None, *, scaled_away: bool) -> list[Object]:
    """Whose end is a claim's end, too, by the retention policy.

    Source: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#persistentvolumeclaim-retention
    """
    policy = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    uids = {stateful_set["metadata"]["uid"]} | ({pod["metadata"]["uid"]} if pod is not None else set())
    found = [each for each in references if each["uid"] not in uids]
    if policy.get("whenScaled") == "Delete" and scaled_away and pod is not None:
        return [*found, plain_reference(pod)]
    if policy.get("whenDeleted") == "Delete":
        found.append(plain_reference(stateful_set))
    return found
