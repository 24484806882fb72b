"""JSON Web Tokens (RFC 7515, 7517, 7519): signed and verified with keys of a set; "none" and HMAC do not exist.

Verification picks the key by `kid` where the token names one, and takes an algorithm only where it belongs to that
key's type: a token cannot choose how it is checked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from windlass.errors import WindlassError

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_HASHES: Mapping[str, type[hashes.HashAlgorithm]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
_CURVES = {"ES256": ("P-256", 32), "ES384": ("P-384", 48), "ES512": ("P-521", 66)}
_CURVE_CLASSES: Mapping[str, type[ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
}
_BY_SIZE = {256: "ES256", 384: "ES384", 521: "ES512"}
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")


class BadToken(WindlassError):
    """Not a token, or one whose signature no key confirms."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key and its name."""

    identifier: str
    key: PublicKey

    @classmethod
    def of(cls, key: PublicKey) -> VerifyingKey:
        """Named by the hash of its public half, as kube-apiserver names service-account keys."""
        der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return cls(encode(hashlib.sha256(der).digest()), key)

    def to_json(self) -> dict[str, str]:
        """The JSON Web Key."""
        common = {"use": "sig", "kid": self.identifier}
        if isinstance(self.key, rsa.RSAPublicKey):
            numbers = self.key.public_numbers()
            return {**common, "kty": "RSA", "alg": "RS256", "n": _integer(numbers.n), "e": _integer(numbers.e)}
        algorithm = _BY_SIZE[self.key.curve.key_size]
        curve, size = _CURVES[algorithm]
        point = self.key.public_numbers()
        x, y = encode(point.x.to_bytes(size, "big")), encode(point.y.to_bytes(size, "big"))
        return {**common, "kty": "EC", "alg": algorithm, "crv": curve, "x": x, "y": y}


def sign(claims: Mapping[str, Any], key: PrivateKey) -> str:
    """A compact token."""
    verifying = VerifyingKey.of(key.public_key())
    algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else _BY_SIZE[key.curve.key_size]
    head = encode(orjson.dumps({"alg": algorithm, "kid": verifying.identifier}))
    message = f"{head}.{encode(orjson.dumps(claims))}".encode()
    digest = _HASHES[algorithm[2:]]()
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(message, padding.PKCS1v15(), digest)
    else:
        size = _CURVES[algorithm][1]
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
        signature = r.to_bytes(size, "big") + s.to_bytes(size, "big")
    return f"{message.decode()}.{encode(signature)}"


def peek(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Head and claims, not verified: to choose who should verify."""
    parts = token.split(".")
    if len(parts) != 3:
        raise BadToken("not a compact JWS")
    try:
        head, claims = orjson.loads(decode(parts[0])), orjson.loads(decode(parts[1]))
    except (ValueError, RecursionError) as error:
        raise BadToken("malformed JWS") from error
    if not isinstance(head, dict) or not isinstance(claims, dict):
        raise BadToken("malformed JWS")
    return head, claims


def verify(token: str, keys: Sequence[VerifyingKey], algorithms: Sequence[str] | None = None) -> dict[str, Any]:
    """The claims of a token that one of the keys signed. Raises `BadToken`."""
    head, claims = peek(token)
    algorithm, wanted = head.get("alg"), head.get("kid")
    if not isinstance(algorithm, str) or (algorithms is not None and algorithm not in algorithms):
        raise BadToken(f"unexpected signature algorithm {algorithm!r}")
    if head.get("crit"):
        raise BadToken("the token demands an extension that is not known")
    message, _, text = token.rpartition(".")
    try:
        signature = decode(text)
    except ValueError as error:
        raise BadToken("malformed signature") from error
    for key in keys:
        if (not wanted or key.identifier == wanted) and _confirms(key.key, algorithm, message.encode(), signature):
            return claims
    raise BadToken("failed to verify signature")


def load_key_set(document: Any) -> list[VerifyingKey]:
    """The usable keys of a JWK set; keys of unknown kinds are passed over (RFC 7517, section 5)."""
    found: list[VerifyingKey] = []
    for item in document.get("keys") or ():
        try:
            if item.get("use", "sig") == "sig" and (key := _load_key(item)) is not None:
                found.append(VerifyingKey(str(item.get("kid", "")), key))
        except (KeyError, ValueError, TypeError):
            continue
    return found


def encode(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The inverse of `encode`; raises `ValueError` for anything else."""
    try:
        data = text.encode("ascii")
        if data.translate(None, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"):
            raise ValueError("not base64url")
        return base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ValueError("not base64url") from error


def _confirms(key: PublicKey, algorithm: str, message: bytes, signature: bytes) -> bool:
    try:
        if isinstance(key, rsa.RSAPublicKey):
            if algorithm not in _RSA:
                return False
            digest = _HASHES[algorithm[2:]]()
            scheme: padding.AsymmetricPadding = padding.PKCS1v15()
            if algorithm.startswith("PS"):
                scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
            key.verify(signature, message, scheme, digest)
            return True
        if _BY_SIZE.get(key.curve.key_size) != algorithm:
            return False
        size = _CURVES[algorithm][1]
        if len(signature) != 2 * size:
            return False
        r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(_HASHES[algorithm[2:]]()))
        return True
    except InvalidSignature:
        return False


def _load_key(item: Mapping[str, Any]) -> PublicKey | None:
    if item["kty"] == "RSA":
        n, e = (int.from_bytes(decode(item[name]), "big") for name in ("n", "e"))
        return rsa.RSAPublicNumbers(e, n).public_key()
    if item["kty"] == "EC":
        x, y = (int.from_bytes(decode(item[name]), "big") for name in ("x", "y"))
        return ec.EllipticCurvePublicNumbers(x, y, _CURVE_CLASSES[item["crv"]]()).public_key()
    return None


def _integer(value: int) -> str:
    return encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))
