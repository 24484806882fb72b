"""token of service accounts: the TokenRequest API.

Source: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from windlass.http import Response
from windlass.kube.api import objects, status
from windlass.kube.api.authentication.serviceaccount import Bound, ServiceAccountTokens
from windlass.kube.api.handlers import bodies, encoding, single
from windlass.kube.api.handlers.call import Call
from windlass.kube.api.operations import reading
from windlass.kube.api.operations.environment import Actor, Creator, Environment
from windlass.kube.api.resource import Object

_KIND = ("authentication.k8s.io/v1", "TokenRequest")
_LEAST, _MOST, _DEFAULT = 600, 2**32, 3600
_BINDABLE = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


def handler(tokens: ServiceAccountTokens) -> Callable[[Call], Awaitable[Response]]:
    """The handler that issues tokens."""

    async def handle(call: Call) -> Response:
        single.negotiate_object(call)
        call.begin_write("CreateOptions")
        request = bodies.decode(await bodies.read_bytes(call), bodies.media_type(call), None)
        answer = await issue(call.env, tokens, call.namespace, call.info.name, request)
        return encoding.respond(call, 201, encoding.encode(call.form, answer))

    return handle


def creator(tokens: ServiceAccountTokens) -> Creator:
    """The same without HTTP."""

    async def create(env: Environment, _actor: Actor, namespace: str, name: str, request: Object) -> Object:
        return await issue(env, tokens, namespace, name, request)

    return create


async def issue(env: Environment, tokens: ServiceAccountTokens, namespace: str, name: str, request: Object) -> Object:
    """Answer a TokenRequest for an account. Raises StatusError: 400, 404, 409, 422."""
    accounts = env.registry.get("", "v1", "serviceaccounts")
    assert accounts is not None
    account = await reading.find_object(env, accounts, namespace, name)
    if request.get("kind", _KIND[1]) != _KIND[1]:
        raise status.bad_request(f"no kind {status.show_value(request['kind'])} is registered for a token request")
    spec = request.get("spec") or {}
    seconds = spec.get("expirationSeconds")
    seconds = _DEFAULT if seconds is None else seconds
    errors = []
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < _LEAST:
        errors.append(
            status.invalid_value("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
        )
    elif seconds > _MOST:
        detail = "may not specify a duration larger than 2^32 seconds"
        errors.append(status.invalid_value("spec.expirationSeconds", seconds, detail))
    if errors:
        raise status.invalid("TokenRequest", "authentication.k8s.io", "", errors)
    bound = await _bound(env, spec.get("boundObjectRef"), namespace, name)
    token, expires = tokens.issue(account, seconds=seconds, audiences=spec.get("audiences") or (), bound=bound)
    return {
        "kind": _KIND[1],
        "apiVersion": _KIND[0],
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": env.timestamp()},
        "spec": {
            "audiences": list(spec.get("audiences") or tokens.audiences),
            "expirationSeconds": seconds,
            "boundObjectRef": spec.get("boundObjectRef"),
        },
        "status": {"token": token, "expirationTimestamp": objects.timestamp(expires)},
    }


async def _bound(env: Environment, reference: Object | None, namespace: str, account: str) -> Bound | None:
    if not reference:
        return None
    kind, name = reference.get("kind", ""), reference.get("name", "")
    plural = _BINDABLE.get(kind)
    if plural is None:
        raise status.bad_request(f"cannot bind token for serviceaccount {account!r} to type {kind!r}")
    resource = env.registry.get("", "v1", plural)
    assert resource is not None
    found = await reading.find_object(env, resource, namespace if resource.namespaced else "", name)
    metadata = found["metadata"]
    if reference.get("uid") and reference["uid"] != metadata["uid"]:
        why = (
            f"the UID in the bound object reference ({reference['uid']}) does not match the UID in "
            "record. The object might have been deleted and then recreated"
        )
        raise status.conflict(plural, "", name, why)
    node = None
    if kind == "Pod":
        own = (found.get("spec") or {}).get("serviceAccountName")
        if own != account:
            why = f"cannot bind token for serviceaccount {account!r} to pod running with different serviceaccount name."
            raise status.bad_request(why)
        if node_name := (found.get("spec") or {}).get("nodeName"):
            nodes = env.registry.get("", "v1", "nodes")
            assert nodes is not None
            record = env.store.get(nodes.storage.key("", node_name))
            uid = objects.decode(record.value)["metadata"]["uid"] if record is not None else ""
            node = (node_name, uid)
    return Bound(kind, metadata["name"], metadata["uid"], node)
