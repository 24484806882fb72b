"""A bootstrap token as a Secret: `bootstrap-token-<id>` in kube-system.

Source: https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/#bootstrap-token-secret-format
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from windlass.cluster.tokens import JoinToken
from windlass.kube.api import times
from windlass.kube.api.resource import Object

NAMESPACE: Final = "kube-system"
TYPE: Final = "bootstrap.kubernetes.io/token"
PREFIX: Final = "bootstrap-token-"
DEFAULT_GROUP: Final = "system:bootstrappers:windlass:default-node-token"
USAGES: Final = ("signing", "authentication")
_USAGE: Final = "usage-bootstrap-"


@dataclass(frozen=True, kw_only=True)
class BootstrapToken:
    """What a secret says. `expires`, in seconds since 1970, is None for never."""

    token: JoinToken
    description: str = ""
    expires: float | None = None
    usages: Sequence[str] = USAGES
    groups: Sequence[str] = (DEFAULT_GROUP,)

    def to_secret(self) -> Object:
        """The Secret."""
        data = {"token-id": self.token.id, "token-secret": self.token.secret}
        if self.description:
            data["description"] = self.description
        if self.expires is not None:
            data["expiration"] = times.format_time(self.expires)
        data |= {f"{_USAGE}{usage}": "true" for usage in self.usages}
        if self.groups:
            data["auth-extra-groups"] = ",".join(self.groups)
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name_of(self.token.id), "namespace": NAMESPACE},
            "type": TYPE,
            "data": {name: base64.b64encode(value.encode()).decode() for name, value in data.items()},
        }

    @classmethod
    def from_secret(cls, secret: Object) -> BootstrapToken:
        """Raises ValueError: a field cannot be read."""
        data = {name: base64.b64decode(value).decode() for name, value in (secret.get("data") or {}).items()}
        expiration = data.get("expiration")
        return cls(
            token=JoinToken(data.get("token-id", ""), data.get("token-secret", "")),
            description=data.get("description", ""),
            expires=times.parse_time(expiration) if expiration else None,
            usages=sorted(name.removeprefix(_USAGE) for name in data if name.startswith(_USAGE)),
            groups=[group for group in data.get("auth-extra-groups", "").split(",") if group],
        )


def name_of(identifier: str) -> str:
    """The name of a token's secret."""
    return PREFIX + identifier
