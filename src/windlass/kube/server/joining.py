"""What nodes join with: the node token in <data-dir>/token, and the authority's certificate at /cacerts.

The token's public part names a Secret in the API; its file, mode 0600, is written at each start, so that all servers of
a cluster have the same. Whoever may read it may make nodes.

Source: https://docs.k3s.io/cli/token#agent
"""

from __future__ import annotations

import logging
from pathlib import Path

from windlass.cluster.certificates import write_file
from windlass.cluster.tokens import BadToken, JoinToken
from windlass.http import Request, Response
from windlass.kube.api.identity import User
from windlass.kube.api.server import Page
from windlass.kube.client import Client
from windlass.kube.tokens.secret import NAMESPACE, BootstrapToken, name_of

log = logging.getLogger("windlass.kube.server")

_LABEL = "windlass.dev/node-token"


def authority_page(pem: bytes) -> Page:
    """Answers with the authority that signed everything here."""

    async def page(request: Request, user: User) -> Response:
        return Response(200, [("Content-Type", "text/plain")], pem)

    return page


async def ensure_node_token(client: Client, path: Path, authority: bytes, wanted: str = "") -> JoinToken:
    """The node token, in the API and in its file; `wanted` is what an administrator chose.

    Raises:
        BadToken, StatusError, OSError
    """
    chosen = JoinToken.parse(wanted) if wanted else None
    if chosen is not None:
        chosen.check(authority)
    token = chosen or _stored(path) or await _of_others(client) or JoinToken.generate()
    token = token.pinned(authority)
    secret = BootstrapToken(token=token, description="The node token of this cluster.").to_secret()
    secret["metadata"]["labels"] = {_LABEL: "true"}
    existing = await client.find("", "secrets", NAMESPACE, name_of(token.id))
    if existing is None:
        await client.create("", "secrets", secret)
    elif existing["data"].get("token-secret") != secret["data"]["token-secret"]:
        await client.patch("", "secrets", NAMESPACE, name_of(token.id), {"data": secret["data"]})
    if _read(path) != f"{token}\n":
        write_file(path, f"{token}\n".encode())
    return token


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _stored(path: Path) -> JoinToken | None:
    text = _read(path)
    if not text:
        return None
    try:
        return JoinToken.parse(text)
    except BadToken as error:
        log.warning("%s: %s: there will be another one", path, error)
        return None


async def _of_others(client: Client) -> JoinToken | None:
    """The token that another server of this cluster made."""
    for secret in client.cache.list("", "secrets", NAMESPACE):
        if (secret["metadata"].get("labels") or {}).get(_LABEL) == "true":
            return BootstrapToken.from_secret(secret).token
    return None
