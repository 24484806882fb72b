"""Encryption at rest, as an EncryptionConfiguration file says.

    stored value ─ "k8s:enc:<aesgcm|aescbc|secretbox>:v1:<key name>:" + sealed bytes, or the plain value (identity)

The first provider of the first entry that names a resource writes, with its first key; all its providers and keys read.
What the writing key did not seal is *stale*: the next write renews it, which is how keys are rotated. The format is
kube-apiserver's, so that either reads what the other wrote.

Source: https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/; https://cr.yp.to/snuffle/xsalsa-20110204.pdf
"""

from __future__ import annotations

import base64
import binascii
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.poly1305 import Poly1305

from windlass.errors import WindlassError

_BEGIN = b"k8s:enc:"
_MASK = 0xFFFFFFFF


class BadEncryptionConfiguration(WindlassError):
    """The file says something that cannot be followed."""


class Undecryptable(WindlassError):
    """No configured key opens the stored value."""


class Seal(Protocol):
    """One key of one provider."""

    def seal(self, plain: bytes, context: bytes, /) -> bytes:
        """Encrypt; `context` (the storage key) is bound to the result where the cipher can."""

    def open(self, sealed: bytes, context: bytes, /) -> bytes:
        """Decrypt; raises `ValueError`."""


@dataclass(frozen=True, slots=True)
class GCM:
    """AES-GCM: a nonce of 12 bytes, the sealed value."""

    key: bytes

    def seal(self, plain: bytes, context: bytes, /) -> bytes:
        """See `Seal`."""
        nonce = os.urandom(12)
        return nonce + AESGCM(self.key).encrypt(nonce, plain, context)

    def open(self, sealed: bytes, context: bytes, /) -> bytes:
        """See `Seal`."""
        try:
            return AESGCM(self.key).decrypt(sealed[:12], sealed[12:], context)
        except (InvalidTag, ValueError) as error:
            raise ValueError("not sealed by this key") from error


@dataclass(frozen=True, slots=True)
class CBC:
    """AES-CBC with PKCS#7: an initial vector of 16 bytes, the sealed value. It is not authenticated."""

    key: bytes

    def seal(self, plain: bytes, _context: bytes, /) -> bytes:
        """See `Seal`."""
        vector = os.urandom(16)
        pad = padding.PKCS7(128).padder()
        encryptor = Cipher(algorithms.AES(self.key), modes.CBC(vector)).encryptor()
        return vector + encryptor.update(pad.update(plain) + pad.finalize()) + encryptor.finalize()

    def open(self, sealed: bytes, _context: bytes, /) -> bytes:
        """See `Seal`."""
        decryptor = Cipher(algorithms.AES(self.key), modes.CBC(sealed[:16])).decryptor()
        pad = padding.PKCS7(128).unpadder()
        return pad.update(decryptor.update(sealed[16:]) + decryptor.finalize()) + pad.finalize()


@dataclass(frozen=True, slots=True)
class SecretBox:
    """XSalsa20 and Poly1305: a nonce of 24 bytes, the tag of 16, the sealed value."""

    key: bytes

    def seal(self, plain: bytes, _context: bytes, /) -> bytes:
        """See `Seal`."""
        nonce = os.urandom(24)
        return nonce + secretbox_seal(self.key, nonce, plain)

    def open(self, sealed: bytes, _context: bytes, /) -> bytes:
        """See `Seal`."""
        nonce, tag, body = sealed[:24], sealed[24:40], sealed[40:]
        if len(tag) != 16:
            raise ValueError("too short")
        stream = _xsalsa20(self.key, nonce, 32 + len(body))
        try:
            Poly1305.verify_tag(stream[:32], body, tag)
        except InvalidSignature as error:
            raise ValueError("not sealed by this key") from error
        return _xor(body, stream[32:])


class Encryption:
    """A resource's transformer: what the store calls for each value."""

    def __init__(self, seals: Sequence[tuple[bytes, Seal | None]]) -> None:
        self._seals = tuple(seals)  # prefix and key; None is identity

    def encode(self, key: bytes, value: bytes) -> bytes:
        """The bytes to store for a value."""
        prefix, seal = self._seals[0]
        return value if seal is None else prefix + seal.seal(value, key)

    def decode(self, key: bytes, data: bytes) -> tuple[bytes, bool]:
        """The value and whether it is stale. Raises `Undecryptable`."""
        for position, (prefix, seal) in enumerate(self._seals):
            if seal is None:
                if not data.startswith(_BEGIN):
                    return data, position > 0
            elif data.startswith(prefix):
                try:
                    return seal.open(data[len(prefix) :], key), position > 0
                except ValueError:
                    continue
        raise Undecryptable(f"no configured key opens {key.decode(errors='replace')}")


