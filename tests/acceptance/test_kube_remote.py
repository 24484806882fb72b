"""The remote client against a real server: what it reads, writes and keeps in memory, also when the server dies."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.cluster import PrivateCluster
from windlass.kube.api.status import StatusError
from windlass.kube.remote.cache import NotFollowed
from windlass.kube.remote.client import RemoteClient
from windlass.kube.remote.references import References
from windlass.kube.remote.transport import Credentials, Transport

Object = dict[str, Any]


@pytest.fixture
def mortal() -> Iterator[PrivateCluster]:
    """A server that a test may kill."""
    root = Path(tempfile.mkdtemp(prefix="wlr-"))
    cluster = PrivateCluster(root)
    try:
        cluster.start()
        yield cluster
        cluster.stop()
    finally:
        if cluster.process and cluster.process.poll() is None:
            cluster.process.kill()
            cluster.process.wait()
        shutil.rmtree(root, ignore_errors=True)


@asynccontextmanager
async def connected(cluster: PrivateCluster) -> AsyncIterator[RemoteClient]:
    tls = cluster.root / "data" / "tls"
    credentials = Credentials(
        authority=(tls / "ca.crt").read_bytes(), certificate=tls / "admin.crt", key=tls / "admin.key"
    )
    client = RemoteClient(Transport(f"https://127.0.0.1:{cluster.port}", credentials))
    try:
        yield client
    finally:
        await client.close()


def config_map(name: str, **data: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": data,
    }


async def until(check: Callable[[], Any], seconds: float = 40) -> None:
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.02)


async def test_what_is_written_reads_back(cluster: PrivateCluster) -> None:
    async with connected(cluster) as client:
        made = await client.create("", "configmaps", config_map("w", n="0"))
        assert made["metadata"]["uid"]
        await client.ensure("", "configmaps", config_map("w", n="9"))

        async def add(_: int) -> None:
            def change(live: Object) -> None:
                live["data"]["n"] = str(int(live["data"]["n"]) + 1)

            await client.update("", "configmaps", "default", "w", change)

        await asyncio.gather(*(add(each) for each in range(8)))
        assert (await client.get("", "configmaps", "default", "w"))["data"]["n"] == "8"
        patched = await client.patch("", "configmaps", "default", "w", {"data": {"n": None, "m": "1"}})
        assert patched["data"] == {"m": "1"}
        listed = await client.list("", "configmaps", "default")
        assert ("v1", "ConfigMap", "w") in {(e["apiVersion"], e["kind"], e["metadata"]["name"]) for e in listed}
        with pytest.raises(StatusError) as caught:
            await client.delete("", "configmaps", "default", "w", uid="another")
        assert caught.value.code == 409
        await client.delete("", "configmaps", "default", "w", uid=made["metadata"]["uid"])
        await client.delete("", "configmaps", "default", "w")
        assert await client.find("", "configmaps", "default", "w") is None
        with pytest.raises(StatusError, match="no resource"):
            await client.list("apps", "nonsense")


async def test_subresources_are_posted_to(cluster: PrivateCluster) -> None:
    async with connected(cluster) as client:
        account = {"metadata": {"name": "a", "namespace": "default"}}
        await client.create("", "serviceaccounts", account)
        answer = await client.create_subresource(
            "", "serviceaccounts", "default", "a", "token", {"spec": {"expirationSeconds": 600}}
        )
        assert answer["status"]["token"].count(".") == 2
        pod = {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        await client.create("", "pods", pod)
        binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n9"}}
        await client.create_subresource("", "pods", "default", "p", "binding", binding)
        assert (await client.get("", "pods", "default", "p"))["spec"]["nodeName"] == "n9"
        with pytest.raises(StatusError, match='already assigned to node "n9"'):
            await client.create_subresource("", "pods", "default", "p", "binding", binding)
        await client.create_subresource("", "pods", "default", "p", "eviction", {"metadata": {"name": "p"}})
        await client.delete("", "pods", "default", "p", grace_period=0)


async def test_the_cache_follows_what_it_was_told_to(cluster: PrivateCluster) -> None:
    async with connected(cluster) as client:
        cache, heard = client.cache, []
        with pytest.raises(NotFollowed):
            cache.list("", "configmaps")
        cache.subscribe("", "configmaps", lambda event, obj: heard.append((event, obj["metadata"]["name"])))
        await client.create("", "configmaps", config_map("c1"))
        await cache.start([("", "configmaps", "metadata.namespace=default"), ("", "namespaces", "")])
        assert cache.get("", "namespaces", "", "default") is not None
        assert {e["metadata"]["namespace"] for e in cache.list("", "configmaps")} == {"default"}
        assert not cache.list("", "configmaps", "kube-system")
        await client.patch("", "configmaps", "default", "c1", {"data": {"x": "1"}})
        await until(lambda: cache.get("", "configmaps", "default", "c1").get("data") == {"x": "1"})
        await client.delete("", "configmaps", "default", "c1")
        await until(lambda: cache.get("", "configmaps", "default", "c1") is None)
        mine = [event for event, name in heard if name == "c1"]
        assert mine == ["ADDED", "MODIFIED", "DELETED"]


async def test_the_cache_outlives_its_server(mortal: PrivateCluster) -> None:
    async with connected(mortal) as client:
        cache, heard = client.cache, []
        for name in ("stays", "goes"):
            await client.create("", "configmaps", config_map(name))
        await cache.start([("", "configmaps", "metadata.namespace=default")])
        cache.subscribe("", "configmaps", lambda event, obj: heard.append((event, obj["metadata"]["name"])))
        await asyncio.to_thread(mortal.kill)
        # What is in memory is read as before.
        assert cache.get("", "configmaps", "default", "stays") is not None
        await asyncio.to_thread(mortal.start)
        await asyncio.to_thread(mortal.kubectl, "delete", "configmap", "goes")
        await asyncio.to_thread(mortal.kubectl, "create", "configmap", "comes")
        await until(lambda: cache.get("", "configmaps", "default", "comes") is not None)
        assert cache.get("", "configmaps", "default", "goes") is None
        assert ("DELETED", "goes") in heard and ("ADDED", "comes") in heard
        assert not [name for _, name in heard if name == "stays"]


async def test_objects_are_followed_as_long_as_pods_name_them(cluster: PrivateCluster) -> None:
    def names(pod: Object) -> set[tuple[str, str]]:
        return {("secrets", v["secret"]["secretName"]) for v in pod["spec"].get("volumes") or () if v.get("secret")}

    async with connected(cluster) as client:
        heard = []
        client.cache.subscribe("", "secrets", lambda event, obj: heard.append((event, obj["metadata"]["name"])))
        await client.cache.start([("", "pods", "spec.nodeName=n1")])
        references = References(client.cache, names)
        references.start()
        for name in ("wanted", "strange"):
            await client.create("", "secrets", {"metadata": {"name": name, "namespace": "default"}})
        pod = {
            "metadata": {"name": "r", "namespace": "default"},
            "spec": {
                "nodeName": "n1",
                "containers": [{"name": "c", "image": "i"}],
                "volumes": [{"name": "s", "secret": {"secretName": "wanted"}}],
            },
        }
        await client.create("", "pods", pod)
        await until(lambda: ("ADDED", "wanted") in heard)
        assert client.cache.get("", "secrets", "default", "wanted") is not None
        await client.delete("", "pods", "default", "r", grace_period=0)
        await until(lambda: client.cache.get("", "secrets", "default", "wanted") is None)
        assert heard == [("ADDED", "wanted"), ("DELETED", "wanted")]
        await references.stop()
