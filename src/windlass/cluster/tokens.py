"""Tokens by which a node joins: a bootstrap token, and the hash of the authority that the cluster must have.

    K10<SHA-256 of the authority's PEM, hexadecimal>::<id>.<secret>      secure: the server is checked before all else
    <id>.<secret>                                                        whoever answers first is trusted

The id is public (it names a secret), the rest is not. K10 is k3s's format, the second part is Kubernetes'.

Source: https://docs.k3s.io/cli/token and
https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/#token-format
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass

from windlass.errors import WindlassError

_PREFIX = "K10"
_BOOTSTRAP = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_SECURE = re.compile(rf"{_PREFIX}([0-9a-f]{{64}})::(.*)", re.DOTALL)
_ALPHABET = string.ascii_lowercase + string.digits


class BadToken(WindlassError):
    """A token that has none of the forms, or that is another cluster's."""


@dataclass(frozen=True, slots=True)
class JoinToken:
    """Attributes:

    id, secret: the bootstrap token's.
    authority_hash: of the cluster's authority; "" where the token does not say.
    """

    id: str
    secret: str
    authority_hash: str = ""

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """Raises BadToken."""
        text = text.strip()
        hashed = ""
        if match := _SECURE.fullmatch(text):
            hashed, text = match.groups()
        elif text.startswith(_PREFIX):
            raise BadToken("invalid token: K10 is not followed by 64 hexadecimal digits and two colons")
        bootstrap = _BOOTSTRAP.fullmatch(text)
        if bootstrap is None:
            raise BadToken(rf"invalid token: a bootstrap token has the form {_BOOTSTRAP.pattern}")
        return cls(bootstrap[1], bootstrap[2], hashed)

    @classmethod
    def generate(cls) -> JoinToken:
        """A random one, which no server knows yet."""
        return cls(_random(6), _random(16))

    def pinned(self, authority: bytes) -> JoinToken:
        """The same with the hash of an authority (PEM)."""
        return JoinToken(self.id, self.secret, hash_of(authority))

    def check(self, authority: bytes) -> None:
        """Raises BadToken: this authority is not the one that the token names."""
        found = hash_of(authority)
        if self.authority_hash and not hmac.compare_digest(found, self.authority_hash):
            raise BadToken(
                f"token CA hash does not match the Cluster CA certificate hash: {self.authority_hash} != {found}"
            )

    @property
    def bootstrap(self) -> str:
        """What the API server takes."""
        return f"{self.id}.{self.secret}"

    def __str__(self) -> str:
        return f"{_PREFIX}{self.authority_hash}::{self.bootstrap}" if self.authority_hash else self.bootstrap


def hash_of(authority: bytes) -> str:
    """SHA-256 of a bundle's bytes, hexadecimal."""
    return hashlib.sha256(authority).hexdigest()


def is_id(text: str) -> bool:
    """Whether this is a token's public part."""
    return re.fullmatch(r"[a-z0-9]{6}", text) is not None


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
