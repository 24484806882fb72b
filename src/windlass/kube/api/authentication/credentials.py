"""What a request brings to prove who sends it, and what an authenticator gives back."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from windlass.errors import WindlassError
from windlass.kube.api.identity import User


class Rejected(WindlassError):
    """Credentials that an authenticator knows and finds wrong: 401 unless another one accepts them."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is looked at. `certificate` is the peer's verified certificate (DER), `headers` have lower-case names."""

    headers: Mapping[str, str]
    certificate: bytes | None = None
    path: str = ""

    @property
    def token(self) -> str:
        """The bearer token, "" without one."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""


@dataclass(frozen=True, slots=True)
class Found:
    """A user, and the audiences that the token is for and the server wants (empty where tokens have none)."""

    user: User
    audiences: tuple[str, ...] = ()


class TokenAuthenticator(Protocol):
    """Knows tokens."""

    def authenticate_token(self, token: str, audiences: Sequence[str], /) -> Found | Awaitable[Found | None] | None:
        """The token's user, `None` for a token of another kind; raises `Rejected`. Empty audiences: the server's."""


class RequestAuthenticator(Protocol):
    """Knows requests."""

    def authenticate(self, credentials: Credentials, /) -> User | None:
        """The user, `None` where the request brings nothing of this kind; raises `Rejected`."""
