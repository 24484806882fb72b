"""What commands share that speak to a server by a kubeconfig."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from windlass.kube.remote.client import RemoteClient

_DEFAULT: Final = Path("/var/lib/windlass/server/cred/admin.kubeconfig")


def add_kubeconfig_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--kubeconfig`."""
    parser.add_argument(
        "--kubeconfig",
        type=Path,
        default=Path(os.environ.get("KUBECONFIG") or _DEFAULT),
        metavar="FILE",
        help=f"of an administrator [$KUBECONFIG] (default {_DEFAULT})",
    )


class Connection:
    """A client of a kubeconfig's server, its address, and the authority that signed its certificate."""

    def __init__(self, kubeconfig: Path, agent: str) -> None:
        """Raises WindlassError, OSError."""
        # A usage error need not wait for these.
        from windlass.kube.api.kubeconfigfile import KubeconfigServer
        from windlass.kube.remote.client import RemoteClient
        from windlass.kube.remote.transport import Transport

        server = KubeconfigServer(kubeconfig)
        self.url = server.url
        self.authority = server.authority
        self.client: RemoteClient = RemoteClient(Transport(server.url, server, agent=agent))

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
