"""configMap, secret, downwardAPI, projected: objects as files, which follow the objects.

Source: https://kubernetes.io/docs/concepts/storage/projected-volumes/
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from typing import Any, Final

import orjson

from windlass.kernel import mounts
from windlass.kernel.mounts import Mount
from windlass.kube.api.status import StatusError
from windlass.kube.node import environment
from windlass.kube.node.environment import BadEnvironment
from windlass.kube.node.volumes import atomic, ownership
from windlass.kube.node.volumes.atomic import File
from windlass.kube.node.volumes.volume import Context, Mounted, Object, VolumeError

KINDS: Final = ("configMap", "secret", "downwardAPI", "projected")
_DEFAULT_MODE = 0o644
_TOKEN_SECONDS = 3600
_LOOK_SECONDS = 60.0
_KEPT_IN_MEMORY = frozenset({"secret", "projected"})


async def mount(context: Context, volume: Object) -> Mounted:
    """Write the files, or bring them up to date. Raises VolumeError."""
    kind = next(each for each in KINDS if each in volume)
    source = volume[kind]
    mode = source.get("defaultMode")
    mode = _DEFAULT_MODE if mode is None else mode
    files: dict[str, File] = {}
    refresh = _LOOK_SECONDS
    sources: list[Object] = (source.get("sources") or []) if kind == "projected" else [{kind: source}]
    for each in sources:
        found, seconds = await _files(context, each, mode)
        files |= found
        refresh = min(refresh, seconds)
    if context.fs_group is not None:
        files = {path: _for_group(file, context.fs_group) for path, file in files.items()}
    await asyncio.to_thread(_write, context.directory, files, in_memory=kind in _KEPT_IN_MEMORY)
    return Mounted(path=context.directory, read_only=True, refresh=refresh)


def _for_group(file: File, group: int) -> File:
    mode = ownership.mode_of(file.mode, read_only=True, is_directory=False)
    return file._replace(mode=mode, gid=group)


def _write(directory: str, files: dict[str, File], *, in_memory: bool) -> None:
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        # What is secret is never on a disk.
        if in_memory and not os.path.ismount(directory):
            mounts.mount_all([Mount("tmpfs", "tmpfs", ("mode=0755",))], directory)
        atomic.write(directory, files)
    except (OSError, ValueError) as error:
        raise VolumeError(str(error)) from error


async def _files(context: Context, source: Object, mode: int) -> tuple[dict[str, File], float]:
    """The files of one source, and in how many seconds to look again."""
    if "configMap" in source:
        return await _from_object(context, source["configMap"], "configmaps", mode), _LOOK_SECONDS
    if "secret" in source:
        return await _from_object(context, source["secret"], "secrets", mode), _LOOK_SECONDS
    if "downwardAPI" in source:
        return _downward(context, source["downwardAPI"], mode), _LOOK_SECONDS
    if "serviceAccountToken" in source:
        return await _token(context, source["serviceAccountToken"], mode)
    if "clusterTrustBundle" in source:
        return await _trust_bundle(context, source["clusterTrustBundle"], mode), _LOOK_SECONDS
    raise VolumeError(f"projected source {', '.join(source)} is not supported")


async def _from_object(context: Context, source: Object, resource: str, mode: int) -> dict[str, File]:
    name = source.get("secretName") or source.get("name") or ""
    kind = resource.removesuffix("s")
    obj = await context.find(resource, name)
    if obj is None:
        if source.get("optional"):
            return {}
        raise VolumeError(f'{kind} "{name}" not found')
    data = _contents(obj, resource)
    items = source.get("items")
    if not items:
        return {key: File(data[key], mode) for key in data}
    files = {}
    for item in items:
        if item["key"] not in data:
            if source.get("optional"):
                continue
            raise VolumeError(f"references non-existent {kind} key: {item['key']}")
        files[item["path"]] = File(data[item["key"]], _mode(item, mode))
    return files


def _contents(obj: Object, resource: str) -> dict[str, bytes]:
    if resource == "secrets":
        return {key: base64.b64decode(value or "") for key, value in (obj.get("data") or {}).items()}
    found = {key: str(value).encode() for key, value in (obj.get("data") or {}).items()}
    return found | {key: base64.b64decode(value or "") for key, value in (obj.get("binaryData") or {}).items()}


def _mode(item: Object, default: int) -> int:
    mode: Any = item.get("mode")
    return default if mode is None else int(mode)


def _downward(context: Context, source: Object, mode: int) -> dict[str, File]:
    files = {}
    for item in source.get("items") or ():
        try:
            if reference := item.get("fieldRef"):
                text = environment.field(context.pod, reference.get("fieldPath", ""))
            else:
                text = environment.resource_field(context.pod, "", item["resourceFieldRef"], context.allocatable)
        except BadEnvironment as error:
            raise VolumeError(str(error)) from None
        files[item["path"]] = File(text.encode(), _mode(item, mode))
    return files


async def _token(context: Context, source: Object, mode: int) -> tuple[dict[str, File], float]:
    """A token, kept until a fifth of its life is left."""
    metadata, path = context.pod["metadata"], source["path"]
    seconds = source.get("expirationSeconds") or _TOKEN_SECONDS
    # Where all containers run as one user, only that one may read it.
    user = _user_of(context.pod)
    mode = 0o600 if user is not None else mode
    owner = user if user is not None else -1
    kept = await asyncio.to_thread(_read_token, f"{context.directory}/{path}")
    left = _until_renewal(kept)
    if left > 0:
        return {path: File(kept, mode, owner)}, min(max(left, 1.0), _LOOK_SECONDS)
    spec: Object = {
        "expirationSeconds": seconds,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]},
    }
    if source.get("audience"):
        spec["audiences"] = [source["audience"]]
    try:
        answer = await context.token(context.pod["spec"].get("serviceAccountName") or "default", spec)
    except StatusError as error:
        raise VolumeError(f"failed to fetch token: {error.message}") from None
    token = answer["token"].encode()
    return {path: File(token, mode, owner)}, min(max(_until_renewal(token), 1.0), _LOOK_SECONDS)


def _read_token(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _until_renewal(token: bytes) -> float:
    """Seconds until a fifth of a token's life is left (RFC 7519, exp and iat); 0 where it is none."""
    try:
        payload = token.split(b".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
        return float(claims["exp"] - (claims["exp"] - claims["iat"]) * 0.2 - time.time())
    except (IndexError, KeyError, TypeError, ValueError):
        return 0.0


def _user_of(pod: Object) -> int | None:
    """The one user as whom all containers run, if there is one."""
    spec = pod["spec"]
    own = (spec.get("securityContext") or {}).get("runAsUser")
    users = {
        (each.get("securityContext") or {}).get("runAsUser", own)
        for each in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    }
    only = next(iter(users)) if len(users) == 1 else None
    return only if (spec.get("securityContext") or {}).get("fsGroup") is None else None


async def _trust_bundle(context: Context, source: Object, mode: int) -> dict[str, File]:
    name = source.get("name") or ""
    if not name:
        raise VolumeError("a ClusterTrustBundle can only be chosen by its name")
    bundle = await context.find_any("clustertrustbundles", name)
    if bundle is None:
        if source.get("optional"):
            return {source["path"]: File(b"", mode)}
        raise VolumeError(f'clustertrustbundle "{name}" not found')
    return {source["path"]: File(bundle["spec"]["trustBundle"].encode(), mode)}
