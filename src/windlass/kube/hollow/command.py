"""`windlass simulate`: nodes and pods on a real API without a container behind them, for tests and measurements."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from windlass.errors import WindlassError
from windlass.kube.api import quantity
from windlass.kube.hollow.nodes import HollowNodes, HollowSettings
from windlass.kube.remote.commandline import Connection, add_kubeconfig_flag
from windlass.kube.server.arguments import duration_flag, label_flag, taint_flag
from windlass.kube.server.main import run, until_signal

_MOST: Final = 16_384
_EPILOG: Final = """examples:
  windlass simulate --nodes 1000 --zones 3
  windlass simulate --nodes 20 --cpu 8 --memory 32Gi --start 2s --node-taint example.com/hollow=true:NoSchedule

The nodes are there until the command ends. Annotations of a pod choose its life: windlass.dev/hollow-start and
windlass.dev/hollow-run (durations), windlass.dev/hollow-exit (an exit code).
"""


def parser() -> argparse.ArgumentParser:
    """The parser."""
    found = argparse.ArgumentParser(
        prog="windlass simulate",
        description="Add hollow nodes to a cluster: their pods run in the API alone.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
    add("--nodes", type=_count, default=10, metavar="N", help="how many (default %(default)s)")
    add("--cpu", type=_quantity, default="32", help="each node's (default %(default)s)")
    add("--memory", type=_quantity, default="256Gi", help="each node's (default %(default)s)")
    add("--max-pods", type=_quantity, default="110", metavar="N", help="on each node (default %(default)s)")
    add("--zones", type=int, default=0, metavar="N", help="spread the nodes over so many zones (default none)")
    add("--node-label", action="append", default=[], type=label_flag, metavar="KEY=VALUE")
    add("--node-taint", action="append", default=[], type=taint_flag, metavar="KEY=VALUE:EFFECT")
    add("--prefix", default="hollow-", metavar="TEXT", help="of the nodes' names (default %(default)s)")
    add("--start", type=duration_flag, default=0.0, metavar="TIME", help="until a pod is ready (default 0s)")
    add("--run", type=duration_flag, default=1.0, metavar="TIME", help="how long pods run that end (default 1s)")
    add_kubeconfig_flag(found)
    add("--log-level", choices=("debug", "info", "warning", "error"), default="warning", help="(default %(default)s)")
    return found


def _count(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of nodes: 1 to {_MOST}")
    return int(text)


def _quantity(text: str) -> str:
    try:
        quantity.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def main(argv: list[str]) -> int:
    """Run until a signal ends it; the exit status."""
    found = parser().parse_args(argv)
    settings = HollowSettings(
        count=found.nodes,
        prefix=found.prefix,
        capacity={"cpu": found.cpu, "memory": found.memory, "pods": found.max_pods},
        labels=dict(found.node_label),
        taints=tuple(found.node_taint),
        zones=found.zones,
        start=found.start,
        run=found.run,
    )
    return run(lambda: until_signal(_Simulation(found.kubeconfig, settings)), "simulate", found.log_level)


class _Simulation:
    """The program: a client of the kubeconfig's server, and the nodes."""

    def __init__(self, kubeconfig: Path, settings: HollowSettings) -> None:
        self._kubeconfig = kubeconfig
        self._settings = settings
        self._connection: Connection | None = None
        self._nodes: HollowNodes | None = None

    async def start(self) -> None:
        """Raises WindlassError, OSError."""
        self._connection = connection = Connection(self._kubeconfig, "windlass-simulate")
        await connection.client.cache.start([("", "pods", "")])
        self._nodes = HollowNodes(connection.client, self._settings)
        await self._nodes.start()
        count = self._settings.count
        print(f"{count} hollow node{'s' if count != 1 else ''} at {connection.url}; Ctrl-C removes them", flush=True)  # noqa: T201

    async def stop(self) -> None:
        """Take the nodes away again."""
        try:
            if self._nodes is not None:
                await self._nodes.stop()
                await self._nodes.remove()
        except WindlassError as error:
            print(f"the nodes cannot be removed: {error}", file=sys.stderr)  # noqa: T201
        finally:
            if self._connection is not None:
                await self._connection.client.close()
