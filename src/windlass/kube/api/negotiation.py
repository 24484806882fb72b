"""Which form an answer takes: the header Accept, clause by clause.

    application/json;as=Table;v=v1;g=meta.k8s.io,application/json     kubectl get
    application/vnd.kubernetes.protobuf,application/json              typed Go clients

A clause whose transformation (`as=`) does not fit the request is passed over, as upstream does; where none fits, 406.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from windlass.kube.api import status

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
_FORMATS = {JSON: JSON, YAML: YAML, "application/x-yaml": YAML, "text/yaml": YAML, PROTOBUF: PROTOBUF}
_ANY = frozenset({"*/*", "application/*"})
TRANSFORMS = frozenset({"Table", "PartialObjectMetadata", "PartialObjectMetadataList"})


@dataclass(frozen=True, slots=True)
class Form:
    """How to encode an answer.

    Attributes:
        format: JSON, YAML or PROTOBUF.
        kind: "" for the object itself, or "Table", "PartialObjectMetadata", "PartialObjectMetadataList".
        version: the version of meta.k8s.io for `kind`.
        pretty: indented JSON.
        content_type: of the answer's head.
    """

    format: str = JSON
    kind: str = ""
    version: str = ""
    pretty: bool = False

    @property
    def content_type(self) -> str:
        """The answer's media type."""
        if not self.kind or self.format != JSON:
            return self.format
        return f"{self.format};as={self.kind};g=meta.k8s.io;v={self.version}"

    @property
    def is_plain(self) -> bool:
        """Whether the stored bytes are the answer."""
        return self.format == JSON and not self.kind and not self.pretty


PLAIN = Form()


@functools.lru_cache(maxsize=512)
def negotiate(accept: str, transforms: frozenset[str] = frozenset(), protobuf: bool = True) -> Form:
    """The first acceptable form, in the order of the clauses' quality.

    Args:
        accept: the header, "" for none.
        transforms: the kinds of `as=` that fit this request.
        protobuf: whether the answer has a protobuf form (custom resources have none).

    Raises:
        StatusError: 406, no clause can be met.
    """
    if not accept:
        return PLAIN
    for _, clause, parameters in _clauses(accept):
        wanted = parameters.get("as", "")
        version = parameters.get("v", "")
        if wanted:
            if wanted not in transforms or parameters.get("g") != "meta.k8s.io" or version not in ("v1", "v1beta1"):
                continue
        elif parameters.get("stream") not in (None, "watch"):
            continue
        format = JSON if clause in _ANY else _FORMATS.get(clause, "")
        if not format or (format == PROTOBUF and not protobuf):
            continue
        pretty = parameters.get("pretty") in ("1", "true") and format == JSON
        return Form(format, wanted, version, pretty)
    listed = ", ".join((JSON, YAML, PROTOBUF) if protobuf else (JSON, YAML))
    raise status.not_acceptable(f"only the following media types are accepted: {listed}")


def _clauses(accept: str) -> list[tuple[float, str, dict[str, str]]]:
    found: list[tuple[float, str, dict[str, str]]] = []
    for text in accept.split(","):
        media, *rest = (part.strip() for part in text.split(";"))
        parameters: dict[str, str] = {}
        for part in rest:
            name, _, value = part.partition("=")
            parameters[name.strip().lower()] = value.strip().strip('"')
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            continue
        if media and quality > 0:
            found.append((quality, media.lower(), parameters))
    found.sort(key=lambda clause: -clause[0])
    return found
