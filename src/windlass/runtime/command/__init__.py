"""`windlass runtime`: an OCI runtime with runc's command line (runtime-spec, runtime.md).

    parser.py     verbs and options              store.py      the state of containers
    creation.py   create run                     lifecycle.py  start delete
    execute.py    exec                           control.py    kill pause resume update
    inspect.py    state list ps events           documents.py  spec features
    terminal.py   console sockets, foreground    log.py        how errors are told

Unlike the daemon's containers these have no monitor: the caller (conmon, a shim) is the keeper.
"""

from windlass.runtime.command.main import main, program

__all__ = ["main", "program"]
