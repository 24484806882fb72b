"""Where requests of the usual clients belong by default."""

import pytest

from windlass.kube.api.flowcontrol import defaults
from windlass.kube.api.flowcontrol.matching import matches, sort_schemas
from windlass.kube.api.identity import Attributes, User

ROBOT = User("system:serviceaccount:one:r", groups=("system:serviceaccounts", "system:authenticated"))
NODE = User("system:node:a", groups=("system:nodes", "system:authenticated"))
MASTER = User("root", groups=("system:masters", "system:authenticated"))
ADA = User("ada", groups=("system:authenticated",))


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (Attributes(MASTER, "list", "", "v1", "nodes"), "exempt"),
        (Attributes(ADA, "get", path="/readyz", is_resource=False), "probes"),
        (Attributes(NODE, "patch", "", "v1", "nodes", "status", "", "a"), "system-node-high"),
        (Attributes(NODE, "list", "", "v1", "pods"), "system-nodes"),
        (Attributes(ROBOT, "list", "", "v1", "pods", namespace="one"), "service-accounts"),
        (Attributes(ADA, "list", "", "v1", "pods", namespace="one"), "global-default"),
    ],
)
def test_requests_find_their_schema(asked: Attributes, name: str) -> None:
    found = defaults.objects()
    schemas = sort_schemas([obj for resource, obj in found if resource == "flowschemas"])
    schema = next(item for item in schemas if matches(item, asked))
    assert schema["metadata"]["name"] == name
    levels = {obj["metadata"]["name"] for resource, obj in found if resource == "prioritylevelconfigurations"}
    assert {item["spec"]["priorityLevelConfiguration"]["name"] for item in schemas} <= levels
