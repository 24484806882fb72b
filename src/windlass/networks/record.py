"""What is known of a network for good, its file, and its shape in the API.

```
 <data root>/networks/networks.json
 {"version": 1, "networks": [{"id": 64 hex, "name", "driver", "created": RFC 3339, "ipam": [{"subnet", "ipRange",
   "gateway", "auxiliary"}], "options", "labels", "internal", "attachable", "enableIPv4", "enableIPv6"}]}
```

The file is written before the kernel is changed and read at start; what it says and the kernel does not have is made
again. Addresses of containers are not in it: they are in the containers' own records.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from windlass.networks.settings import IPAddress, Network

PREDEFINED = ("bridge", "host", "none")


@dataclass(frozen=True, kw_only=True)
class IpamConfig:
    """A subnet of a network: its addresses, where free ones come from, its gateway, and addresses left out.

    `configured`: somebody chose it, and not we.
    """

    subnet: Network
    ip_range: Network | None = None
    gateway: IPAddress | None = None
    auxiliary: Mapping[str, str] = field(default_factory=dict)
    configured: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "subnet": str(self.subnet),
            "ipRange": str(self.ip_range or ""),
            "gateway": str(self.gateway or ""),
            "auxiliary": dict(self.auxiliary),
            "configured": self.configured,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> IpamConfig:
        return cls(
            subnet=ipaddress.ip_network(data["subnet"]),
            ip_range=ipaddress.ip_network(data["ipRange"]) if data["ipRange"] else None,
            gateway=ipaddress.ip_address(data["gateway"]) if data["gateway"] else None,
            auxiliary={str(key): str(value) for key, value in data["auxiliary"].items()},
            configured=bool(data["configured"]),
        )

    def to_api(self) -> dict[str, Any]:
        shape: dict[str, Any] = {"Subnet": str(self.subnet)}
        if self.ip_range is not None:
            shape["IPRange"] = str(self.ip_range)
        if self.gateway is not None:
            shape["Gateway"] = str(self.gateway)
        if self.auxiliary:
            shape["AuxiliaryAddresses"] = dict(self.auxiliary)
        return shape


@dataclass(frozen=True, kw_only=True)
class NetworkRecord:
    """One network. `driver` is bridge, host or null."""

    id: str
    name: str
    driver: str
    created: str
    ipam: tuple[IpamConfig, ...] = ()
    ipam_options: Mapping[str, str] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    attachable: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False

    @property
    def created_ns(self) -> int:
        """Unix time in nanoseconds."""
        moment = datetime.datetime.strptime(self.created[:26], "%Y-%m-%dT%H:%M:%S.%f").replace(tzinfo=datetime.UTC)
        return int(moment.timestamp() * 1_000_000) * 1000

    @property
    def predefined(self) -> bool:
        return self.name in PREDEFINED

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "driver": self.driver,
            "created": self.created,
            "ipam": [each.to_json() for each in self.ipam],
            "ipamOptions": None if self.ipam_options is None else dict(self.ipam_options),
            "options": dict(self.options),
            "labels": dict(self.labels),
            "internal": self.internal,
            "attachable": self.attachable,
            "enableIPv4": self.enable_ipv4,
            "enableIPv6": self.enable_ipv6,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NetworkRecord:
        """Raises ValueError, KeyError, TypeError or AttributeError where the record is damaged."""
        return cls(
            id=str(data["id"]),
            name=str(data["name"]),
            driver=str(data["driver"]),
            created=str(data["created"]),
            ipam=tuple(IpamConfig.from_json(each) for each in data["ipam"]),
            ipam_options=None if data["ipamOptions"] is None else dict(data["ipamOptions"]),
            options=dict(data["options"]),
            labels=dict(data["labels"]),
            internal=bool(data["internal"]),
            attachable=bool(data["attachable"]),
            enable_ipv4=bool(data["enableIPv4"]),
            enable_ipv6=bool(data["enableIPv6"]),
        )

    def to_api(self, containers: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
        """`network.Inspect` of API 1.51; `containers` by their id."""
        return {
            "Name": self.name,
            "Id": self.id,
            "Created": self.created,
            "Scope": "local",
            "Driver": self.driver,
            "EnableIPv4": self.enable_ipv4,
            "EnableIPv6": self.enable_ipv6,
            "IPAM": {
                "Driver": "default",
                "Options": None if self.ipam_options is None else dict(self.ipam_options),
                "Config": [each.to_api() for each in self.ipam] or None,
            },
            "Internal": self.internal,
            "Attachable": self.attachable,
            "Ingress": False,
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": False,
            "Containers": {key: dict(value) for key, value in (containers or {}).items()},
            "Options": dict(self.options),
            "Labels": dict(self.labels),
        }


def new_id() -> str:
    return secrets.token_hex(32)


def now() -> str:
    """The time as the API writes it: RFC 3339, nanoseconds, UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


class RecordFile:
    """The file of records. Its owner writes; nobody else does."""

    def __init__(self, root: Path) -> None:
        self._path = root / "networks.json"

    def load(self) -> list[NetworkRecord]:
        """Raises ValueError naming the file where it is damaged; OSError."""
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return []
        try:
            data = json.loads(text)
            if data["version"] != 1:
                raise ValueError(f"version {data['version']!r} is not known")
            return [NetworkRecord.from_json(each) for each in data["networks"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self._path} is damaged: {error}") from error

    def save(self, records: Iterable[NetworkRecord]) -> None:
        """Replace the file in one step. Raises OSError."""
        data = {"version": 1, "networks": [each.to_json() for each in records]}
        temporary = self._path.with_name(".networks.json.tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(data, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
