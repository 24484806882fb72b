"""One small process beside each container: its keeper.

    launcher ──fork──> monitor ──clone──> the container's init
                          │  stdio or pty master ──> log writer, attachers
                          │  monitor.sock, control connection <── daemon (any, also one that started later)
                          └  reaps, records the end in exit.json, removes the cgroup, exits

    process.py   from launch to exit record: the story in order        loop.py      epoll and timers streams.py
    output to log and attachers, input to stdin           attacher.py  one who looks on, and its back-pressure
    service.py   requests, answers, events                             runtimes.py  our own runtime or another's, by
    one face execs.py     further processes in the container

A monitor is forked from the warm launcher and shares its pages; what it imports was imported before the fork. It has
one thread, no event-loop library, and does nothing while the container is silent.
"""
