"""Windlass: build, ship, run and orchestrate containers in one Python program.

Start at `ARCHITECTURE.md`. The rooms, from the ground up: `kernel` (what Linux offers), `oci` and `http` (documents and
the wire), `images`, `networks`, `volumes`, `logs`, `runtime` (a bundle becomes a process), `engine` (a container's
life), `api` (Docker's protocol), `daemon` (assembly) and `cli` (a client of the sockets).
"""

__version__ = "0.1.0"
