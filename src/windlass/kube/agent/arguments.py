"""The flags of `windlass agent`: k3s's, and those of the node that servers have, too."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from windlass.cluster.tokens import BadToken, JoinToken
from windlass.kube.server.arguments import NodeFlags, add_node_flags, node_flags

DEFAULT_DIRECTORY = Path("/var/lib/windlass")

_EPILOG = """examples:
  windlass agent --server https://192.0.2.1:6443 --token-file /root/token
  WINDLASS_URL=https://192.0.2.1:6443 WINDLASS_TOKEN=K10…::abcdef.0123456789abcdef windlass agent

The token is in <data-dir>/token of the server, or `windlass token create` makes one. It is needed once: the node's
certificates, in <data-dir>/agent, renew themselves.
"""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The flags' values. `token` is None where none was given: the node has joined before."""

    server: str
    token: JoinToken | None
    data_dir: Path
    with_node_id: bool
    node: NodeFlags
    log_level: str


def parser() -> argparse.ArgumentParser:
    """The parser."""
    found = argparse.ArgumentParser(
        prog="windlass agent",
        description="Run a node of a cluster.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument_group("cluster").add_argument
    environment = os.environ
    add(
        "--server",
        "-s",
        default=environment.get("WINDLASS_URL", ""),
        metavar="URL",
        help="the server to join [$WINDLASS_URL]",
    )
    add(
        "--token",
        "-t",
        default=environment.get("WINDLASS_TOKEN", ""),
        metavar="TOKEN",
        help="what to join with [$WINDLASS_TOKEN]",
    )
    add(
        "--token-file",
        type=Path,
        default=environment.get("WINDLASS_TOKEN_FILE") or None,
        metavar="FILE",
        help="a file with it [$WINDLASS_TOKEN_FILE]",
    )
    found.add_argument(
        "--data-dir",
        "-d",
        type=Path,
        default=DEFAULT_DIRECTORY,
        metavar="DIR",
        help="certificates, images, volumes of pods (default %(default)s)",
    )
    node = found.add_argument_group("node").add_argument
    add_node_flags(node)
    node("--with-node-id", action="store_true", help="append a random id, kept on disk, to the node's name")
    found.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="(default %(default)s)"
    )
    return found


def parse_arguments(argv: list[str]) -> Arguments:
    """The flags' values; exits with 2 where they are wrong."""
    made = parser()
    found = made.parse_args(argv)
    parts = urlsplit(found.server)
    if parts.scheme != "https" or not parts.hostname:
        made.error("--server is required: https://HOST:PORT")
    text = found.token
    if not text and found.token_file is not None:
        try:
            text = found.token_file.read_text()
        except OSError as error:
            made.error(f"--token-file: {error}")
    try:
        token = JoinToken.parse(text) if text else None
    except BadToken as error:
        made.error(f"--token: {error}")
    data_dir = found.data_dir.absolute()
    return Arguments(
        server=f"https://{parts.netloc}",
        token=token,
        data_dir=data_dir,
        with_node_id=found.with_node_id,
        node=node_flags(found, data_dir, "agent", DEFAULT_DIRECTORY),
        log_level=found.log_level,
    )
