"""The cluster's authority, fetched from a server that nobody vouches for yet, and believed if the token says so.

    GET /cacerts, TLS not checked, nothing sent ─▶ SHA-256 is the token's? ─▶ <data-dir>/agent/server-ca.crt
                                                     └ no: nothing else is ever sent there

A token without a hash believes whoever answers first; from then on the stored authority counts.

Source: https://docs.k3s.io/cli/token#secure
"""

from __future__ import annotations

import logging
from pathlib import Path

import aiohttp
from cryptography import x509

from windlass.cluster.certificates import write_file
from windlass.cluster.tokens import BadToken, JoinToken
from windlass.errors import WindlassError
from windlass.kube.api import status

log = logging.getLogger("windlass.kube.agent")

_LARGEST = 1 << 20
_SECONDS = aiohttp.ClientTimeout(total=10)


class BadAuthority(WindlassError):
    """What a server shows as its authority is no certificate."""


async def obtain(url: str, token: JoinToken | None, path: Path) -> bytes:
    """The authority (PEM), stored or fetched.

    Raises:
        BadToken, BadAuthority: it is not the one that the token names, or none.
        StatusError: the server does not answer.
        OSError
    """
    stored = _read(path)
    if stored and (token is None or _fits(token, stored)):
        return stored
    fetched = await _fetch(url)
    if token is None:
        raise BadToken("a token is needed to join a cluster: --token or --token-file")
    token.check(fetched)
    try:
        x509.load_pem_x509_certificates(fetched)
    except ValueError as error:
        raise BadAuthority(f"{url}/cacerts: {error}") from None
    if not token.authority_hash:
        log.warning("the token does not say which authority the cluster has: the one of %s is believed", url)
    write_file(path, fetched, 0o644)
    return fetched


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _fits(token: JoinToken, authority: bytes) -> bool:
    try:
        token.check(authority)
    except BadToken:
        return False
    return True


async def _fetch(url: str) -> bytes:
    try:
        # Not checked, as the answer is what everything later is checked with; there is nothing to give away.
        connector = aiohttp.TCPConnector(ssl=False)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_SECONDS) as session,
            session.get(f"{url}/cacerts", allow_redirects=False) as answer,
        ):
            body = await answer.content.read(_LARGEST)
            if answer.status != 200:
                raise status.service_unavailable(f"{url}/cacerts: the server answered {answer.status}")
            return body
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise status.service_unavailable(f"{url}/cacerts: {error or 'no answer in time'}") from error
