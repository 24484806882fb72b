"""Binds, `--mount` specifications and `--volumes-from` as mount points of a container. Pure.

A mount point is what the engine keeps in a container's record, what `docker inspect` shows under `Mounts`, and what
becomes a mount of the OCI configuration at each start:

    "-v /src:/dst:ro,rslave"       bind     Source=/src           RW=False  Propagation=rslave
    "-v data:/dst"                 volume   Name=data             Source is filled in when the volume exists
    "-v /dst"                      volume   Name is made up       (anonymous)
    {"Type": "tmpfs", …}           tmpfs    options in `spec`
    {"Type": "image", …}           image    Source=<reference>    read-only
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from windlass.errors import InvalidParameter

Document = dict[str, Any]

PROPAGATIONS: Final = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
DEFAULT_PROPAGATION: Final = "rprivate"
_MODE_FAMILIES: Final = (
    frozenset({"rw", "ro"}),
    frozenset({"z", "Z"}),
    PROPAGATIONS,
    frozenset({"nocopy"}),
    frozenset({"consistent", "cached", "delegated"}),
)
_EXCLUSIVE: Final = {
    "BindOptions": "bind",
    "VolumeOptions": "volume",
    "ImageOptions": "image",
    "TmpfsOptions": "tmpfs",
    "ClusterOptions": "cluster",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MountPoint:
    """One place in a container's file system where something else is mounted."""

    type: str
    destination: str
    source: str = ""  # host path of a bind or volume; reference of an image
    name: str = ""  # of a volume; the reference of an image
    driver: str = ""  # of a volume
    mode: str = ""  # the options as the client wrote them
    rw: bool = True
    propagation: str = ""
    copy_data: bool = False  # fill an empty volume with what the image has there
    create_source: bool = False  # make a missing bind source, as `-v` always did
    anonymous: bool = False  # a volume that nobody named
    spec: Document = field(default_factory=dict)  # the specification, completed

    def to_record(self) -> Document:
        """For the container's record."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> MountPoint:
        """From the container's record."""
        return cls(**record)

    def to_api(self) -> Document:
        """As `docker inspect` shows it."""
        shown: Document = {"Type": self.type}
        if self.name:
            shown["Name"] = self.name
        shown |= {"Source": self.source, "Destination": self.destination}
        if self.driver:
            shown["Driver"] = self.driver
        shown |= {"Mode": self.mode, "RW": self.rw, "Propagation": self.propagation}
        return shown

    def with_volume(self, volume: Mapping[str, Any], *, anonymous: bool) -> MountPoint:
        """The same, now that its volume exists."""
        mode = self.mode
        if not mode and self.type == "volume" and volume["Driver"] == "local":
            mode = "z"
        return replace(
            self,
            name=volume["Name"],
            driver=volume["Driver"],
            source=volume["Mountpoint"],
            mode=mode,
            anonymous=anonymous,
        )


