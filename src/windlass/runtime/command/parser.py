"""The command line: runc's verbs and options, so that whoever drives runc can drive this."""

from __future__ import annotations

import argparse
from typing import NoReturn

from windlass import __version__

DEFAULT_ROOT = "/run/windlass-runtime"
SPEC_VERSION = "1.2.0"


class UsageError(Exception):
    """The command line is wrong; the text says how."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}")


def build_parser() -> argparse.ArgumentParser:
    """All verbs and their options. Parsing raises `UsageError`."""
    parser = _Parser(prog="windlass runtime", description="Run containers that an OCI bundle describes.")
    parser.add_argument("--debug", action="store_true", help="write more to the log")
    parser.add_argument("--log", default="", metavar="FILE", help="write errors to this file (and to stderr)")
    parser.add_argument("--log-format", default="text", choices=("text", "json"), help="form of the log")
    parser.add_argument("--root", default=DEFAULT_ROOT, metavar="DIR", help="where the state of containers is kept")
    parser.add_argument("--criu", default="", help=argparse.SUPPRESS)
    parser.add_argument("--systemd-cgroup", action="store_true", help="not supported: cgroups are made by this program")
    parser.add_argument("--rootless", default="auto", help=argparse.SUPPRESS)
    parser.add_argument(
        "-v", "--version", action="version", version=f"windlass runtime version {__version__}\nspec: {SPEC_VERSION}"
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)

    def verb(name: str, summary: str, *, container: bool = True) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if container:
            added.add_argument("container", metavar="ID")
        return added

    for name, summary in (
        ("create", "create a container, its process waiting for start"),
        ("run", "create a container and run its process"),
    ):
        _creation_options(verb(name, summary), run=name == "run")
    verb("start", "run the process of a created container")
    verb("state", "show the state of a container")
    _kill_options(verb("kill", "send a signal to a container's init"))
    delete = verb("delete", "remove what a stopped container holds")
    delete.add_argument("-f", "--force", action="store_true", help="kill it first if it runs")
    _exec_options(verb("exec", "run another process in a container"))
    listing = verb("list", "list the containers", container=False)
    listing.add_argument("-f", "--format", default="table", choices=("table", "json"))
    listing.add_argument("-q", "--quiet", action="store_true", help="only ids")
    processes = verb("ps", "list the processes in a container")
    processes.add_argument("-f", "--format", default="table", choices=("table", "json"))
    processes.add_argument("options", nargs=argparse.REMAINDER, metavar="PS-OPTIONS", help="for ps(1)")
    verb("pause", "stop all processes of a container")
    verb("resume", "let a paused container go on")
    _update_options(verb("update", "change a container's limits"))
    events = verb("events", "show figures and out-of-memory events")
    events.add_argument("--interval", default="5s", help="between two figures")
    events.add_argument("--stats", action="store_true", help="show the figures once")
    spec = verb("spec", "write an example config.json", container=False)
    spec.add_argument("-b", "--bundle", default="", metavar="DIR")
    spec.add_argument("--rootless", action="store_true", help="for a user who is not root")
    verb("features", "show what this runtime can do", container=False)
    return parser


def _creation_options(parser: argparse.ArgumentParser, *, run: bool) -> None:
    parser.add_argument("-b", "--bundle", default="", metavar="DIR", help="the bundle; default: here")
    parser.add_argument("--console-socket", default="", metavar="PATH", help="socket that gets the terminal's master")
    parser.add_argument("--pid-file", default="", metavar="FILE", help="write the pid of the process there")
    parser.add_argument("--no-pivot", action="store_true", help="chroot instead of pivot_root (root on a RAM disk)")
    parser.add_argument("--no-new-keyring", action="store_true", help="keep the caller's session keyring")
    parser.add_argument("--preserve-fds", type=int, default=0, metavar="N", help="pass N more descriptors, from 3 on")
    if run:
        parser.add_argument("-d", "--detach", action="store_true", help="do not wait for the process")
        parser.add_argument("--keep", action="store_true", help="do not delete the container after it has ended")
        parser.add_argument("--no-subreaper", action="store_true", help="do not adopt orphaned processes")


def _kill_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="to all its processes")
    parser.add_argument("signal", nargs="?", default="SIGTERM", metavar="SIGNAL")


def _exec_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--console-socket", default="", metavar="PATH", help="socket that gets the terminal's master")
    parser.add_argument("--cwd", default="", help="working directory in the container")
    parser.add_argument("-e", "--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("-t", "--tty", action="store_true", help="on a terminal of its own")
    parser.add_argument("-u", "--user", default="", metavar="UID[:GID]")
    parser.add_argument("-g", "--additional-gids", type=int, action="append", default=[], metavar="GID")
    parser.add_argument("-p", "--process", default="", metavar="FILE", help="a process document instead of a command")
    parser.add_argument("-d", "--detach", action="store_true", help="do not wait for the process")
    parser.add_argument("--pid-file", default="", metavar="FILE")
    parser.add_argument("--process-label", default="", metavar="LABEL", help="SELinux label")
    parser.add_argument("--apparmor", default="", metavar="PROFILE")
    parser.add_argument("--no-new-privs", action="store_true")
    parser.add_argument("-c", "--cap", action="append", default=[], metavar="CAP", help="add a capability")
    parser.add_argument("--preserve-fds", type=int, default=0, metavar="N")
    parser.add_argument("--cgroup", action="append", default=[], help="sub-cgroup to run it in")
    parser.add_argument("--ignore-paused", action="store_true", help="even if the container is paused")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")


def _update_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-r", "--resources", default="", metavar="FILE", help="JSON with the new limits, - for stdin")
    for option in ("blkio-weight", "cpu-period", "cpu-quota", "cpu-share", "cpu-rt-period", "cpu-rt-runtime"):
        parser.add_argument("--" + option, type=int, metavar="N")
    parser.add_argument("--cpu-idle", type=int, metavar="N")
    parser.add_argument("--cpuset-cpus", metavar="LIST")
    parser.add_argument("--cpuset-mems", metavar="LIST")
    for option in ("memory", "memory-reservation", "memory-swap", "kernel-memory", "kernel-memory-tcp"):
        parser.add_argument("--" + option, metavar="BYTES")
    parser.add_argument("--pids-limit", type=int, metavar="N")
    parser.add_argument("--l3-cache-schema", default="", help=argparse.SUPPRESS)
    parser.add_argument("--mem-bw-schema", default="", help=argparse.SUPPRESS)
