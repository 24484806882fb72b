"""Roles: what they allow, how a refusal reads, and that nobody grants what they do not hold."""

from typing import Any

import pytest
from kubeauth_fakes import FakeReader

from windlass.kube.api.authorization import defaults, reviews
from windlass.kube.api.authorization.chain import Chain, decide, refusal
from windlass.kube.api.authorization.rbac import GROUP, RBAC, aggregate, check_bind, check_escalation
from windlass.kube.api.identity import Attributes, User
from windlass.kube.api.status import StatusError

ADA = User("ada", groups=("dev", "system:authenticated"))
MASTER = User("root", groups=("system:masters",))


def role(name: str, *rules: dict[str, Any], namespace: str = "") -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"kind": "Role" if namespace else "ClusterRole", "metadata": metadata, "rules": list(rules)}


def binding(name: str, role_name: str, subject: dict[str, str], namespace: str = "", kind: str = "ClusterRole") -> Any:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"metadata": metadata, "roleRef": {"kind": kind, "name": role_name}, "subjects": [subject]}


@pytest.fixture
def reader() -> FakeReader:
    found = FakeReader()
    for resource, obj in defaults.objects():
        found.put(GROUP, resource, obj)
    for name in defaults.AGGREGATED:
        obj = found.get(GROUP, "clusterroles", "", name)
        assert obj is not None
        # Twice over, as the controller does: edit's rules go into admin's.
        for _ in range(2):
            for other in defaults.AGGREGATED:
                stored = dict(found.get(GROUP, "clusterroles", "", other) or {})
                stored["rules"] = aggregate(stored, found.list(GROUP, "clusterroles"))
                found.put(GROUP, "clusterroles", stored)
    return found


ada = {"kind": "User", "name": "ada"}

CASES = [
    ({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}, ("get", "", "pods", "", "x"), True),
    ({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}, ("list", "", "pods", "", ""), False),
    ({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}, ("get", "", "pods", "log", "x"), False),
    ({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"]}, ("get", "", "pods", "log", "x"), True),
    ({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/*"]}, ("get", "", "pods", "log", "x"), False),
    ({"verbs": ["get"], "apiGroups": ["*"], "resources": ["*/scale"]}, ("get", "apps", "x", "scale", "y"), True),
    ({"verbs": ["*"], "apiGroups": [""], "resources": ["*"]}, ("delete", "", "pods", "log", "x"), True),
    ({"verbs": ["*"], "apiGroups": [""], "resources": ["*"]}, ("get", "apps", "pods", "", "x"), False),
    (
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]},
        ("get", "", "pods", "", "a"),
        True,
    ),
    (
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]},
        ("list", "", "pods", "", ""),
        False,
    ),
]


@pytest.mark.parametrize(("rule", "asked", "allowed"), CASES)
def test_a_rule_allows_what_it_names(rule: dict[str, Any], asked: tuple[str, ...], allowed: bool) -> None:
    reader = FakeReader()
    reader.put(GROUP, "clusterroles", role("r", rule))
    reader.put(GROUP, "clusterrolebindings", binding("b", "r", ada))
    verb, group, resource, subresource, name = asked
    attributes = Attributes(ADA, verb, group, "v1", resource, subresource, "default", name)
    assert RBAC(reader).authorize(attributes).allowed is allowed


def test_a_role_binding_of_a_cluster_role_holds_in_its_namespace_alone(reader: FakeReader) -> None:
    reader.put(GROUP, "rolebindings", binding("b", "view", {"kind": "Group", "name": "dev"}, "one"))
    rbac = RBAC(reader)
    verdict = rbac.authorize(Attributes(ADA, "list", "", "v1", "pods", namespace="one"))
    assert verdict.allowed
    assert verdict.reason == 'RBAC: allowed by RoleBinding "b/one" of ClusterRole "view" to Group "dev"'
    assert not rbac.authorize(Attributes(ADA, "list", "", "v1", "pods", namespace="two")).allowed
    assert not rbac.authorize(Attributes(ADA, "list", "", "v1", "pods")).allowed
    assert not rbac.authorize(Attributes(ADA, "list", "", "v1", "secrets", namespace="one")).allowed


def test_a_verdict_is_forgotten_when_a_binding_goes(reader: FakeReader) -> None:
    rbac = RBAC(reader)
    asked = Attributes(ADA, "list", "", "v1", "pods", namespace="one")
    assert not rbac.authorize(asked).allowed
    reader.put(GROUP, "rolebindings", binding("b", "view", ada, "one"))
    assert rbac.authorize(asked).allowed
    reader.remove(GROUP, "rolebindings", "one", "b")
    assert not rbac.authorize(asked).allowed


def test_paths_end_in_a_wildcard(reader: FakeReader) -> None:
    rbac = RBAC(reader)
    for path, allowed in (("/apis/apps", True), ("/version", True), ("/metrics", False), ("/apisx", False)):
        asked = Attributes(User("x", groups=("system:authenticated",)), "get", path=path, is_resource=False)
        assert rbac.authorize(asked).allowed is allowed, path


