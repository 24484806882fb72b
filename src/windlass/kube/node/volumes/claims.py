"""persistentVolumeClaim and ephemeral: what a claim is bound to, where that is a directory of this node.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/
"""

from __future__ import annotations

import asyncio
import os

from windlass.kube.node.storage import PROVISIONED_BY
from windlass.kube.node.volumes import ownership
from windlass.kube.node.volumes.volume import EVERYBODY, Context, Mounted, Object, VolumeError


async def mount(context: Context, volume: Object) -> Mounted:
    """Find the volume behind the claim. Raises VolumeError."""
    if "ephemeral" in volume:
        name, read_only = f"{context.pod['metadata']['name']}-{volume['name']}", False
    else:
        source = volume["persistentVolumeClaim"]
        name, read_only = source["claimName"], bool(source.get("readOnly"))
    claim = await context.find("persistentvolumeclaims", name)
    if claim is None:
        raise VolumeError(f'persistentvolumeclaim "{name}" not found')
    if "ephemeral" in volume and not _is_owned(claim, context.pod):
        raise VolumeError(f'PVC "{name}" was not created for pod "{context.pod["metadata"]["name"]}"')
    bound = (claim.get("spec") or {}).get("volumeName")
    if not bound or (claim.get("status") or {}).get("phase") != "Bound":
        raise VolumeError(f'persistentvolumeclaim "{name}" is not bound')
    found = await context.find_any("persistentvolumes", bound)
    if found is None:
        raise VolumeError(f'persistentvolume "{bound}" not found')
    spec = found["spec"]
    if (spec.get("volumeMode") or "Filesystem") != "Filesystem":
        raise VolumeError(f'persistentvolume "{bound}" has volumeMode Block, which is not supported')
    local, host = spec.get("local"), spec.get("hostPath")
    if local is None and host is None:
        kinds = [kind for kind in ("nfs", "csi", "iscsi", "fc") if kind in spec]
        raise VolumeError(f'persistentvolume "{bound}" is of kind {", ".join(kinds) or "unknown"}: not supported')
    path = (local or host)["path"]
    # Who made a volume on a directory said so by its type or, for our own storage class, by an annotation.
    may_make = (host or {}).get("type") == "DirectoryOrCreate" or PROVISIONED_BY in (
        found["metadata"].get("annotations") or {}
    )
    await asyncio.to_thread(_prepare, context, path, may_make=may_make)
    return Mounted(path=path, read_only=read_only)


def _is_owned(claim: Object, pod: Object) -> bool:
    owners = claim["metadata"].get("ownerReferences") or ()
    return any(each.get("uid") == pod["metadata"]["uid"] and each.get("controller") for each in owners)


def _prepare(context: Context, path: str, *, may_make: bool) -> None:
    try:
        if may_make and not os.path.isdir(path):
            os.makedirs(path, mode=EVERYBODY, exist_ok=True)
            os.chmod(path, EVERYBODY)
        if not os.path.exists(path):
            raise VolumeError(f"path {path} does not exist")
        if context.fs_group is not None and os.path.isdir(path):
            policy = (context.pod["spec"].get("securityContext") or {}).get("fsGroupChangePolicy")
            ownership.give(path, context.fs_group, read_only=False, only_on_mismatch=policy == "OnRootMismatch")
    except OSError as error:
        raise VolumeError(str(error)) from error
