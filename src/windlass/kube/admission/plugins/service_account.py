"""ServiceAccount: every pod runs as an account and, where it may, gets a token for it.

Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/
"""

from __future__ import annotations

import asyncio
from typing import Any

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.admission.chain import Answer, Plugin
from windlass.kube.api import objects, status
from windlass.kube.api.reader import Object, Reader

_MIRROR = "kubernetes.io/config.mirror"
_MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_PREFIX = "kube-api-access-"
_TOKEN_SECONDS = 3607
_DEFAULT = "default"
_TRIES, _PAUSE = 20, 0.1


class ServiceAccount(Plugin):
    """See the module."""

    name = "ServiceAccount"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """New pods."""
        return (group, resource, subresource, operation) == ("", "pods", "", "CREATE")

    def mutate(self, request: AdmissionRequest) -> Answer:
        """Set the account and mount its token. Waits a little for a new namespace's default account."""
        pod = request.target
        if _MIRROR in (pod["metadata"].get("annotations") or {}):
            return None
        spec = pod["spec"]
        name = spec.get("serviceAccountName") or _DEFAULT
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = self._find(request, name)
        if account is None:
            return self._wait(request, name)
        self._use(account, spec)
        return None

    async def _wait(self, request: AdmissionRequest, name: str) -> None:
        for _ in range(_TRIES if name == _DEFAULT else 0):
            await asyncio.sleep(_PAUSE)
            if self._find(request, name) is not None:
                break
        self._use(self._account(request, name), request.target["spec"])

    @staticmethod
    def _use(account: Object, spec: dict[str, Any]) -> None:
        if _mounts_token(spec, account):
            _mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(each) for each in account["imagePullSecrets"]]

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse a mirror pod with an account, and an account that is not there."""
        pod = request.target
        name = pod["spec"].get("serviceAccountName")
        if _MIRROR in (pod["metadata"].get("annotations") or {}):
            if name:
                raise _refused(request, "a mirror pod may not reference service accounts")
            return
        self._account(request, name or _DEFAULT)

    def _find(self, request: AdmissionRequest, name: str) -> Object | None:
        return self._reader.get("", "serviceaccounts", request.namespace, name)

    def _account(self, request: AdmissionRequest, name: str) -> Object:
        account = self._find(request, name)
        if account is None:
            raise _refused(
                request,
                f'error looking up service account {request.namespace}/{name}: serviceaccount "{name}" not found',
            )
        return account


def _refused(request: AdmissionRequest, why: str) -> status.StatusError:
    return status.forbidden("pods", "", request.name, why)


def _mounts_token(spec: dict[str, Any], account: Object) -> bool:
    for holder in (spec, account):
        if (wanted := holder.get("automountServiceAccountToken")) is not None:
            return bool(wanted)
    return True


def _mount_token(spec: dict[str, Any]) -> None:
    volumes = spec.get("volumes") or []
    known = next((each["name"] for each in volumes if each.get("name", "").startswith(_PREFIX)), "")
    name = known or objects.generated_name(_PREFIX)
    needed = False
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            mounts = container.get("volumeMounts") or []
            if any(mount.get("mountPath") == _MOUNT_PATH for mount in mounts):
                continue
            container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": _MOUNT_PATH}]
            needed = True
    if needed and not known:
        spec["volumes"] = [*volumes, _volume(name)]


def _volume(name: str) -> dict[str, Any]:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [namespace]}},
            ],
        },
    }
