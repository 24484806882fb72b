"""The image documents: descriptors, manifests, indexes, image configurations, with Docker's extensions.

    index (several platforms) ──▶ manifest (one image) ──▶ config   (what to run, history, rootfs.diff_ids)
                                                      └──▶ layers   (tar, gzip or zstd; top last)

Each arrow is a descriptor: media type, digest, size. Docker's own "schema 2" documents have the same shape under other
media types, so one set of types serves both (OCI image specification 1.1; distribution manifest v2 schema 2).
`parse_manifest` and its sisters check foreign documents once, at the door; inside, the TypedDicts are trusted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypedDict, cast

import orjson

from windlass.errors import InvalidParameter
from windlass.oci.digest import Digest, parse_digest
from windlass.oci.platform import Platform, platform_from_json

MEDIA_DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
MEDIA_DOCKER_SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"
MEDIA_DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
MEDIA_DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
MEDIA_DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
MEDIA_DOCKER_PLUGIN_CONFIG: Final = "application/vnd.docker.plugin.v1+json"
MEDIA_DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
MEDIA_DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
MEDIA_DOCKER_LAYER_FOREIGN: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
MEDIA_OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
MEDIA_OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
MEDIA_OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
MEDIA_OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
MEDIA_OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
MEDIA_OCI_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
MEDIA_OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"

MANIFEST_TYPES: Final = frozenset({MEDIA_DOCKER_MANIFEST, MEDIA_OCI_MANIFEST})
INDEX_TYPES: Final = frozenset({MEDIA_DOCKER_LIST, MEDIA_OCI_INDEX})
SCHEMA1_TYPES: Final = frozenset({MEDIA_DOCKER_SCHEMA1, MEDIA_DOCKER_SCHEMA1_SIGNED})
CONFIG_TYPES: Final = frozenset({MEDIA_DOCKER_CONFIG, MEDIA_OCI_CONFIG})
LAYER_COMPRESSION: Final = {
    MEDIA_DOCKER_LAYER: "",
    MEDIA_DOCKER_LAYER_GZIP: "gzip",
    MEDIA_DOCKER_LAYER_FOREIGN: "gzip",
    MEDIA_OCI_LAYER: "",
    MEDIA_OCI_LAYER_GZIP: "gzip",
    MEDIA_OCI_LAYER_ZSTD: "zstd",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar": "",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": "zstd",
}
"""Layer media types, and how each is packed ("" is a bare tar)."""

MAX_DOCUMENT: Final = 4 << 20
"""Bytes: no manifest, index or configuration may be larger (what registries and containerd allow)."""
MAX_LAYERS: Final = 4096
_MAX_SIZE: Final = 1 << 62


class PlatformDocument(TypedDict, total=False):
    """The platform of an index entry."""

    architecture: str
    os: str
    variant: str


class _DescriptorRequired(TypedDict):
    mediaType: str
    digest: Digest
    size: int


class Descriptor(_DescriptorRequired, total=False):
    """What and where: a media type, a digest, a size in bytes."""

    urls: list[str]
    annotations: dict[str, str]
    data: str
    platform: PlatformDocument
    artifactType: str


class _ManifestRequired(TypedDict):
    schemaVersion: int
    config: Descriptor
    layers: list[Descriptor]


class Manifest(_ManifestRequired, total=False):
    """One image for one platform."""

    mediaType: str
    annotations: dict[str, str]
    artifactType: str
    subject: Descriptor


class _IndexRequired(TypedDict):
    schemaVersion: int
    manifests: list[Descriptor]


class Index(_IndexRequired, total=False):
    """Manifests for several platforms (Docker's name: manifest list)."""

    mediaType: str
    annotations: dict[str, str]
    artifactType: str
    subject: Descriptor


class HealthConfig(TypedDict, total=False):
    """Docker's health check; the times are nanoseconds."""

    Test: list[str]
    Interval: int
    Timeout: int
    StartPeriod: int
    StartInterval: int
    Retries: int


class ExecutionConfig(TypedDict, total=False):
    """What to run by default: the `config` object of an image configuration."""

    User: str
    ExposedPorts: dict[str, dict[str, Any]] | None
    Env: list[str] | None
    Entrypoint: list[str] | None
    Cmd: list[str] | None
    Volumes: dict[str, dict[str, Any]] | None
    WorkingDir: str
    Labels: dict[str, str] | None
    StopSignal: str
    # Docker's own
    ArgsEscaped: bool
    Healthcheck: HealthConfig
    OnBuild: list[str] | None
    Shell: list[str]
    Hostname: str
    Domainname: str
    Image: str
    AttachStdin: bool
    AttachStdout: bool
    AttachStderr: bool
    Tty: bool
    OpenStdin: bool
    StdinOnce: bool
    NetworkDisabled: bool
    MacAddress: str
    StopTimeout: int


class RootFS(TypedDict):
    """The uncompressed layers, base first."""

    type: str
    diff_ids: list[Digest]


class HistoryEntry(TypedDict, total=False):
    """One step that made the image; `empty_layer` steps have no entry in `rootfs.diff_ids`."""

    created: str
    created_by: str
    author: str
    comment: str
    empty_layer: bool


class _ImageConfigRequired(TypedDict):
    architecture: str
    os: str
    rootfs: RootFS


_ImageConfigDotted = TypedDict("_ImageConfigDotted", {"os.version": str, "os.features": list[str]}, total=False)


class ImageConfig(_ImageConfigRequired, _ImageConfigDotted, total=False):
    """The image configuration; its digest is the image's id."""

    created: str
    author: str
    variant: str
    config: ExecutionConfig
    history: list[HistoryEntry]
    # Docker's own
    comment: str
    container: str
    container_config: ExecutionConfig
    docker_version: str
    parent: str
    id: str


def encode_document(document: object) -> bytes:
    """The bytes of a document that we make: compact JSON, keys in insertion order, so equal ones have equal digests."""
    return orjson.dumps(document)


def chain_ids(diff_ids: Iterable[Digest]) -> list[Digest]:
    """The chain IDs of a stack of layers, base first (image specification, "Layer ChainID").

    A chain ID names a layer together with everything below it: `chain(n) = sha256(chain(n-1) + " " + diff(n))`.
    """
    chain: list[Digest] = []
    for diff_id in diff_ids:
        if chain:
            chain.append(Digest(f"sha256:{hashlib.sha256(f'{chain[-1]} {diff_id}'.encode()).hexdigest()}"))
        else:
            chain.append(diff_id)
    return chain


def chain_id(diff_ids: Sequence[Digest]) -> Digest | None:
    """The chain ID of the whole stack; None for an image without layers."""
    chain = chain_ids(diff_ids)
    return chain[-1] if chain else None


def image_platform(config: ImageConfig) -> Platform:
    """The platform that an image configuration says it is for."""
    return platform_from_json(config)


def document_kind(data: bytes, media_type: str = "") -> str:
    """Which document this is: `manifest`, `index`, `schema1` or `` (unknown).

    The document's own word and the shape decide when the transport says nothing useful; a document that has both
    `layers` and `manifests` is refused, since two readers would see two images in it (CVE-2021-41190).
    """
    document = _object(_load(data, "manifest"), "manifest")
    stated = document.get("mediaType")
    if stated is not None and not isinstance(stated, str):
        raise InvalidParameter("manifest: mediaType is not text")
    known = MANIFEST_TYPES | INDEX_TYPES | SCHEMA1_TYPES
    if stated and media_type in known and stated in known and stated != media_type:
        raise InvalidParameter(f"manifest: mediaType is {stated}, but it was served as {media_type}")
    has_layers, has_manifests = "layers" in document or "config" in document, "manifests" in document
    if "fsLayers" in document or document.get("schemaVersion") == 1:
        return "schema1"
    if has_layers and has_manifests:
        raise InvalidParameter("manifest: has both layers and manifests")
    kind = "index" if has_manifests else "manifest" if has_layers else ""
    stated = stated or media_type
    if (kind == "index" and stated in MANIFEST_TYPES) or (kind == "manifest" and stated in INDEX_TYPES):
        raise InvalidParameter(f"manifest: {stated} does not have this shape")
    return kind


def parse_manifest(data: bytes) -> Manifest:
    """Check a foreign manifest. Raises `InvalidParameter` that names the field."""
    document = _object(_load(data, "manifest"), "manifest")
    _schema_version(document, "manifest")
    if "manifests" in document:
        raise InvalidParameter("manifest: has both layers and manifests")
    check_descriptor(document.get("config"), "manifest: config")
    for number, layer in enumerate(_array(document.get("layers"), "manifest: layers", limit=MAX_LAYERS)):
        check_descriptor(layer, f"manifest: layers[{number}]")
    if document.get("subject") is not None:
        check_descriptor(document["subject"], "manifest: subject")
    return cast(Manifest, document)


def parse_index(data: bytes) -> Index:
    """Check a foreign index or manifest list. Raises `InvalidParameter` that names the field."""
    document = _object(_load(data, "index"), "index")
    _schema_version(document, "index")
    if "layers" in document or "config" in document:
        raise InvalidParameter("index: has both layers and manifests")
    for number, entry in enumerate(_array(document.get("manifests"), "index: manifests", limit=MAX_LAYERS)):
        where = f"index: manifests[{number}]"
        check_descriptor(entry, where)
        if entry.get("platform") is not None:
            platform_from_json(entry["platform"])
    return cast(Index, document)


def parse_image_config(data: bytes) -> ImageConfig:
    """Check a foreign image configuration. Raises `InvalidParameter` that names the field."""
    document = _object(_load(data, "image config"), "image config")
    if "rootfs" not in document:
        raise InvalidParameter("image config: rootfs is missing")
    rootfs = _object(document["rootfs"], "image config: rootfs")
    diff_ids = rootfs.get("diff_ids")
    if diff_ids is None:  # Go writes an empty list as null
        rootfs["diff_ids"] = diff_ids = []
    for diff_id in _array(diff_ids, "image config: rootfs.diff_ids", limit=MAX_LAYERS):
        if not isinstance(diff_id, str):
            raise InvalidParameter("image config: a diff_id is not text")
        parse_digest(diff_id)
    rootfs.setdefault("type", "layers")
    for name in ("architecture", "os", "created", "author", "variant", "docker_version", "parent", "comment"):
        if not isinstance(document.get(name, ""), str | None):
            raise InvalidParameter(f"image config: {name} is not text")
    document["architecture"] = document.get("architecture") or ""
    document["os"] = document.get("os") or ""
    for name in ("config", "container_config"):
        if document.get(name) is not None:
            _check_execution(_object(document[name], f"image config: {name}"), name)
    for entry in _array(document.get("history") or [], "image config: history", limit=4 * MAX_LAYERS):
        _object(entry, "image config: history entry")
    return cast(ImageConfig, document)


def check_descriptor(value: Any, where: str) -> Descriptor:
    """Check a foreign descriptor. Raises `InvalidParameter`."""
    document = _object(value, where)
    if not isinstance(document.get("mediaType", ""), str):
        raise InvalidParameter(f"{where}: mediaType is not text")
    digest = document.get("digest")
    if not isinstance(digest, str):
        raise InvalidParameter(f"{where}: digest is not text")
    try:
        parse_digest(digest)
    except InvalidParameter as error:
        raise InvalidParameter(f"{where}: {error}") from None
    size = document.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _MAX_SIZE:
        raise InvalidParameter(f"{where}: size is not a number of bytes")
    urls = document.get("urls") or []
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise InvalidParameter(f"{where}: urls is not a list of texts")
    document.setdefault("mediaType", "")
    return cast(Descriptor, document)


def _check_execution(config: dict[str, Any], where: str) -> None:
    for name in ("Env", "Entrypoint", "Cmd", "OnBuild", "Shell"):
        value = config.get(name)
        if value is not None and (not isinstance(value, list) or not all(isinstance(item, str) for item in value)):
            raise InvalidParameter(f"image config: {where}.{name} is not a list of texts")
    for name in ("ExposedPorts", "Volumes", "Labels", "Healthcheck"):
        if not isinstance(config.get(name), dict | None):
            raise InvalidParameter(f"image config: {where}.{name} is not an object")
    for name, value in (config.get("Labels") or {}).items():
        if not isinstance(value, str):
            raise InvalidParameter(f"image config: {where}.Labels[{name}] is not text")
    for name in ("User", "WorkingDir", "StopSignal"):
        if not isinstance(config.get(name), str | None):
            raise InvalidParameter(f"image config: {where}.{name} is not text")


def _load(data: bytes, what: str) -> Any:
    if len(data) > MAX_DOCUMENT:
        raise InvalidParameter(f"{what}: {len(data)} bytes are more than the allowed {MAX_DOCUMENT}")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidParameter(f"{what}: {error}") from None


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidParameter(f"{where} is not an object")
    return value


def _array(value: Any, where: str, *, limit: int) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidParameter(f"{where} is not a list")
    if len(value) > limit:
        raise InvalidParameter(f"{where} has {len(value)} entries, {limit} are allowed")
    return value


def _schema_version(document: dict[str, Any], what: str) -> None:
    if document.get("schemaVersion") != 2:
        raise InvalidParameter(f"{what}: unsupported schema version {document.get('schemaVersion')}")
