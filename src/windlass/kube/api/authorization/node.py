"""The Node authorizer: a kubelet reads what its pods need, and writes what is its own.

    node ─ pods on it ─ secrets, config maps, claims (and their volumes), service accounts (tokens)

The edges follow the pods: what a pod on the node names may be read, nothing else. What else kubelets do is allowed by
RBAC's system:node role and bounded by the admission plugin NodeRestriction.

Source: https://kubernetes.io/docs/reference/access-authn-authz/node/
"""

from __future__ import annotations

from collections.abc import Iterator

from windlass.kube.api.identity import NO_OPINION, Attributes, Decision, Verdict
from windlass.kube.api.reader import Object, Reader

_PREFIX = "system:node:"
_READS = frozenset({"get", "list", "watch"})
_ALLOW = Verdict(Decision.ALLOW)
_RULES: tuple[tuple[str, str, frozenset[str]], ...] = (
    ("", "services", _READS),
    ("", "nodes", frozenset({"create", "get", "list", "watch", "update", "patch"})),
    ("", "nodes/status", frozenset({"update", "patch"})),
    ("", "pods", frozenset({"get", "list", "watch", "create", "delete"})),
    ("", "pods/status", frozenset({"update", "patch"})),
    ("", "pods/eviction", frozenset({"create"})),
    ("", "events", frozenset({"create", "update", "patch"})),
    ("authentication.k8s.io", "tokenreviews", frozenset({"create"})),
    ("authorization.k8s.io", "subjectaccessreviews", frozenset({"create"})),
    ("authorization.k8s.io", "localsubjectaccessreviews", frozenset({"create"})),
    ("certificates.k8s.io", "certificatesigningrequests", frozenset({"create", "get", "list", "watch"})),
    ("coordination.k8s.io", "leases", frozenset({"create", "get", "update", "patch", "delete"})),
    ("storage.k8s.io", "csidrivers", _READS),
    ("storage.k8s.io", "csinodes", frozenset({"create", "get", "update", "patch", "delete"})),
    ("node.k8s.io", "runtimeclasses", _READS),
)
_BY_GRAPH = frozenset(
    {
        ("", "secrets"),
        ("", "configmaps"),
        ("", "persistentvolumeclaims"),
        ("", "persistentvolumes"),
        ("storage.k8s.io", "volumeattachments"),
    }
)


_OF_ONE_NODE = frozenset({("", "nodes"), ("", "pods")})