def test_aggregated_roles_hold_one_another(reader: FakeReader) -> None:
    roles = {name: reader.get(GROUP, "clusterroles", "", name) or {} for name in ("view", "edit", "admin")}
    assert all(rule in roles["edit"]["rules"] for rule in roles["view"]["rules"])
    assert all(rule in roles["admin"]["rules"] for rule in roles["edit"]["rules"])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            Attributes(ADA, "list", "", "v1", "pods", namespace="default"),
            'pods is forbidden: User "ada" cannot list resource "pods" in API group "" in the namespace "default"',
        ),
        (
            Attributes(ADA, "get", "apps", "v1", "deployments", "scale", "", "x"),
            'deployments.apps "x" is forbidden: User "ada" cannot get resource "deployments/scale" in API group "apps" '
            "at the cluster scope",
        ),
        (
            Attributes(ADA, "get", path="/metrics", is_resource=False),
            'forbidden: User "ada" cannot get path "/metrics"',
        ),
    ],
)
def test_a_refusal_reads_as_upstreams(attributes: Attributes, message: str) -> None:
    assert refusal(attributes).message == message
    assert refusal(attributes, "because").message == message + ": because"


def test_nobody_grants_what_they_do_not_hold(reader: FakeReader) -> None:
    reader.put(GROUP, "rolebindings", binding("b", "view", ada, "one"))
    rbac = RBAC(reader)
    held = [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]
    assert check_escalation(rbac, ADA, "one", held) == ""
    more = [{"verbs": ["delete", "get"], "apiGroups": [""], "resources": ["pods", "secrets"]}]
    assert check_escalation(rbac, ADA, "one", more) == (
        'user "ada" (groups=["dev" "system:authenticated"]) is attempting to grant RBAC permissions '
        "not currently held:\n"
        '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}\n'
        '{APIGroups:[""], Resources:["secrets"], Verbs:["delete" "get"]}'
    )
    assert check_escalation(rbac, MASTER, "", [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]) == ""


@pytest.mark.parametrize(
    "rule",
    [
        {"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["get"], "apiGroups": ["*"], "resources": ["pods"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["*"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/exec"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["get"], "nonResourceURLs": ["*"]},
    ],
)
def test_wildcards_and_missing_names_are_more_than_what_is_held(rule: dict[str, Any]) -> None:
    reader = FakeReader()
    held = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}
    reader.put(GROUP, "clusterroles", role("r", held))
    reader.put(GROUP, "clusterrolebindings", binding("b", "r", ada))
    assert "not currently held" in check_escalation(RBAC(reader), ADA, "", [rule])


def test_a_binding_needs_the_roles_rules(reader: FakeReader) -> None:
    rbac = RBAC(reader)
    error = check_bind(rbac, ADA, binding("b", "cluster-admin", ada))
    assert error is not None
    assert (error.code, error.reason) == (403, "Forbidden")
    assert error.message.startswith(
        'clusterrolebindings.rbac.authorization.k8s.io "b" is forbidden: user "ada" (groups'
    )
    assert check_bind(rbac, MASTER, binding("b", "cluster-admin", ada)) is None
    missing = check_bind(rbac, ADA, binding("b", "none", ada))
    assert missing is not None
    assert missing.code == 404


def test_reconciliation_adds_what_is_missing_and_keeps_what_is_there() -> None:
    by_name = {(resource, obj["metadata"]["name"]): obj for resource, obj in defaults.objects()}
    wanted = by_name["clusterroles", "system:kube-dns"]
    assert defaults.reconcile(wanted, None) == wanted
    assert defaults.reconcile(wanted, wanted) is None
    own = {"verbs": ["get"], "apiGroups": ["x"], "resources": ["y"]}
    changed = defaults.reconcile(wanted, {**wanted, "rules": [own]})
    assert changed is not None
    assert own in changed["rules"] and len(changed["rules"]) > 1
    assert defaults.reconcile(wanted, changed) is None
    off = {**wanted, "rules": [], "metadata": {**wanted["metadata"], "annotations": {defaults.AUTOUPDATE: "false"}}}
    assert defaults.reconcile(wanted, off) is None


def test_every_default_object_is_whole() -> None:
    seen = set()
    for resource, obj in defaults.objects():
        key = (resource, obj["metadata"].get("namespace"), obj["metadata"]["name"])
        assert key not in seen
        seen.add(key)
        for rule in obj.get("rules", ()):
            assert rule["verbs"] and (rule.get("nonResourceURLs") or (rule["apiGroups"] and rule["resources"]))
    assert len(seen) > 120


async def test_reviews_answer_as_the_chain_does(reader: FakeReader) -> None:
    chain = Chain([RBAC(reader)])
    spec = {"resourceAttributes": {"verb": "create", "resource": "pods", "namespace": "x"}, "user": "ada"}
    review = await reviews.subject_access_review({"spec": spec}, chain)
    assert review["status"] == {"allowed": False}
    own = await reviews.self_subject_access_review({"spec": {"resourceAttributes": {"verb": "get"}}}, MASTER, chain)
    assert own["status"]["allowed"]
    with pytest.raises(StatusError) as error:
        await reviews.subject_access_review({"spec": {"user": "ada"}}, chain)
    assert error.value.code == 422
    rules = reviews.self_subject_rules_review({"spec": {"namespace": "x"}}, ADA, RBAC(reader), complete=True)
    assert {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]} in rules[
        "status"
    ]["resourceRules"]


async def test_masters_are_never_asked_about() -> None:
    assert (await decide(Chain([]), Attributes(MASTER, "delete", "", "v1", "nodes"))).allowed
    assert not (await decide(Chain([]), Attributes(ADA, "delete", "", "v1", "nodes"))).allowed