def clean(path: str) -> str:
    """`path` without `.`, `..` and doubled slashes, as Go's path.Clean."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def holds_or_is_in(path: str, other: str) -> bool:
    """Whether one of two directories is the other or is in it."""
    first, second = sorted((clean(path).rstrip("/") + "/", clean(other).rstrip("/") + "/"), key=len)
    return second.startswith(first)


def beside_engine(point: MountPoint, data_root: str) -> MountPoint:
    """A bind of a directory that holds the engine's own, or is in it, hears of unmounts there.

    Otherwise a container would keep the mounts of others from going away. Raises `InvalidParameter` for a propagation
    that does not do that.
    """
    if point.type != "bind" or not holds_or_is_in(point.source, data_root):
        return point
    wanted = (point.spec.get("BindOptions") or {}).get("Propagation", "")
    if wanted and wanted not in {"rslave", "rshared"}:
        raise InvalidParameter(
            'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within '
            f'the daemon root, daemon root: "{data_root}", bind mount source: "{point.source}", '
            f'propagation: "{wanted}"'
        )
    return point if wanted else replace(point, propagation="rslave")


def valid_mode(mode: str) -> bool:
    """Whether `mode` is a list of known options, at most one of each family."""
    if not mode:
        return True
    counts = [0] * len(_MODE_FAMILIES)
    for option in mode.split(","):
        family = next((index for index, names in enumerate(_MODE_FAMILIES) if option in names), None)
        if family is None:
            return False
        counts[family] += 1
    return max(counts) <= 1


def writable(mode: str) -> bool:
    """Whether a mount with this (valid) mode may be written to."""
    return "ro" not in mode.split(",")


def parse_bind(text: str, *, volume_driver: str = "") -> MountPoint:
    """A `-v` specification: `[source:]destination[:mode]`. Raises `InvalidParameter`."""
    parts = text.split(":", 3)
    invalid = f"invalid volume specification: '{text}'"
    if not parts[0] or len(parts) > 3 or (len(parts) == 2 and valid_mode(parts[1])):
        raise InvalidParameter(invalid)
    source, target, mode = ("", parts[0], "") if len(parts) == 1 else (*parts, "")[:3]
    if not valid_mode(mode):
        raise InvalidParameter(f"invalid mode: {mode}")
    options = mode.split(",")
    spec: Document = {"Type": "bind" if source.startswith("/") else "volume"}
    if source:
        spec["Source"] = source
    spec["Target"] = target
    if not writable(mode):
        spec["ReadOnly"] = True
    propagation = next((option for option in options if option in PROPAGATIONS), "")
    if propagation and spec["Type"] != "bind":
        raise InvalidParameter(
            f'{invalid}: invalid mount config for type "{spec["Type"]}": field BindOptions must not be specified'
        )
    if propagation:
        spec["BindOptions"] = {"Propagation": propagation}
    if volume_driver and spec["Type"] == "volume":
        spec["VolumeOptions"] = {"DriverConfig": {"Name": volume_driver}}
    if "nocopy" in options:
        if spec["Type"] != "volume":
            raise InvalidParameter(
                f'{invalid}: invalid mount config for type "{spec["Type"]}": field VolumeOptions must not be specified'
            )
        spec.setdefault("VolumeOptions", {})["NoCopy"] = True
    try:
        point = parse_mount(spec)
    except InvalidParameter as error:
        raise InvalidParameter(f"{invalid}: {error}") from None
    return replace(point, mode=mode, create_source=point.type == "bind")


def parse_volumes_from(text: str) -> tuple[str, str]:
    """A `--volumes-from` specification: container and mode. Raises `InvalidParameter`."""
    if not text:
        raise InvalidParameter("volumes-from specification cannot be an empty string")
    container, _, mode = text.partition(":")
    options = mode.split(",")
    if not valid_mode(mode) or "nocopy" in options or any(option in PROPAGATIONS for option in options):
        raise InvalidParameter(f"invalid mode: {mode}")
    return container, mode or "rw"


def _check_target(target: str) -> None:
    normal = target.replace("\\", "/")
    if clean(normal) == "/":
        raise InvalidParameter("invalid specification: destination can't be '/'")
    if not normal.startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{target}' mount path must be absolute")


def check_tmpfs_target(target: str) -> None:
    """Raises `InvalidParameter` unless a `--tmpfs` may be mounted there."""
    _check_target(target)


def _is_local(path: str) -> bool:
    """Whether a relative path stays below where it starts."""
    return not path.startswith("/") and clean(path).partition("/")[0] != ".."


def _check_mount(spec: Mapping[str, Any], source_exists: Callable[[str], bool] | None) -> None:
    kind = spec.get("Type", "")
    for name, owner in _EXCLUSIVE.items():
        if name in spec and kind != owner:
            raise InvalidParameter(f"field {name} must not be specified")
    target, source = spec.get("Target", ""), spec.get("Source", "")
    if not target:
        raise InvalidParameter("field Target must not be empty")
    _check_target(target)
    options = spec.get(f"{kind.title()}Options") or {}
    if kind in {"bind", "image"} and not source:
        raise InvalidParameter("field Source must not be empty")
    match kind:
        case "bind":
            propagation = options.get("Propagation", "")
            if propagation and propagation not in PROPAGATIONS:
                raise InvalidParameter(f"invalid propagation mode: {propagation}")
            if not source.startswith("/"):
                raise InvalidParameter(f"invalid mount path: '{source}' mount path must be absolute")
            if source_exists and not options.get("CreateMountpoint") and not source_exists(source):
                raise InvalidParameter(f"bind source path does not exist: {source}")
        case "volume" | "image":
            subpath = options.get("Subpath", "")
            if subpath and not source:
                raise InvalidParameter("must not set Subpath when using anonymous volumes")
            if subpath and not _is_local(subpath):
                raise InvalidParameter("subpath must be a relative path within the volume")
        case "tmpfs":
            if source:
                raise InvalidParameter("field Source must not be specified")
            tmpfs_options(spec)
        case _:
            raise InvalidParameter("mount type unknown")


def check_mount(spec: Mapping[str, Any], *, source_exists: Callable[[str], bool] | None = None) -> None:
    """Raises `InvalidParameter` unless `spec` is a valid `--mount`; `source_exists` looks at the host."""
    try:
        _check_mount(spec, source_exists)
    except InvalidParameter as error:
        raise InvalidParameter(f'invalid mount config for type "{spec.get("Type", "")}": {error}') from None


def parse_mount(spec: Document) -> MountPoint:
    """A `--mount` specification. Raises `InvalidParameter`."""
    check_mount(spec)
    kind: str = spec["Type"]
    options: Mapping[str, Any] = spec.get(f"{kind.title()}Options") or {}
    point = MountPoint(type=kind, destination=clean(spec["Target"]), rw=not spec.get("ReadOnly", False), spec=spec)
    match kind:
        case "volume":
            driver = (options.get("DriverConfig") or {}).get("Name", "")
            return replace(
                point, name=spec.get("Source", ""), driver=driver, copy_data=not options.get("NoCopy", False)
            )
        case "bind":
            return replace(
                point,
                source=clean(spec["Source"]),
                propagation=options.get("Propagation") or DEFAULT_PROPAGATION,
                create_source=bool(options.get("CreateMountpoint")),
            )
        case "image":
            return replace(point, source=spec["Source"], propagation=DEFAULT_PROPAGATION, rw=False)
        case _:
            return point


def tmpfs_options(spec: Mapping[str, Any]) -> list[str]:
    """The mount options that a `--mount type=tmpfs` asks for. Raises `InvalidParameter`."""
    options = spec.get("TmpfsOptions") or {}
    result = ["ro"] if spec.get("ReadOnly") else []
    if mode := options.get("Mode"):
        result.append(f"mode={mode:o}")
    if size := options.get("SizeBytes"):
        for suffix, unit in (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)):
            if size % unit == 0:
                result.append(f"size={size // unit}{suffix}")
                break
        else:
            result.append(f"size={size}")
    for option in options.get("Options") or ():
        if not 1 <= len(option) <= 2:
            raise InvalidParameter("invalid option array length")
        if option[0] not in {"exec", "noexec"}:
            raise InvalidParameter(f"invalid option: {option[0]}")
        result.append("=".join(option))
    return result