class NodeAuthorizer:
    """See the module."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._rules = {(group, resource): verbs for group, resource, verbs in _RULES}
        self._pods: dict[str, dict[tuple[str, str], Object]] = {}
        self._nodes: dict[tuple[str, str], str] = {}
        self._is_built = False

    def _build(self) -> None:
        self._is_built = True
        self._reader.subscribe("", "pods", self._changed)
        for pod in self._reader.list("", "pods"):
            self._changed("ADDED", pod)

    def _changed(self, event: str, pod: Object) -> None:
        key = (pod["metadata"].get("namespace", ""), pod["metadata"]["name"])
        before = self._nodes.pop(key, None)
        if before is not None:
            self._pods.get(before, {}).pop(key, None)
        node = (pod.get("spec") or {}).get("nodeName")
        if node and event != "DELETED":
            self._nodes[key] = node
            self._pods.setdefault(node, {})[key] = pod

    def authorize(self, attributes: Attributes, /) -> Verdict:
        """See `Authorizer`."""
        user = attributes.user
        if "system:nodes" not in user.groups or not user.name.startswith(_PREFIX):
            return NO_OPINION
        node = user.name.removeprefix(_PREFIX)
        if not attributes.is_resource:
            return NO_OPINION
        place = (attributes.group, attributes.resource)
        if place in _BY_GRAPH:
            return self._by_graph(node, attributes)
        if place == ("", "serviceaccounts"):
            if attributes.subresource == "token" and attributes.verb == "create":
                return self._if_named(node, attributes)
            return Verdict(Decision.NO_OPINION, "no relationship found between node and this object")
        if place in _OF_ONE_NODE and not attributes.subresource and attributes.verb in _READS:
            return self._own(node, attributes)
        name = f"{attributes.resource}/{attributes.subresource}" if attributes.subresource else attributes.resource
        verbs = self._rules.get((attributes.group, name))
        return _ALLOW if verbs is not None and attributes.verb in verbs else NO_OPINION

    def _own(self, node: str, attributes: Attributes) -> Verdict:
        """Reads of nodes and pods: a kubelet's own node, and the pods on it."""
        if attributes.resource == "nodes":
            if attributes.name == node:
                return _ALLOW
            why = f"node '{node}' cannot read '{attributes.name}', only its own Node object"
            return Verdict(Decision.NO_OPINION, why)
        if attributes.verb == "get" or (attributes.verb == "watch" and attributes.name):
            return self._if_named(node, attributes)
        for wanted in attributes.field_selector or ():
            if wanted.key == "spec.nodeName" and wanted.operator == "In" and list(wanted.values) == [node]:
                return _ALLOW
        return Verdict(Decision.NO_OPINION, "can only list/watch pods with spec.nodeName field selector")

    def _by_graph(self, node: str, attributes: Attributes) -> Verdict:
        if attributes.resource == "persistentvolumeclaims" and attributes.subresource == "status":
            if attributes.verb not in ("get", "update", "patch"):
                return Verdict(Decision.NO_OPINION, "can only get, update or patch this type")
            return self._if_named(node, attributes)
        if attributes.subresource:
            return Verdict(Decision.NO_OPINION, "cannot read subresource")
        if attributes.verb not in _READS:
            return Verdict(Decision.NO_OPINION, "can only read resources of this type")
        if not attributes.name:
            return Verdict(Decision.NO_OPINION, "can only read an individual resource of this type")
        return self._if_named(node, attributes)

    def _if_named(self, node: str, attributes: Attributes) -> Verdict:
        if not self._is_built:
            self._build()
        wanted = (attributes.resource, attributes.namespace, attributes.name)
        for pod in self._pods.get(node, {}).values():
            if wanted in self._names(pod):
                return _ALLOW
        return Verdict(Decision.NO_OPINION, f"no relationship found between node '{node}' and this object")

    def _names(self, pod: Object) -> Iterator[tuple[str, str, str]]:
        """All that a pod names: resource, namespace, name."""
        spec, namespace = pod.get("spec") or {}, pod["metadata"].get("namespace", "")
        yield "pods", namespace, pod["metadata"]["name"]
        yield "serviceaccounts", namespace, spec.get("serviceAccountName") or "default"
        for each in spec.get("imagePullSecrets") or ():
            yield "secrets", namespace, each.get("name", "")
        for kind in ("initContainers", "containers", "ephemeralContainers"):
            for container in spec.get(kind) or ():
                for source in container.get("envFrom") or ():
                    for field, resource in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
                        if source.get(field):
                            yield resource, namespace, source[field].get("name", "")
                for variable in container.get("env") or ():
                    found = variable.get("valueFrom") or {}
                    for field, resource in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
                        if found.get(field):
                            yield resource, namespace, found[field].get("name", "")
        for volume in spec.get("volumes") or ():
            yield from self._of_volume(volume, namespace, pod)

    def _of_volume(self, volume: Object, namespace: str, pod: Object) -> Iterator[tuple[str, str, str]]:
        if volume.get("secret"):
            yield "secrets", namespace, volume["secret"].get("secretName", "")
        if volume.get("configMap"):
            yield "configmaps", namespace, volume["configMap"].get("name", "")
        for source in (volume.get("projected") or {}).get("sources") or ():
            for field, resource in (("secret", "secrets"), ("configMap", "configmaps")):
                if source.get(field):
                    yield resource, namespace, source[field].get("name", "")
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
        if volume.get("ephemeral"):
            claim = f"{pod['metadata']['name']}-{volume['name']}"
        if claim:
            yield "persistentvolumeclaims", namespace, claim
            found = self._reader.get("", "persistentvolumeclaims", namespace, claim)
            if bound := ((found or {}).get("spec") or {}).get("volumeName"):
                yield "persistentvolumes", "", bound
