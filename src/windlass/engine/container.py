"""A container: what it was asked to be, what it is now, and what is kept on disk of both.

    containers/<id>/container.json    the record below, replaced as a whole at each change
    containers/<id>/<id>-json.log     its log, written by its monitor
    <exec-root>/containers/<id>/      what belongs to the current run (see `windlass.runtime.records`)

What is kept is what a new daemon cannot find out otherwise. What it can (whether it runs, its pid, its exit) is in the
record too, as it was last seen, and start-up corrects it by the kernel's word.

Every transition happens under the container's own lock. Waiting for an end happens outside of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from windlass.engine import modes
from windlass.engine.mountpoints import MountPoint
from windlass.engine.restarts import Backoff, Policy
from windlass.engine.security import SecurityOptions, parse_security_options
from windlass.engine.state import State
from windlass.engine.timestamps import parse_rfc3339, rfc3339
from windlass.engine.wait import Waiters

if TYPE_CHECKING:
    from windlass.engine.attach import AttachHub
    from windlass.engine.health import HealthMonitor
    from windlass.runtime.client import Monitor

Document = dict[str, Any]

RECORD_VERSION: Final = 1


class Container:
    """One container. Attributes in the first group are kept on disk."""

    def __init__(
        self,
        *,
        id: str,
        name: str,
        created: int,
        path: str,
        args: list[str],
        config: Document,
        host_config: Document,
        image_id: str,
        driver: str,
        sandbox: str = "",
    ) -> None:
        self.id = id
        self.name = name  # without a slash
        self.created = created
        self.path = path
        self.args = args
        self.config = config
        self.host_config = host_config
        self.image_id = image_id
        self.image_manifest: Document | None = None
        self.driver = driver
        self.sandbox = sandbox  # the identity of the sandbox that it lives in
        self.os = "linux"
        self.mount_points: dict[str, MountPoint] = {}
        self.endpoints: dict[str, Document] = {}  # what was asked of each network, by its name
        self.attachment: Document | None = None  # what the networks gave this run
        self.state = State()
        self.health: Document | None = None
        self.restart_count = 0
        self.stopped_by_hand = False
        self.restart_cancelled = False
        self.was_started = False
        self.starting = False  # a launch was about to happen; whether it did, the run's directory says
        self.security_labels: tuple[str, str] = ("", "")  # SELinux: process, mount
        self.no_new_privileges_default = False

        self.lock = asyncio.Lock()
        self.waiters = Waiters()
        self.monitor: Monitor | None = None
        self.hub: AttachHub | None = None
        self.log_ended = asyncio.Event()  # of this run
        self.health_monitor: HealthMonitor | None = None
        self.backoff = Backoff()
        self.restart_timer: asyncio.Task[None] | None = None
        self.restarting_by_hand = False
        self.execs: set[str] = set()
        self.shm_path = ""
        self.console_size: tuple[int, int] | None = None

    # What others ask -------------------------------------------------------------------------------------------

    @property
    def terminal(self) -> bool:
        """Whether its streams are one terminal."""
        return bool(self.config["Tty"])

    @property
    def network_mode(self) -> str:
        """`HostConfig.NetworkMode`."""
        mode: str = self.host_config["NetworkMode"]
        return mode

    @property
    def restart_policy(self) -> Policy:
        """`HostConfig.RestartPolicy`."""
        policy = self.host_config["RestartPolicy"]
        return Policy(policy["Name"], policy["MaximumRetryCount"])

    @property
    def auto_remove(self) -> bool:
        """Whether it disappears when it ends."""
        return bool(self.host_config["AutoRemove"])

    @property
    def security(self) -> SecurityOptions:
        """Its `--security-opt`s."""
        return parse_security_options(
            self.host_config["SecurityOpt"] or (), no_new_privileges=self.no_new_privileges_default
        )

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        return self.config["Labels"] or {}

    @property
    def shares_network_of(self) -> str | None:
        """The container whose network it uses."""
        return modes.shared_container(self.network_mode)

    def event_attributes(self) -> dict[str, str]:
        """What every event about it carries."""
        attributes = dict(self.labels)
        if self.config["Image"]:
            attributes["image"] = self.config["Image"]
        attributes["name"] = self.name
        return attributes

    # On disk -----------------------------------------------------------------------------------------------------

    def to_record(self) -> Document:
        """The contents of container.json."""
        return {
            "Version": RECORD_VERSION,
            "Id": self.id,
            "Name": self.name,
            "Created": rfc3339(self.created),
            "Path": self.path,
            "Args": self.args,
            "Config": self.config,
            "HostConfig": self.host_config,
            "Image": self.image_id,
            "ImageManifest": self.image_manifest,
            "Driver": self.driver,
            "Sandbox": self.sandbox,
            "MountPoints": [point.to_record() for point in self.mount_points.values()],
            "Endpoints": self.endpoints,
            "Attachment": self.attachment,
            "State": self.state.to_api(),
            "Health": self.health,
            "RestartCount": self.restart_count,
            "StoppedByHand": self.stopped_by_hand,
            "RestartCancelled": self.restart_cancelled,
            "Starting": self.starting,
            "WasStarted": self.was_started,
            "SecurityLabels": self.security_labels,
            "NoNewPrivileges": self.no_new_privileges_default,
        }

    @classmethod
    def from_record(cls, record: Document) -> Container:
        """Back from `to_record`. Raises `KeyError`, `TypeError` or `ValueError` for a document that is none."""
        if record["Version"] != RECORD_VERSION:
            raise ValueError(f"container record of version {record['Version']}")
        container = cls(
            id=record["Id"],
            name=record["Name"],
            created=parse_rfc3339(record["Created"]),
            path=record["Path"],
            args=record["Args"],
            config=record["Config"],
            host_config=record["HostConfig"],
            image_id=record["Image"],
            driver=record["Driver"],
            sandbox=record.get("Sandbox", ""),
        )
        container.image_manifest = record["ImageManifest"]
        points = [MountPoint.from_record(point) for point in record["MountPoints"]]
        container.mount_points = {point.destination: point for point in points}
        container.endpoints = record["Endpoints"]
        container.attachment = record["Attachment"]
        container.state = State.from_api(record["State"])
        container.health = record["Health"]
        container.restart_count = record["RestartCount"]
        container.stopped_by_hand = record["StoppedByHand"]
        container.restart_cancelled = record["RestartCancelled"]
        container.starting = record["Starting"]
        container.was_started = record["WasStarted"]
        process_label, mount_label = record["SecurityLabels"]
        container.security_labels = (process_label, mount_label)
        container.no_new_privileges_default = record["NoNewPrivileges"]
        return container
