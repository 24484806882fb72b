"""Encryption at rest: each resource's values sealed as an EncryptionConfiguration says.

Source: https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/
"""

from __future__ import annotations

from pathlib import Path

from windlass.kube.api import yamlform
from windlass.kube.api.encryption import BadEncryptionConfiguration, Encryption, choose, parse
from windlass.store.image import bucket_name
from windlass.store.transform import IDENTITY, Transformer

_PREFIX = b"/registry/"


class ByResource:
    """A store's transformer that asks another one for each resource."""

    def __init__(self, entries: list[tuple[tuple[str, ...], Encryption]]) -> None:
        self._entries = entries
        self._known: dict[bytes, Encryption | None] = {}

    def _of(self, key: bytes) -> Encryption | None:
        bucket = bucket_name(key)
        if bucket not in self._known:
            resource, _, group = bucket.removeprefix(_PREFIX).rstrip(b"/").decode().partition(".")
            self._known[bucket] = choose(self._entries, group, resource)
        return self._known[bucket]

    def encode(self, key: bytes, value: bytes) -> bytes:
        """See `Transformer.encode`."""
        found = self._of(key)
        return value if found is None else found.encode(key, value)

    def decode(self, key: bytes, data: bytes) -> tuple[bytes, bool]:
        """See `Transformer.decode`."""
        found = self._of(key)
        return (data, False) if found is None else found.decode(key, data)


def load(path: Path | None) -> Transformer:
    """The transformer that a configuration file describes; none without a file.

    Raises:
        BadEncryptionConfiguration, OSError
    """
    if path is None:
        return IDENTITY
    try:
        document = yamlform.load(path.read_bytes())
    except yamlform.BadYAML as error:
        raise BadEncryptionConfiguration(f"{path}: {error}") from None
    if not isinstance(document, dict):
        raise BadEncryptionConfiguration(f"{path}: it is no object")
    return ByResource(parse(document))
