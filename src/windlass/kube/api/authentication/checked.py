"""The tokens that the API server of the same process knows, for whoever else in it has to know them."""

from __future__ import annotations

from collections.abc import Sequence

from windlass.kube.api.authentication.credentials import Found, Rejected
from windlass.kube.api.authentication.union import Union


class CheckedTokens:
    """See the module."""

    def __init__(self, server: Union) -> None:
        self._server = server

    async def authenticate_token(self, token: str, audiences: Sequence[str], /) -> Found | None:
        """See `TokenAuthenticator`."""
        try:
            return await self._server.check_token(token, audiences)
        except PermissionError as error:
            raise Rejected(str(error)) from None
