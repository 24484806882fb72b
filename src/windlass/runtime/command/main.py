"""The entry: parse, run the verb, tell errors."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import windlass
from windlass.kernel.process import open_read_only_executable, runs_from_read_only
from windlass.runtime.command.log import Log
from windlass.runtime.command.parser import UsageError, build_parser
from windlass.runtime.command.store import CommandError, Store
from windlass.runtime.wire import LaunchFailure

_USAGE = 1


def main(argv: Sequence[str]) -> int:
    """Run `windlass runtime` with these arguments (without the program's name) -> its exit code."""
    parser = build_parser()
    try:
        options = parser.parse_args(list(argv))
    except UsageError as error:
        print(f"{error}\nSee 'windlass runtime --help'.", file=sys.stderr)  # noqa: T201
        return _USAGE
    log = Log(options.log, options.log_format, debug=options.debug)
    try:
        if options.systemd_cgroup:
            raise CommandError("--systemd-cgroup is not supported: this runtime makes cgroups itself")
        return _verb(options.verb)(Store(Path(options.root)), options, log)
    except CommandError as error:
        log.error(str(error))
    except LaunchFailure as failure:
        log.error(failure.message)
    except OSError as error:
        log.error(str(error))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        log.error(f"malformed configuration: {type(error).__name__}: {error}")
    return _USAGE


def _verb(name: str) -> Callable[[Store, argparse.Namespace, Log], int]:
    """The function of a verb; each imports only what it needs."""
    if name in ("create", "run"):
        from windlass.runtime.command import creation

        return creation.create if name == "create" else creation.run
    if name in ("start", "delete"):
        from windlass.runtime.command import lifecycle

        return lifecycle.start if name == "start" else lifecycle.delete
    if name == "exec":
        from windlass.runtime.command.execute import execute

        return execute
    from windlass.runtime.command import control, documents, inspect

    simple = {
        "kill": control.kill,
        "pause": control.pause,
        "resume": control.resume,
        "update": control.update,
        "state": inspect.state,
        "list": inspect.list_containers,
        "ps": inspect.processes,
        "events": inspect.events,
        "spec": documents.spec,
        "features": documents.features,
    }[name]
    return lambda store, options, log: simple(store, options)


def program(argv: Sequence[str]) -> int:
    """`main` for a program of its own: verbs whose processes enter a container run from a read-only mount.

    Then a container that gets hold of /proc/PID/exe of ours cannot write over the interpreter (CVE-2019-5736). For that
    the interpreter is executed again, isolated and without site-packages; does not return then.
    """
    enters = any(word in ("create", "run", "exec") for word in argv)
    if enters and os.geteuid() == 0 and not runs_from_read_only():
        package = str(Path(windlass.__file__).resolve().parents[1])
        code = f"import sys; sys.path.append({package!r}); from windlass.runtime.command import main; "
        code += "sys.exit(main(sys.argv[1:]))"
        interpreter = open_read_only_executable(sys.executable)
        sys.stdout.flush()
        os.execve(  # noqa: S606
            f"/proc/self/fd/{interpreter}", [sys.executable, "-I", "-S", "-c", code, *argv], os.environ
        )
    return main(argv)
