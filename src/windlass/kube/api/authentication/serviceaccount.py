"""Service-account tokens: issued by TokenRequest, bound to a pod, secret or node; and the legacy ones in Secrets.

    claims: iss, sub "system:serviceaccount:<ns>:<name>", aud, exp, nbf, iat, jti,
            kubernetes.io: {namespace, serviceaccount {name, uid}, pod|secret|node {name, uid}, warnafter}
    legacy: iss "kubernetes/serviceaccount", kubernetes.io/serviceaccount/{namespace,secret.name,service-account.name …}

A token is as good as what it is bound to: the account and the bound object must exist with the UID they had. Former
keys of a rotated signer verify until the last token they signed has expired.

Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hmac
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from windlass.kube.api.authentication.credentials import Found, Rejected
from windlass.kube.api.authentication.jwt import BadToken, PrivateKey, PublicKey, VerifyingKey, peek, sign, verify
from windlass.kube.api.authentication.x509 import CREDENTIAL_ID
from windlass.kube.api.identity import SERVICE_ACCOUNT_PREFIX, User
from windlass.kube.api.reader import Object, Reader

LEGACY_ISSUER = "kubernetes/serviceaccount"
_LEGACY = "kubernetes.io/serviceaccount/"
_EXTRA = "authentication.kubernetes.io/"
_WARN_AFTER = 3607
"""TokenRequests of exactly this many seconds come from old clients: such tokens live a year and warn then."""
_YEAR = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Bound:
    """What a token is bound to: `kind` is "Pod", "Secret" or "Node"."""

    kind: str
    name: str
    uid: str
    node: tuple[str, str] | None = None  # name and UID of a pod's node


class ServiceAccountTokens:
    """Issues and verifies. `clock` gives seconds since 1970."""

    def __init__(
        self,
        reader: Reader,
        key: PrivateKey,
        *,
        issuer: str,
        audiences: Sequence[str] = (),
        former_keys: Sequence[PublicKey] = (),
        clock: Callable[[], float],
    ) -> None:
        self.issuer = issuer
        self.audiences = tuple(audiences) or (issuer,)
        self._reader = reader
        self._key = key
        self._clock = clock
        self.keys = tuple(VerifyingKey.of(item) for item in (key.public_key(), *former_keys))

    def issue(
        self, account: Object, *, seconds: int, audiences: Sequence[str] = (), bound: Bound | None = None
    ) -> tuple[str, float]:
        """A token for the account, and when it expires (seconds since 1970)."""
        now = int(self._clock())
        metadata = account["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        wanted = list(audiences) or list(self.audiences)
        private: dict[str, Any] = {
            "namespace": namespace,
            "serviceaccount": {"name": name, "uid": metadata["uid"]},
        }
        if bound is not None:
            private[bound.kind.lower()] = {"name": bound.name, "uid": bound.uid}
            if bound.node is not None:
                private["node"] = {"name": bound.node[0], "uid": bound.node[1]}
        life = seconds
        if seconds == _WARN_AFTER and bound is not None and bound.kind == "Pod" and set(wanted) <= set(self.audiences):
            life = _YEAR
            private["warnafter"] = now + seconds
        claims = {
            "aud": wanted,
            "exp": now + life,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}",
        }
        return sign(claims, self._key), float(now + seconds)

    def issue_legacy(self, account: Object, secret_name: str) -> str:
        """A token without end for a Secret of type kubernetes.io/service-account-token."""
        metadata = account["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        claims = {
            "iss": LEGACY_ISSUER,
            f"{_LEGACY}namespace": namespace,
            f"{_LEGACY}secret.name": secret_name,
            f"{_LEGACY}service-account.name": name,
            f"{_LEGACY}service-account.uid": metadata["uid"],
            "sub": f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}",
        }
        return sign(claims, self._key)

    def authenticate_token(self, token: str, audiences: Sequence[str], /) -> Found | None:
        """The account's user; `None` for tokens of other issuers."""
        try:
            _, unverified = peek(token)
        except BadToken:
            return None
        issuer = unverified.get("iss")
        if issuer not in (self.issuer, LEGACY_ISSUER):
            return None
        try:
            claims = verify(token, self.keys)
        except BadToken as error:
            raise Rejected(f"invalid bearer token: {error}") from error
        wanted = tuple(audiences) or self.audiences
        if issuer == LEGACY_ISSUER:
            return self._legacy(claims, token, wanted)
        return self._current(claims, wanted)

    def discovery(self, keys_uri: str) -> dict[str, Any]:
        """`/.well-known/openid-configuration`."""
        return {
            "issuer": self.issuer,
            "jwks_uri": keys_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({key.to_json()["alg"] for key in self.keys}),
        }

    def key_set(self) -> dict[str, Any]:
        """`/openid/v1/jwks`."""
        return {"keys": [key.to_json() for key in self.keys]}

    def _current(self, claims: Mapping[str, Any], wanted: Sequence[str]) -> Found:
        now = self._clock()
        audience = claims.get("aud")
        have = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
        shared = tuple(item for item in have if item in wanted)
        if not shared:
            raise Rejected("invalid bearer token: token audiences do not match")
        expires, begins = claims.get("exp"), claims.get("nbf", 0)
        if not isinstance(expires, int | float) or now >= expires:
            raise Rejected("invalid bearer token: service account token has expired")
        if not isinstance(begins, int | float) or now < begins:
            raise Rejected("invalid bearer token: service account token is not valid yet")
        private = claims.get("kubernetes.io")
        account = private.get("serviceaccount") if isinstance(private, dict) else None
        if not isinstance(private, dict) or not isinstance(account, dict):
            raise Rejected("invalid bearer token: no private claims")
        namespace, name = str(private.get("namespace", "")), str(account.get("name", ""))
        if claims.get("sub") != f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}":
            raise Rejected("invalid bearer token: sub claim is invalid")
        self._alive("serviceaccounts", namespace, account)
        extra: dict[str, tuple[str, ...]] = {}
        for kind in ("secret", "pod", "node"):
            bound = private.get(kind)
            if not isinstance(bound, dict):
                continue
            if kind != "node" or "pod" not in private:  # a pod's node may go before the pod does
                self._alive(f"{kind}s", "" if kind == "node" else namespace, bound)
            if kind != "secret":
                extra[f"{_EXTRA}{kind}-name"] = (str(bound.get("name")),)
                extra[f"{_EXTRA}{kind}-uid"] = (str(bound.get("uid")),)
        if claims.get("jti"):
            extra[CREDENTIAL_ID] = (f"JTI={claims['jti']}",)
        return Found(account_user(namespace, name, str(account.get("uid", "")), extra), shared)

    def _legacy(self, claims: Mapping[str, Any], token: str, wanted: Sequence[str]) -> Found:
        namespace, secret_name, name, uid = (
            str(claims.get(f"{_LEGACY}{key}", ""))
            for key in ("namespace", "secret.name", "service-account.name", "service-account.uid")
        )
        if claims.get("sub") != f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}":
            raise Rejected("invalid bearer token: sub claim is invalid")
        shared = tuple(item for item in self.audiences if item in wanted)
        if not shared:
            raise Rejected("invalid bearer token: token audiences do not match")
        secret = self._reader.get("", "secrets", namespace, secret_name)
        try:
            stored = base64.b64decode(((secret or {}).get("data") or {}).get("token", ""))
        except binascii.Error:
            stored = b""
        if secret is None or secret["metadata"].get("deletionTimestamp"):
            raise Rejected("invalid bearer token: service account token has been invalidated")
        if not hmac.compare_digest(stored, token.encode()):
            raise Rejected("invalid bearer token: service account token does not match its secret")
        self._alive("serviceaccounts", namespace, {"name": name, "uid": uid})
        return Found(account_user(namespace, name, uid, {}), shared)

    def _alive(self, resource: str, namespace: str, reference: Mapping[str, Any]) -> None:
        name = str(reference.get("name", ""))
        stored = self._reader.get("", resource, namespace, name)
        what = resource.removesuffix("s")
        if stored is None:
            raise Rejected(f'invalid bearer token: {resource} "{name}" not found')
        if stored["metadata"].get("uid") != reference.get("uid"):
            raise Rejected(f"invalid bearer token: the {what}'s UID does not match the token's")
        ends = stored["metadata"].get("deletionTimestamp")
        grace = 60  # a terminating pod's last requests still count
        if ends and _seconds(ends) + grace < self._clock():
            raise Rejected(f"invalid bearer token: the {what} has been deleted")


def account_user(namespace: str, name: str, uid: str, extra: Mapping[str, tuple[str, ...]]) -> User:
    """The user that a service account is."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    return User(f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}", uid, groups, extra)


def _seconds(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()
