"""serviceaccount-controller and root-ca-cert-publisher: what every namespace has from its first moment.

Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/
"""

from __future__ import annotations

from windlass.kube.api import objects
from windlass.kube.api.resource import Object
from windlass.kube.client import Client
from windlass.kube.controllers.runner import Controller, Key

_ROOT_CA = "kube-root-ca.crt"
_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


def _namespace_key(obj: Object) -> list[Key]:
    return [(objects.name_of(obj),)]


class _InEveryNamespace(Controller):
    """Keeps one object in each active namespace."""

    def _is_active(self, name: str) -> bool:
        namespace = self.cache.get("", "namespaces", "", name)
        return namespace is not None and (namespace.get("status") or {}).get("phase") != "Terminating"


class ServiceAccountController(_InEveryNamespace):
    """The account `default`."""

    name = "service-account-controller"

    def subscribe(self) -> None:
        """Namespaces, and accounts of that name."""
        self.watch("", "namespaces", _namespace_key)
        self.watch_keys("", "serviceaccounts", lambda namespace, name: [(namespace,)] if name == "default" else [])

    async def reconcile(self, key: Key) -> float | None:
        """Make it where it is missing."""
        if self._is_active(key[0]) and self.cache.get("", "serviceaccounts", key[0], "default") is None:
            account = {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "default", "namespace": key[0]},
            }
            await self.client.ensure("", "serviceaccounts", account)
        return None


class RootCAPublisher(_InEveryNamespace):
    """The ConfigMap by which pods trust the API server."""

    name = "root-ca-cert-publisher"

    def __init__(self, client: Client, certificate: str) -> None:
        super().__init__(client)
        self._data = {"ca.crt": certificate}

    def subscribe(self) -> None:
        """Namespaces, and config maps of that name."""
        self.watch("", "namespaces", _namespace_key)
        self.watch_keys("", "configmaps", lambda namespace, name: [(namespace,)] if name == _ROOT_CA else [])

    async def reconcile(self, key: Key) -> float | None:
        """Make it, or set what somebody changed in it."""
        if not self._is_active(key[0]):
            return None
        found = await self.client.find("", "configmaps", key[0], _ROOT_CA)
        if found is None:
            config = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": _ROOT_CA,
                    "namespace": key[0],
                    "annotations": {"kubernetes.io/description": _DESCRIPTION},
                },
                "data": dict(self._data),
            }
            await self.client.ensure("", "configmaps", config)
        elif found.get("data") != self._data:

            def change(live: Object) -> None:
                live["data"] = dict(self._data)

            await self.client.update("", "configmaps", key[0], _ROOT_CA, change)
        return None
