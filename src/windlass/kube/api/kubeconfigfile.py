"""Servers that a kubeconfig file names: how this server reaches its own webhooks, and commands reach a server.

    current-context ─▶ cluster: server, authorities     ─┐
                    └▶ user: certificate, token, password ┴▶ POST of an object, the object that answers

Source: https://kubernetes.io/docs/reference/access-authn-authz/webhook/#configuration-file-format
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from windlass.kube.api import yamlform
from windlass.kube.api.configfile import BadConfiguration
from windlass.kube.api.webhooks import WebhookError

_LARGEST_ANSWER = 8 * 1024 * 1024


class KubeconfigServer:
    """The server of a file's current context."""

    def __init__(self, path: Path) -> None:
        """Reads the file and what it refers to. Raises BadConfiguration."""
        self._path = path
        try:
            document = yamlform.load(path.read_bytes())
        except (OSError, yamlform.BadYAML) as error:
            raise BadConfiguration(f"{path}: {error}") from None
        if not isinstance(document, dict):
            raise BadConfiguration(f"{path}: no kubeconfig")
        context = self._named(document, "contexts", "context", document.get("current-context") or "")
        cluster = self._named(document, "clusters", "cluster", context.get("cluster") or "")
        user = self._named(document, "users", "user", context["user"]) if context.get("user") else {}
        self.url = str(cluster.get("server") or "")
        parts = urlsplit(self.url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise BadConfiguration(f"{path}: the cluster's server must be a URL")
        self.authority = self._data(cluster, "certificate-authority")
        self._server_name = cluster.get("tls-server-name") or None
        self._context = self._tls(cluster, user) if parts.scheme == "https" else None
        self._headers = self._authorization(user)
        self._session: aiohttp.ClientSession | None = None

    def _named(self, document: dict[str, Any], plural: str, singular: str, name: str) -> dict[str, Any]:
        listed = document.get(plural) or []
        if not name and len(listed) == 1:
            return dict(listed[0].get(singular) or {})
        for each in listed:
            if each.get("name") == name:
                return dict(each.get(singular) or {})
        raise BadConfiguration(f'{self._path}: {plural} has no entry "{name}"')

    def _data(self, holder: dict[str, Any], name: str) -> bytes:
        try:
            if text := holder.get(f"{name}-data"):
                return base64.b64decode(text, validate=True)
            if file := holder.get(name):
                return Path(self._path.parent, str(file)).read_bytes()
        except (OSError, binascii.Error) as error:
            raise BadConfiguration(f"{self._path}: {name}: {error}") from None
        return b""

    def _tls(self, cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cadata=self.authority.decode() or None)
            if cluster.get("insecure-skip-tls-verify"):
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            certificate, key = self._data(user, "client-certificate"), self._data(user, "client-key")
            if certificate:
                # ssl reads files only; this one is gone at once and never had a name that others may open.
                with tempfile.NamedTemporaryFile() as file:
                    os.fchmod(file.fileno(), 0o600)
                    file.write(certificate + b"\n" + key)
                    file.flush()
                    context.load_cert_chain(file.name)
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise BadConfiguration(f"{self._path}: certificates: {error}") from None
        return context

    def _authorization(self, user: dict[str, Any]) -> dict[str, str]:
        token = user.get("token") or self._data({"token": user.get("tokenFile")}, "token").decode().strip()
        if token:
            return {"Authorization": f"Bearer {token}"}
        if user.get("username"):
            pair = f"{user['username']}:{user.get('password', '')}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        return {}

    def context(self) -> ssl.SSLContext:
        """The TLS context."""
        return self._context if self._context is not None else ssl.create_default_context()

    def headers(self) -> dict[str, str]:
        """What each request says of the user."""
        return self._headers

    async def post(self, obj: dict[str, Any], *, seconds: float) -> dict[str, Any]:
        """Send an object; the object that answers, {} where the answer is empty.

        Raises:
            WebhookError
        """
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._context if self._context is not None else False, limit=64)
            self._session = aiohttp.ClientSession(connector=connector)
        try:
            async with self._session.post(
                self.url,
                data=orjson.dumps(obj),
                headers={"Content-Type": "application/json", "Accept": "application/json", **self._headers},
                timeout=aiohttp.ClientTimeout(total=seconds),
                server_hostname=self._server_name,
                allow_redirects=False,
            ) as answer:
                body = await answer.content.read(_LARGEST_ANSWER + 1)
                status, reason = answer.status, answer.reason
        except TimeoutError:
            raise WebhookError(f'Post "{self.url}": context deadline exceeded') from None
        except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
            raise WebhookError(f'Post "{self.url}": {error}') from None
        if not 200 <= status < 300:
            raise WebhookError(f'Post "{self.url}": the server answered {status} {reason}')
        if len(body) > _LARGEST_ANSWER:
            raise WebhookError(f'Post "{self.url}": the answer is too large')
        try:
            found = orjson.loads(body) if body.strip() else {}
        except orjson.JSONDecodeError as error:
            raise WebhookError(f'Post "{self.url}": {error}') from None
        if not isinstance(found, dict):
            raise WebhookError(f'Post "{self.url}": the answer is no object')
        return found

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
