"""A container's life: create, start, stop, restart, health, exec, attach, events, stats, prune."""
