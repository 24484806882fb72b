"""What a container engine does, whoever asks: containers and their lives, over images, networks, volumes and runtime.

engine       the whole: `Engine`, one method for each operation (operations/)
creation, lifecycle, removal, restore   a container's way through its states; container, store: what it is, on disk
preparation  a run made ready: spec (pure), mounts, accounts, seccomp, networks, files
attach, execs, health, stats, events    what happens while it runs
"""

from windlass.engine.engine import Engine

__all__ = ["Engine"]
