"""What a request is about: its path and method taken apart.

    /api/v1/namespaces/default/pods/web/log        core group, namespaced, subresource "log"
    /apis/apps/v1/deployments?watch=true           all namespaces, verb "watch"
    /apis/rbac.authorization.k8s.io/v1/clusterroles/view
    /api/v1/namespaces/default                     the namespace itself
    /api/v1/watch/namespaces/default/pods          the old spelling of watch
    /version                                       not a resource: the verb is the method

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris and "Determine the Request Verb" in
https://kubernetes.io/docs/reference/access-authn-authz/authorization/.
"""

from __future__ import annotations

from windlass.kube.api import status

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


class RequestInfo:
    """One request's place in the API.

    Attributes:
        verb: of a resource: "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"; of
            another path: the method in lower case.
        prefix: "api", "apis", or "" where the path is no resource.
        rest: what follows the subresource in the path (proxies), without a leading slash.
    """

    __slots__ = (
        "group",
        "is_resource",
        "name",
        "namespace",
        "path",
        "prefix",
        "resource",
        "rest",
        "subresource",
        "verb",
        "version",
    )

    def __init__(self, path: str, verb: str) -> None:
        self.path = path
        self.verb = verb
        self.is_resource = False
        self.prefix = self.group = self.version = ""
        self.namespace = self.resource = self.name = self.subresource = self.rest = ""

    def __repr__(self) -> str:
        return f"<RequestInfo {self.verb} {self.path}>"


def parse_request(method: str, path: str, query: list[tuple[str, str]]) -> RequestInfo:
    """Take apart a request's method, decoded path and query."""
    info = RequestInfo(path, method.lower())
    parts = [part for part in path.split("/") if part]
    if len(parts) < 3 or parts[0] not in ("api", "apis") or (parts[0] == "apis" and len(parts) < 4):
        return info
    if parts[0] == "apis":
        info.group, info.version, rest = parts[1], parts[2], parts[3:]
    else:
        info.version, rest = parts[1], parts[2:]
    info.prefix = parts[0]
    verb = _VERBS.get(method, "")
    if rest[0] in ("watch", "proxy") and len(rest) > 1:
        verb, rest = rest[0], rest[1:]
    if rest[0] == "namespaces" and len(rest) > 1:
        info.namespace = rest[1]
        if len(rest) > 2 and rest[2] not in _NAMESPACE_SUBRESOURCES:
            rest = rest[2:]
    info.is_resource = True
    info.resource = rest[0]
    if len(rest) > 1:
        info.name = rest[1]
    if len(rest) > 2:
        info.subresource = rest[2]
        info.rest = "/".join(rest[3:])
        if path.endswith("/") and info.rest:
            info.rest += "/"
    if not info.name:
        if verb == "get":
            verb = "watch" if _asks_to_watch(query) else "list"
        elif verb == "delete":
            verb = "deletecollection"
    info.verb = verb
    return info


def _asks_to_watch(query: list[tuple[str, str]]) -> bool:
    return any(name == "watch" and value not in _FALSE and value != "" for name, value in query)


class Options:
    """The query parameters of a request to a resource (ListOptions, CreateOptions and so on)."""

    __slots__ = ("_values",)

    def __init__(self, query: list[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in query:
            self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        """The first value of a parameter, "" where it is absent."""
        values = self._values.get(name)
        return values[0] if values else ""

    def texts(self, name: str) -> list[str]:
        """All values of a parameter."""
        return self._values.get(name, [])

    def given(self, name: str) -> bool:
        """Whether the parameter is there."""
        return name in self._values

    def flag(self, name: str) -> bool:
        """A boolean parameter, as conversion from a query string reads it: present without a value means true.

        Raises:
            StatusError: 400, the value is none.
        """
        value = self.text(name)
        if value in _TRUE or (value == "" and name in self._values):
            return True
        if value in _FALSE or value == "":
            return False
        raise status.bad_request(f'strconv.ParseBool: parsing "{value}": invalid syntax')

    def number(self, name: str) -> int | None:
        """An integer parameter, None where it is absent.

        Raises:
            StatusError: 400, the value is none.
        """
        value = self.text(name)
        if not value:
            return None
        try:
            number = int(value)
        except ValueError:
            raise status.bad_request(f'strconv.ParseInt: parsing "{value}": invalid syntax') from None
        if not -(2**63) <= number < 2**63:
            raise status.bad_request(f'strconv.ParseInt: parsing "{value}": value out of range')
        return number

    @property
    def dry_run(self) -> bool:
        """Whether nothing is to be stored.

        Raises:
            StatusError: 422, dryRun has another value than "All".
        """
        values = self._values.get("dryRun")
        if not values:
            return False
        if any(value != "All" for value in values):
            error = status.not_supported("dryRun", values[0] if len(values) == 1 else values, ["All"])
            raise status.invalid("DeleteOptions", "meta.k8s.io", "", [error])
        return True
