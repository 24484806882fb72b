"""From an OCI bundle to a process: launcher, monitor, init, exec."""
