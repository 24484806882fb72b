"""Image references: the names that people type, and what they stand for.

    registry.example:5000/team/tool:1.2@sha256:3c1f…
    └────── domain ─────┘└─ path ─┘└tag┘└── digest ─┘

    debian                    is  docker.io/library/debian          (an official image)
    team/tool                 is  docker.io/team/tool
    localhost/tool, a.b/tool  are what they say: a first part with a dot, a colon, an upper-case letter or the name
                              `localhost` is a domain

The grammar is that of the distribution project's `reference` package, which dockerd uses; error texts are dockerd's,
since tools match them. A `Reference` is always normalised (it has a domain); `familiar()` is the short form for people.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from windlass.errors import InvalidParameter
from windlass.oci.digest import Digest, is_digest, parse_digest

DEFAULT_DOMAIN: Final = "docker.io"
DEFAULT_TAG: Final = "latest"
_LEGACY_DOMAIN: Final = "index.docker.io"
_OFFICIAL: Final = "library/"
_MAX_NAME: Final = 255

_ALNUM = r"[a-z0-9]+"
_SEPARATOR = r"(?:[._]|__|[-]+)"
_COMPONENT = rf"{_ALNUM}(?:{_SEPARATOR}{_ALNUM})*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?:[a-fA-F0-9:]+)\])"
_DOMAIN = rf"{_HOST}(?::[0-9]+)?"
_TAG = r"[\w][\w.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE: Final = re.compile(rf"((?:{_DOMAIN}/)?{_PATH})(?::({_TAG}))?(?:@({_DIGEST}))?", re.ASCII)
_NAME: Final = re.compile(rf"(?:({_DOMAIN})/)?({_PATH})", re.ASCII)
_TAG_ONLY: Final = re.compile(_TAG, re.ASCII)
_IDENTIFIER: Final = re.compile(r"[a-f0-9]{64}", re.ASCII)


class Reference(NamedTuple):
    """A normalised reference. Equal references are equal tuples; `str()` is the full form."""

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        return f"{self.domain}/{self.path}{self._suffix()}"

    @property
    def name(self) -> str:
        """Domain and path: the repository."""
        return f"{self.domain}/{self.path}"

    def familiar_name(self) -> str:
        """The repository as people write it: `debian`, `team/tool`, `ghcr.io/team/tool`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix(_OFFICIAL)
        if "/" not in rest:
            return rest
        # A first part that looks like a domain must not be read as one: `docker.io/a.b/c` is not `a.b/c`.
        return self.path if _split_domain(self.path)[0] == DEFAULT_DOMAIN else self.name

    def familiar(self) -> str:
        """The whole reference as people write it: `debian:12`."""
        return f"{self.familiar_name()}{self._suffix()}"

    def with_default_tag(self) -> Reference:
        """`latest` where neither tag nor digest is given."""
        return self if self.tag or self.digest else self._replace(tag=DEFAULT_TAG)

    def with_tag(self, tag: str) -> Reference:
        """The same repository under `tag`. Raises `InvalidParameter` where the tag is malformed."""
        return self._replace(tag=parse_tag(tag), digest=None)

    def with_digest(self, digest: Digest) -> Reference:
        """The same repository at `digest`, without a tag."""
        return self._replace(tag=None, digest=digest)

    def repository(self) -> Reference:
        """Without tag and digest."""
        return self._replace(tag=None, digest=None)

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Parse and normalise. Raises `InvalidParameter` with dockerd's message."""
    if _IDENTIFIER.fullmatch(text):
        raise InvalidParameter(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    repository = remainder.partition(":")[0]
    if repository.lower() != repository:
        raise InvalidParameter(f"invalid reference format: repository name ({repository}) must be lowercase")
    return _parse_full(f"{domain}/{remainder}")


def parse_any_reference(text: str) -> Reference | Digest:
    """A reference, or the digest that a 64-digit identifier or an `algorithm:hex` text stands for."""
    if _IDENTIFIER.fullmatch(text):
        return Digest(f"sha256:{text}")
    if is_digest(text):
        return parse_digest(text)
    return parse_reference(text)


def parse_tag(text: str) -> str:
    """Check a tag alone. Raises `InvalidParameter`."""
    if not _TAG_ONLY.fullmatch(text):
        raise InvalidParameter("invalid tag format")
    return text


def parse_repository_tag(repository: str, tag: str) -> Reference:
    """Join the `repo` and `tag` (or digest) parameters of the Engine API. Raises `InvalidParameter`."""
    reference = parse_reference(repository)
    if not tag:
        return reference
    if ":" in tag:
        return reference.with_digest(parse_digest(tag))
    return reference.with_tag(tag)


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL + text
    if first == _LEGACY_DOMAIN:
        domain, remainder = DEFAULT_DOMAIN, rest
    elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def _parse_full(text: str) -> Reference:
    match = _REFERENCE.fullmatch(text)
    if match is None:
        if _REFERENCE.fullmatch(text.lower()):
            raise InvalidParameter("invalid reference format: repository name must be lowercase")
        raise InvalidParameter("invalid reference format")
    name, tag, digest = match.groups()
    parts = _NAME.fullmatch(name)
    if parts is None or not parts[1]:
        raise InvalidParameter("invalid reference format")
    if len(parts[2]) > _MAX_NAME:
        raise InvalidParameter(f"repository name must not be more than {_MAX_NAME} characters")
    return Reference(parts[1], parts[2], tag, parse_digest(digest) if digest else None)
