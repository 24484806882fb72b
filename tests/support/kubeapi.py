"""The Kubernetes API as plain JSON over one pool of connections: for scenarios that speak the protocol themselves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import urllib3

from support.cluster import PrivateCluster


class Refused(Exception):
    """A Status that says no."""

    def __init__(self, code: int, body: Any) -> None:
        self.code = code
        self.body = body
        self.reason = body.get("reason", "") if isinstance(body, dict) else ""
        self.message = body.get("message", "") if isinstance(body, dict) else str(body)
        super().__init__(f"{code} {self.message}")


class Api:
    """Requests as the administrator. `namespace` is that of the current scenario."""

    def __init__(self, cluster: PrivateCluster) -> None:
        tls = cluster.root / "data" / "tls"
        self.base = f"https://127.0.0.1:{cluster.port}"
        self.namespace = "default"
        self.pool = urllib3.PoolManager(
            ca_certs=str(tls / "ca.crt"), cert_file=str(tls / "admin.crt"), key_file=str(tls / "admin.key"), maxsize=20
        )

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.clear()

    def raw(self, method: str, path: str, body: Any = None, **headers: str) -> urllib3.BaseHTTPResponse:
        """One request, whatever its answer."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        fields = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        return self.pool.request(method, self.base + path, body=data, headers=fields)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The decoded answer. Raises Refused."""
        answer = self.raw(method, path, body, **headers)
        found = json.loads(answer.data) if answer.data[:1] in (b"{", b"[") else answer.data.decode()
        if answer.status >= 400:
            raise Refused(answer.status, found)
        return found

    def get(self, path: str, **headers: str) -> Any:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Any:
        return self.call("POST", path, body, **headers)

    def put(self, path: str, body: Any) -> Any:
        return self.call("PUT", path, body)

    def patch(self, path: str, body: Any, kind: str = "merge-patch+json") -> Any:
        return self.call("PATCH", path, body, Content_Type=f"application/{kind}")

    def change(self, path: str, edit: Callable[[Any], Any], to: str = "") -> Any:
        """Get, edit in place, put (`to` a subresource that cannot be got); again while others write in between."""
        while True:
            found = self.get(path)
            edit(found)
            try:
                return self.put(to or path, found)
            except Refused as error:
                if error.code != 409:
                    raise

    def delete(self, path: str, body: Any = None) -> Any:
        return self.call("DELETE", path, body)

    def make_namespace(self, prefix: str) -> str:
        """A new namespace's name, as soon as pods may be made in it."""
        name: str = self.post("/api/v1/namespaces", {"metadata": {"generateName": prefix}})["metadata"]["name"]
        self.eventually(lambda: not self.gone(f"/api/v1/namespaces/{name}/serviceaccounts/default"))
        return name

    def watch(self, path: str, seconds: int = 1) -> list[tuple[str, Any]]:
        """The events of some seconds."""
        sign = "&" if "?" in path else "?"
        text = self.raw("GET", f"{path}{sign}watch=true&timeoutSeconds={seconds}").data.decode()
        events = [json.loads(line) for line in text.splitlines()]
        return [(each["type"], each["object"]) for each in events]

    def eventually(self, check: Callable[[], Any], seconds: float = 20) -> Any:
        """What a check gives as soon as it is true."""
        deadline = time.monotonic() + seconds
        while not (found := check()):
            assert time.monotonic() < deadline, "it does not come"
            time.sleep(0.05)
        return found

    def gone(self, path: str) -> bool:
        """Whether nothing is there."""
        return self.raw("GET", path).status == 404


def names(found: Any) -> Iterator[str]:
    """The names of a list's items."""
    return (each["metadata"]["name"] for each in found["items"])
