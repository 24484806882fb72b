"""The part of a plan that turns a process inside the container into the container's program."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from windlass.kernel import capabilities
from windlass.kernel.process import pack_scheduler
from windlass.kernel.seccomp import flag_bits
from windlass.runtime.plan import steps as plan
from windlass.runtime.plan.checks import check_id
from windlass.runtime.wire import LaunchFailure

_LIMITS: Final = {
    f"RLIMIT_{name}": number
    for number, name in enumerate(
        (
            "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS", "SIGPENDING",
            "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
        )
    )
}  # fmt: skip
"""getrlimit(2); Linux: include/uapi/asm-generic/resource.h."""
_FIRST_DESCRIPTOR: Final = 3
_MOST_CPUS: Final = 1 << 14


def process_steps(
    config: Mapping[str, Any], *, gate: bool, preserve: int = 0, optional_rlimits: Collection[str] = ()
) -> list[plan.Step]:
    """From a process inside the container to the container's program; the last step is execve(2)."""
    process, linux = config.get("process") or {}, config.get("linux") or {}
    args = tuple(process.get("args") or ())
    if not args:
        raise LaunchFailure("config", "process.args must not be empty")
    cwd = process.get("cwd") or "/"
    if not str(cwd).startswith("/"):
        raise LaunchFailure("config", f"Cwd must be an absolute path: {cwd}")
    env = tuple(process.get("env") or ())
    sets = _capability_sets(process.get("capabilities") or {})
    filter_step = _filter_step(linux.get("seccomp"))
    no_new_privileges = bool(process.get("noNewPrivileges"))

    # Said before the filter, which may forbid to speak.
    steps: list[plan.Step] = [plan.OutliveParent(), plan.NewSessionKeyring("_ses")]
    steps += _scheduling_steps(process, linux)
    if gate:
        # `create` is who should say that there is no such program; what the user may not execute is found out below.
        steps += [plan.EnterDirectory(cwd), plan.FindProgram(args[0], _variable(env, "PATH")), plan.WaitForStart()]
    if (config.get("hooks") or {}).get("startContainer"):
        steps.append(plan.RunHooks("startContainer", by_parent=False))
    if label := process.get("apparmorProfile"):
        steps.append(plan.SetExecLabel("apparmor", label))
    if label := process.get("selinuxLabel"):
        steps.append(plan.SetExecLabel("selinux", label))
    # As root, who may enter what the user may not even see; what root may not enter (NFS) the user tries below.
    steps.append(plan.EnterDirectory(cwd))
    # Limits bind us, too (address space, open files), so they come when little is left to do; raising one is root's.
    steps += [_rlimit_step(entry, optional_rlimits) for entry in process.get("rlimits") or ()]
    if no_new_privileges:
        steps.append(plan.SetNoNewPrivileges())
    elif filter_step is not None:
        # Without no_new_privs only CAP_SYS_ADMIN may install a filter, and that is given up below.
        steps.append(filter_step)
    # The bounding set first: to drop from it takes CAP_SETPCAP, which the user need not have.
    steps.append(plan.DropBounding(sets["bounding"]))
    steps.append(_user_step(process.get("user") or {}))
    steps.append(
        plan.SetCapabilities(
            effective=sets["effective"],
            permitted=sets["permitted"],
            # Inheritable capabilities reach programs by their files' bits behind everybody's back (CVE-2022-29162,
            # CVE-2022-24769): there are none, but for those that have to be there to be ambient.
            inheritable=sets["inheritable"] & sets["ambient"],
            ambient=sets["ambient"],
        )
    )
    steps.append(plan.CheckDirectory(cwd))
    # Before the filter, so that "not found" can be told whatever it forbids; after the user, whose rights count.
    steps.append(plan.FindProgram(args[0], _variable(env, "PATH")))
    steps.append(plan.CloseDescriptors(_FIRST_DESCRIPTOR + preserve))
    if no_new_privileges and filter_step is not None:
        # As late as can be: what the filter refuses is then refused to the program alone.
        steps.append(filter_step)
    steps.append(plan.Execute(args, env))
    return steps


