"""What the audit policy records, and how its file is rotated."""

import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from windlass.kube.api.audit.log import AuditLog
from windlass.kube.api.audit.policy import BadAuditPolicy, Policy
from windlass.kube.api.identity import Attributes, User

ADA = User("ada", groups=("dev",))


def policy(*rules: dict[str, Any], **more: Any) -> Policy:
    return Policy({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **more})


@pytest.mark.parametrize(
    ("rule", "asked", "level"),
    [
        ({}, Attributes(ADA, "get", "", "v1", "pods"), "Request"),
        ({"users": ["bob"]}, Attributes(ADA, "get", "", "v1", "pods"), "None"),
        ({"userGroups": ["dev"], "verbs": ["get"]}, Attributes(ADA, "get", "", "v1", "pods"), "Request"),
        ({"resources": [{"group": ""}]}, Attributes(ADA, "get", "apps", "v1", "deployments"), "None"),
        ({"resources": [{"resources": ["pods"]}]}, Attributes(ADA, "get", "", "v1", "pods", "log"), "None"),
        ({"resources": [{"resources": ["pods/*"]}]}, Attributes(ADA, "get", "", "v1", "pods", "log"), "Request"),
        ({"namespaces": ["one"]}, Attributes(ADA, "get", "", "v1", "pods", namespace="two"), "None"),
        ({"nonResourceURLs": ["/healthz*"]}, Attributes(ADA, "get", path="/healthz/x", is_resource=False), "Request"),
        ({"nonResourceURLs": ["/healthz*"]}, Attributes(ADA, "get", "", "v1", "pods"), "None"),
    ],
)
def test_the_first_rule_that_matches_decides(rule: dict[str, Any], asked: Attributes, level: str) -> None:
    assert policy({"level": "Request", **rule}).choose(asked).level == level


def test_stages_left_out_by_policy_and_rule_add_up() -> None:
    rule = {"level": "Metadata", "omitStages": ["Panic"]}
    choice = policy(rule, omitStages=["RequestReceived"]).choose(Attributes(ADA, "get"))
    assert [choice.records(s) for s in ("RequestReceived", "ResponseComplete", "Panic")] == [False, True, False]


@pytest.mark.parametrize("rules", [[], [{"level": "All"}], [{"level": "Metadata", "omitStages": ["x"]}]])
def test_a_wrong_policy_is_refused(rules: list[dict[str, Any]]) -> None:
    with pytest.raises(BadAuditPolicy):
        policy(*rules)


def test_the_log_is_rotated_and_bounded(tmp_path: Path) -> None:
    times = iter(datetime.datetime(2026, 5, 1, 10, 0, second, tzinfo=datetime.UTC) for second in range(60))
    log = AuditLog(tmp_path / "audit.log", lambda: next(times), max_size=60, max_backup=2)
    for number in range(10):
        log.write({"auditID": f"{number:040d}"})
    log.close()
    assert len(log.backups()) == 2
    assert orjson.loads((tmp_path / "audit.log").read_bytes())["auditID"] == f"{9:040d}"
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600
