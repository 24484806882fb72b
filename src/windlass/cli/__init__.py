"""The `windlass` command: a client of the sockets."""