def _scheduling_steps(process: Mapping[str, Any], linux: Mapping[str, Any]) -> list[plan.Step]:
    steps: list[plan.Step] = []
    if personality := linux.get("personality"):
        steps.append(plan.SetPersonality(str(personality.get("domain"))))
    if scheduler := process.get("scheduler"):
        try:
            steps.append(plan.SetScheduler(pack_scheduler(scheduler)))
        except ValueError as error:
            raise LaunchFailure("config", str(error)) from None
    if priority := process.get("ioPriority"):
        steps.append(plan.SetIoPriority(str(priority.get("class")), int(priority.get("priority") or 0)))
    return steps


def affinity_step(process: Mapping[str, Any], moment: str) -> list[plan.Step]:
    """`execCPUAffinity`, of which `moment` is "initial" or "final"."""
    text = (process.get("execCPUAffinity") or {}).get(moment)
    return [plan.SetAffinity(parse_cpus(text))] if text else []


def parse_cpus(text: str) -> frozenset[int]:
    """`0-3,7` → {0, 1, 2, 3, 7}. Raises LaunchFailure."""
    cpus: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,5})(?:-([0-9]{1,5}))?\s*", part)
        if match is None:
            raise LaunchFailure("config", f"invalid list of CPUs: {text!r:.80}")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < _MOST_CPUS:
            raise LaunchFailure("config", f"invalid list of CPUs: {text!r:.80}")
        cpus.update(range(first, last + 1))
    return frozenset(cpus)


def _capability_sets(document: Mapping[str, Any]) -> dict[str, int]:
    try:
        return {
            name: capabilities.parse_caps(document.get(name) or ())
            for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
        }
    except ValueError as error:
        raise LaunchFailure("config", str(error)) from None


def _filter_step(seccomp: Mapping[str, Any] | None) -> plan.LoadSeccomp | None:
    if not seccomp:
        return None
    rules = seccomp.get("syscalls") or ()
    listener = any(rule.get("action") == "SCMP_ACT_NOTIFY" for rule in rules)
    if listener and not seccomp.get("listenerPath"):
        raise LaunchFailure("config", "SCMP_ACT_NOTIFY needs a listenerPath")
    if seccomp.get("listenerPath") and not listener:
        raise LaunchFailure("config", "listenerPath without a rule of action SCMP_ACT_NOTIFY")
    try:
        return plan.LoadSeccomp(flag_bits(seccomp.get("flags") or ()), listener)
    except ValueError as error:
        raise LaunchFailure("config", str(error)) from None


def _rlimit_step(entry: Mapping[str, Any], optional: Collection[str]) -> plan.SetRlimit:
    name = str(entry.get("type"))
    if name not in _LIMITS:
        raise LaunchFailure("config", f"invalid rlimit type: {name}")
    soft, hard = int(entry.get("soft") or 0), int(entry.get("hard") or 0)
    return plan.SetRlimit(name, _LIMITS[name], soft, hard, name in optional)


def _user_step(user: Mapping[str, Any]) -> plan.SetUser:
    umask = user.get("umask")
    if umask is not None and (not isinstance(umask, int) or not 0 <= umask <= 0o777):
        raise LaunchFailure("config", f"umask {umask!r} is not in the range 0-0777")
    return plan.SetUser(
        check_id(user.get("uid") or 0, "uid"),
        check_id(user.get("gid") or 0, "gid"),
        tuple(check_id(group, "additional gid") for group in user.get("additionalGids") or ()),
        umask,
    )


def _variable(env: tuple[str, ...], name: str) -> str:
    """The value that the program will see: of doubled ones, the last."""
    found = ""
    for entry in env:
        key, separator, value = entry.partition("=")
        if separator and key == name:
            found = value
    return found
