"""Log drivers: how a container's output is stored and read back."""
