"""The state of a container, in dockerd's vocabulary: flags that are not exclusive, and one word made from them.

created ──start──▶ running ──exit──▶ exited ──start──▶ …
                    │   ▲ └──exit, policy says again──▶ restarting ──▶ running
               pause▼   │unpause
                   paused
removing (while a removal runs), dead (a removal failed half-way)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from windlass.engine.timestamps import human_duration, parse_rfc3339, rfc3339

Document = dict[str, Any]

STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")


@dataclass(slots=True)
class State:
    """What a container does, and how its last run ended. Times in nanoseconds since the epoch, 0 is never."""

    running: bool = False
    paused: bool = False
    restarting: bool = False
    removing: bool = False
    dead: bool = False
    oom_killed: bool = False
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_at: int = 0
    finished_at: int = 0

    @property
    def status(self) -> str:
        """One word for it."""
        if self.running:
            return "paused" if self.paused else "restarting" if self.restarting else "running"
        if self.removing:
            return "removing"
        if self.dead:
            return "dead"
        return "exited" if self.started_at else "created"

    def describe(self, now: int, health: str = "") -> str:
        """One phrase for it, as `docker ps` shows."""
        if self.running:
            words = f"Up {human_duration(now - self.started_at)}"
            if self.paused:
                return f"{words} (Paused)"
            if self.restarting:
                return f"Restarting ({self.exit_code}) {human_duration(now - self.finished_at)} ago"
            if health:
                return f"{words} ({'health: starting' if health == 'starting' else health})"
            return words
        if self.removing:
            return "Removal In Progress"
        if self.dead:
            return "Dead"
        if not self.started_at:
            return "Created"
        if not self.finished_at:
            return ""
        return f"Exited ({self.exit_code}) {human_duration(now - self.finished_at)} ago"

    def set_running(self, *, pid: int, started_at: int) -> None:
        """A run has begun."""
        self.running, self.paused, self.restarting, self.oom_killed = True, False, False, False
        self.pid, self.started_at, self.exit_code, self.error = pid, started_at, 0, ""

    def set_ended(self, *, exit_code: int, finished_at: int, restarting: bool) -> None:
        """A run is over; a container that will be started again still counts as running."""
        self.running, self.restarting, self.paused = restarting, restarting, False
        self.pid, self.exit_code, self.finished_at = 0, exit_code, finished_at

    def to_api(self) -> Document:
        """The `State` of `docker inspect`, without its health."""
        return {
            "Status": self.status,
            "Running": self.running,
            "Paused": self.paused,
            "Restarting": self.restarting,
            "OOMKilled": self.oom_killed,
            "Dead": self.dead,
            "Pid": self.pid,
            "ExitCode": self.exit_code,
            "Error": self.error,
            "StartedAt": rfc3339(self.started_at),
            "FinishedAt": rfc3339(self.finished_at),
        }

    @classmethod
    def from_api(cls, document: Document) -> State:
        """Back from `to_api`. `removing` is not kept: a removal that was interrupted is completed at start-up."""
        return cls(
            running=document["Running"],
            paused=document["Paused"],
            restarting=document["Restarting"],
            dead=document["Dead"],
            oom_killed=document["OOMKilled"],
            pid=document["Pid"],
            exit_code=document["ExitCode"],
            error=document["Error"],
            started_at=parse_rfc3339(document["StartedAt"]),
            finished_at=parse_rfc3339(document["FinishedAt"]),
        )
