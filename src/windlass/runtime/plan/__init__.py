"""From an OCI configuration to a plan: the ordered steps that make a process a container.

A pure function: no system call, no clock, no root. The order is where escapes live, so it is data that a test can read;
`runtime.init` carries the steps out, in the forked child, one function for each kind of step.

    plan_container   OOM score → namespaces → cgroup → sysctls → root → mounts → devices → console → masks → pivot
                     → the process
    plan_exec        (the child is in the container already) → the process
    the process      keyring → scheduling → start → label → directory → limits → filter → bounding set → user
                     → capabilities → directory, program → descriptors → (filter) → execve

See runtime-spec, config.md, config-linux.md and runtime.md ("Lifecycle").
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from windlass.runtime.plan.checks import check_config, namespaces, sysctl_namespace, sysctl_path
from windlass.runtime.plan.filesystem import filesystem_steps, id_mapping
from windlass.runtime.plan.process import affinity_step, process_steps
from windlass.runtime.plan.steps import (
    EnterCgroup,
    JoinNamespace,
    NewSessionKeyring,
    Plan,
    SetHostname,
    SetOomScore,
    SetTimeOffsets,
    Unshare,
    WriteSysctls,
)
from windlass.runtime.plan.steps import Step as Step
from windlass.runtime.wire import LaunchFailure

__all__ = ["Plan", "id_mapping", "namespaces", "plan_container", "plan_exec", "sysctl_namespace"]

# Order of joining and making: a user namespace first, as it owns the others.
_ORDER: Final = ("user", "pid", "network", "ipc", "uts", "cgroup", "time", "mount")


def plan_container(
    config: Mapping[str, Any],
    *,
    gate: bool = False,
    pivot: bool = True,
    preserve: int = 0,
    optional_rlimits: Collection[str] = (),
    new_keyring: bool = True,
) -> Plan:
    """The steps for a container's init.

    Args:
        config: the OCI runtime configuration.
        gate: stop before the program and wait for the start.
        pivot: False for hosts whose own root is a ramfs, which cannot be pivoted.
        preserve: how many descriptors from 3 on the program keeps.
        optional_rlimits: types of limits that nobody asked for: they may give way to the host's.
        new_keyring: a session keyring of its own, instead of the caller's.

    Raises:
        LaunchFailure: the configuration asks for what cannot be, with runc's words where it has some.
    """
    with _shapes():
        steps = _container_steps(config, pivot=pivot)
        steps += process_steps(config, gate=gate, preserve=preserve, optional_rlimits=optional_rlimits)
        return tuple(step for step in steps if new_keyring or not isinstance(step, NewSessionKeyring))


@contextmanager
def _shapes() -> Iterator[None]:
    """A value of another type than the specification's is an error of the configuration, wherever it is found."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise LaunchFailure("config", f"malformed configuration: {type(error).__name__}: {error}") from error


def _container_steps(config: Mapping[str, Any], *, pivot: bool) -> list[Step]:
    linux, process = config.get("linux") or {}, config.get("process") or {}
    kinds = namespaces(config)
    check_config(config, kinds)
    steps: list[Step] = []
    if (score := process.get("oomScoreAdj")) is not None:
        # First, with the host's rights: in a user namespace the file is not ours.
        steps.append(SetOomScore(int(score)))
    steps += _namespace_steps(linux, kinds)
    if "uts" in kinds and (config.get("hostname") or config.get("domainname")):
        steps.append(SetHostname(config.get("hostname") or None, config.get("domainname") or None))
    if sysctls := linux.get("sysctl"):
        # While the host's procfs is in reach, which no image can have replaced; it shows our own namespaces.
        steps.append(WriteSysctls(tuple((sysctl_path(name, kinds), str(value)) for name, value in sysctls.items())))
    return [*steps, *filesystem_steps(config, kinds, pivot=pivot)]


def plan_exec(
    process: Mapping[str, Any],
    linux: Mapping[str, Any],
    *,
    preserve: int = 0,
    optional_rlimits: Collection[str] = (),
) -> tuple[Plan, Plan]:
    """The steps for a further process: those before it enters the container's namespaces, and those inside."""
    with _shapes():
        outside: list[Step] = [*affinity_step(process, "initial")]
        if process.get("oomScoreAdj") is not None:
            outside.append(SetOomScore(int(process["oomScoreAdj"])))
        outside += [EnterCgroup(), *affinity_step(process, "final")]
        document = {"process": process, "linux": linux}
        inside = process_steps(document, gate=False, preserve=preserve, optional_rlimits=optional_rlimits)
        return tuple(outside), tuple(inside)


def _namespace_steps(linux: Mapping[str, Any], kinds: Mapping[str, str | None]) -> list[Step]:
    steps: list[Step] = []
    # Those that the parent joins or makes when it forks stand first; it takes them from the plan.
    steps += [JoinNamespace(kind, path) for kind in _ORDER if (path := kinds.get(kind))]
    new = tuple(kind for kind in _ORDER if kind in kinds and kinds[kind] is None)
    early = tuple(kind for kind in new if kind != "cgroup")
    if early:
        steps.append(Unshare(early))
    if offsets := linux.get("timeOffsets"):
        steps.append(
            SetTimeOffsets(
                tuple((clock, int(o.get("secs", 0)), int(o.get("nanosecs", 0))) for clock, o in offsets.items())
            )
        )
    # The cgroup is entered before its namespace is made: the namespace's root is where we are then.
    steps.append(EnterCgroup())
    if "cgroup" in new:
        steps.append(Unshare(("cgroup",)))
    return steps
