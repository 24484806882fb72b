"""Who this server is among the servers of its cluster: the host's name and a random number that is kept on disk."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

from windlass.cluster.certificates import write_file


def load(data_dir: Path) -> str:
    """The identity, the same at each start. Raises OSError."""
    path = data_dir / "server-id"
    try:
        return f"{socket.gethostname()}_{uuid.UUID(path.read_text().strip())}"
    except (FileNotFoundError, ValueError):
        made = uuid.uuid4()
        write_file(path, f"{made}\n".encode())
        return f"{socket.gethostname()}_{made}"