def parse(document: Mapping[str, Any]) -> list[tuple[tuple[str, ...], Encryption]]:
    """The entries of an EncryptionConfiguration: resource patterns and their transformer, in order."""
    if document.get("kind") != "EncryptionConfiguration":
        raise BadEncryptionConfiguration("kind must be EncryptionConfiguration")
    entries: list[tuple[tuple[str, ...], Encryption]] = []
    for position, entry in enumerate(document.get("resources") or ()):
        where = f"resources[{position}]"
        patterns, providers = tuple(entry.get("resources") or ()), entry.get("providers") or ()
        if not patterns or not providers:
            raise BadEncryptionConfiguration(f"{where}: resources and providers are needed")
        seals = [seal for provider in providers for seal in _provider(where, provider)]
        entries.append((patterns, Encryption(seals)))
    return entries


def choose(entries: Sequence[tuple[tuple[str, ...], Encryption]], group: str, resource: str) -> Encryption | None:
    """The transformer of a resource: the first entry that names it, `*.<group>` or `*.*`."""
    wanted = {f"{resource}.{group}" if group else resource, f"*.{group}", "*.*"}
    return next((encryption for patterns, encryption in entries if wanted & set(patterns)), None)


def secretbox_seal(key: bytes, nonce: bytes, plain: bytes) -> bytes:
    """NaCl's crypto_secretbox: tag and sealed bytes."""
    stream = _xsalsa20(key, nonce, 32 + len(plain))
    body = _xor(plain, stream[32:])
    return Poly1305.generate_tag(stream[:32], body) + body


_CIPHERS: Mapping[str, tuple[type[GCM] | type[CBC] | type[SecretBox], tuple[int, ...]]] = {
    "aesgcm": (GCM, (16, 24, 32)),
    "aescbc": (CBC, (16, 24, 32)),
    "secretbox": (SecretBox, (32,)),
}


def _provider(where: str, provider: Mapping[str, Any]) -> list[tuple[bytes, Seal | None]]:
    if len(provider) != 1:
        raise BadEncryptionConfiguration(f"{where}: a provider is exactly one of identity, {', '.join(_CIPHERS)}")
    ((name, settings),) = provider.items()
    if name == "identity":
        return [(b"", None)]
    if name not in _CIPHERS:
        raise BadEncryptionConfiguration(f"{where}: provider {name} is not supported")
    cipher, sizes = _CIPHERS[name]
    found: list[tuple[bytes, Seal | None]] = []
    for key in (settings or {}).get("keys") or ():
        try:
            secret = base64.b64decode(key["secret"], validate=True)
        except (KeyError, binascii.Error) as error:
            raise BadEncryptionConfiguration(f"{where}: {name}: secret must be base64") from error
        if len(secret) not in sizes or not key.get("name") or ":" in key["name"]:
            raise BadEncryptionConfiguration(f"{where}: {name}: a key needs a name and a secret of {sizes} bytes")
        found.append((f"k8s:enc:{name}:v1:{key['name']}:".encode(), cipher(secret)))
    if not found:
        raise BadEncryptionConfiguration(f"{where}: {name}: keys are needed")
    return found


def _xor(left: bytes, right: bytes) -> bytes:
    size = len(left)
    return (int.from_bytes(left, "big") ^ int.from_bytes(right[:size], "big")).to_bytes(size, "big")


def _rounds(state: list[int]) -> list[int]:
    x = list(state)
    columns = ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11))
    rows = ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14))
    for _ in range(10):
        for a, b, c, d in columns + rows:
            for target, one, two, shift in ((b, a, d, 7), (c, b, a, 9), (d, c, b, 13), (a, d, c, 18)):
                total = (x[one] + x[two]) & _MASK
                x[target] ^= ((total << shift) | (total >> (32 - shift))) & _MASK
    return x


def _state(key: bytes, middle: bytes) -> list[int]:
    c, k, n = struct.unpack("<4I", b"expand 32-byte k"), struct.unpack("<8I", key), struct.unpack("<4I", middle)
    return [c[0], *k[:4], c[1], *n, c[2], *k[4:], c[3]]


def _xsalsa20(key: bytes, nonce: bytes, size: int) -> bytes:
    x = _rounds(_state(key, nonce[:16]))
    inner = struct.pack("<8I", x[0], x[5], x[10], x[15], *x[6:10])
    blocks = []
    for counter in range((size + 63) // 64):
        state = _state(inner, nonce[16:24] + struct.pack("<Q", counter))
        blocks.append(struct.pack("<16I", *((a + b) & _MASK for a, b in zip(state, _rounds(state), strict=True))))
    return b"".join(blocks)[:size]
