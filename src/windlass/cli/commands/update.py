"""`update`."""

from __future__ import annotations

from windlass.cli.client import segment
from windlass.cli.commands.create_body import restart_policy
from windlass.cli.commands.lifecycle import for_each
from windlass.cli.flags import Command, Flag, Options

# Flag -> member of the body.
MEMBERS = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "pids-limit": "PidsLimit",
}


def run_update(options: Options) -> int:
    """`windlass update`."""
    body = {
        member: getattr(options, flag.replace("-", "_"))
        for flag, member in MEMBERS.items()
        if options.given(flag.replace("-", "_"))
    }
    if options.given("cpus"):
        body["NanoCpus"] = round(options.cpus * 10**9)
    if options.given("restart"):
        body["RestartPolicy"] = restart_policy(options.restart)
    if not body:
        raise ValueError("you must provide one or more flags when using this command")

    def action(name: str) -> str:
        answer = options.client.json("POST", f"/containers/{segment(name)}/update", body=body)
        for warning in answer.get("Warnings") or ():
            print(warning)
        return name

    return for_each(options, options.args, action)


COMMANDS = {
    "update": Command(
        "update",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Update configuration of one or more containers",
        run_update,
        (
            Flag("blkio-weight", "int", "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)"),
            Flag("cpu-period", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
            Flag("cpu-quota", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
            Flag("cpu-rt-period", "int", "Limit the CPU real-time period in microseconds"),
            Flag("cpu-rt-runtime", "int", "Limit the CPU real-time runtime in microseconds"),
            Flag("cpu-shares", "int", "CPU shares (relative weight)", "c"),
            Flag("cpus", "decimal", "Number of CPUs"),
            Flag("cpuset-cpus", "string", "CPUs in which to allow execution (0-3, 0,1)"),
            Flag("cpuset-mems", "string", "MEMs in which to allow execution (0-3, 0,1)"),
            Flag("memory", "bytes", "Memory limit", "m"),
            Flag("memory-reservation", "bytes", "Memory soft limit"),
            Flag("memory-swap", "bytes", "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
            Flag("pids-limit", "int", "Tune container pids limit (set -1 for unlimited)"),
            Flag("restart", "string", "Restart policy to apply when a container exits"),
        ),
        1,
        None,
        aliases="windlass container update, windlass update",
        examples="windlass update -m 128m --memory-swap 256m web",
    )
}
