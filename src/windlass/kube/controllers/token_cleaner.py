"""tokencleaner: bootstrap tokens that have expired are deleted.

Source: https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
"""

from __future__ import annotations

from collections.abc import Iterable

from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.controllers.runner import Controller, Key
from windlass.kube.tokens.secret import NAMESPACE, TYPE, BootstrapToken


class TokenCleaner(Controller):
    """Deletes a token's secret when its time has come."""

    name = "token-cleaner"

    def subscribe(self) -> None:
        """Secrets of tokens."""
        self.watch("", "secrets", _of_tokens)

    async def reconcile(self, key: Key) -> float | None:
        """Delete it, or look again when it expires."""
        secret = self.cache.get("", "secrets", NAMESPACE, key[1])
        if secret is None or secret.get("type") != TYPE:
            return None
        try:
            expires = BootstrapToken.from_secret(secret).expires
        except ValueError:
            expires = 0.0  # what cannot be read is as good as expired
        if expires is None:
            return None
        rest = expires - self.client.env.now()
        if rest > 0:
            return rest
        try:
            await self.client.delete("", "secrets", NAMESPACE, key[1], uid=secret["metadata"]["uid"])
        except StatusError as error:
            if error.code != 409:  # another secret has the name
                raise
        return None


def _of_tokens(secret: Object) -> Iterable[Key]:
    metadata = secret["metadata"]
    return [(NAMESPACE, metadata["name"])] if metadata.get("namespace") == NAMESPACE and secret["type"] == TYPE else []
