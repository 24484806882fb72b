"""`windlass`: find the command in a table, import its module, run it, and turn errors into messages and exit codes.

Exit codes are docker's: 125 for a wrong flag or an engine that refuses `run`, 126 and 127 for a command that cannot be
executed or is not there, 1 for other errors, and for `run` and `exec` the container's own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from windlass.cli.client import Client
    from windlass.cli.flags import Command

# Command line -> (module below windlass.cli.commands, summary). A second word makes a group.
COMMON = {
    "run": ("run", "Create and run a new container from an image"),
    "exec": ("exec", "Execute a command in a running container"),
    "ps": ("ps", "List containers"),
    "pull": ("images", "Download an image from a registry"),
    "push": ("images", "Upload an image to a registry"),
    "images": ("images", "List images"),
    "login": ("login", "Authenticate to a registry"),
    "logout": ("login", "Log out from a registry"),
    "version": ("system", "Show the version of client and engine"),
    "info": ("system", "Display system-wide information"),
}
CONTAINERS = {
    "attach": ("attach", "Attach local standard input, output, and error streams to a running container"),
    "commit": ("filesystem", "Create a new image from a container's changes"),
    "cp": ("filesystem", "Copy files/folders between a container and the local filesystem"),
    "create": ("run", "Create a new container"),
    "diff": ("filesystem", "Inspect changes to files or directories on a container's filesystem"),
    "export": ("filesystem", "Export a container's filesystem as a tar archive"),
    "kill": ("lifecycle", "Kill one or more running containers"),
    "logs": ("logs", "Fetch the logs of a container"),
    "pause": ("lifecycle", "Pause all processes within one or more containers"),
    "port": ("lifecycle", "List port mappings or a specific mapping for the container"),
    "rename": ("lifecycle", "Rename a container"),
    "restart": ("lifecycle", "Restart one or more containers"),
    "rm": ("lifecycle", "Remove one or more containers"),
    "start": ("attach", "Start one or more stopped containers"),
    "stats": ("stats", "Display a live stream of container(s) resource usage statistics"),
    "stop": ("lifecycle", "Stop one or more running containers"),
    "top": ("lifecycle", "Display the running processes of a container"),
    "unpause": ("lifecycle", "Unpause all processes within one or more containers"),
    "update": ("update", "Update configuration of one or more containers"),
    "wait": ("lifecycle", "Block until one or more containers stop, then print their exit codes"),
}
IMAGES = {
    "history": ("images", "Show the history of an image"),
    "import": ("archives", "Import the contents from a tarball to create a filesystem image"),
    "load": ("archives", "Load an image from a tar archive or STDIN"),
    "rmi": ("images", "Remove one or more images"),
    "save": ("archives", "Save one or more images to a tar archive (streamed to STDOUT by default)"),
    "search": ("images", "Search a registry for images"),
    "tag": ("images", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
}
SYSTEM = {
    "events": ("system", "Get real time events from the engine"),
    "inspect": ("inspect", "Return low-level information on windlass objects"),
}
GROUPS = {
    "container": "Manage containers",
    "image": "Manage images",
    "network": "Manage networks",
    "system": "Manage the engine",
    "volume": "Manage volumes",
}
GROUPED = {
    "container ls": ("ps", "List containers"),
    "container inspect": ("inspect", "Display detailed information on one or more containers"),
    "container prune": ("prune", "Remove all stopped containers"),
    "image ls": ("images", "List images"),
    "image rm": ("images", "Remove one or more images"),
    "image inspect": ("inspect", "Display detailed information on one or more images"),
    "image prune": ("prune", "Remove unused images"),
    "image bootstrap": ("archives", "Make a small base image on a machine without a registry"),
    "network ls": ("network", "List networks"),
    "network inspect": ("inspect", "Display detailed information on one or more networks"),
    "network create": ("network", "Create a network"),
    "network rm": ("network", "Remove one or more networks"),
    "network connect": ("network", "Connect a container to a network"),
    "network disconnect": ("network", "Disconnect a container from a network"),
    "network prune": ("prune", "Remove all unused networks"),
    "system df": ("df", "Show disk usage"),
    "system events": ("system", "Get real time events from the engine"),
    "system info": ("system", "Display system-wide information"),
    "system prune": ("prune", "Remove unused data"),
    "volume create": ("volume", "Create a volume"),
    "volume inspect": ("inspect", "Display detailed information on one or more volumes"),
    "volume ls": ("volume", "List volumes"),
    "volume prune": ("prune", "Remove unused local volumes"),
    "volume rm": ("volume", "Remove one or more volumes"),
}
SERVERS = {
    "daemon": "Start the engine",
    "server": "Run a Kubernetes API server",
    "agent": "Run a node of a Kubernetes cluster",
    "token": "Manage the tokens by which nodes join",
    "simulate": "Add hollow nodes to a Kubernetes cluster",
    "runtime": "An OCI runtime with runc's command line",
    "completion": "Print a completion script for bash, zsh or fish",
}
ALIASES = {
    "container list": "container ls",
    "container ps": "container ls",
    "image list": "image ls",
    "image remove": "image rm",
}
ALIASES |= {
    "network list": "network ls",
    "network remove": "network rm",
    "volume list": "volume ls",
    "volume remove": "volume rm",
}
ALIASES |= {"container remove": "container rm"}

TOP_LEVEL = COMMON | CONTAINERS | IMAGES | SYSTEM
ALL = (
    TOP_LEVEL
    | GROUPED
    | {
        f"container {name}": entry
        for name, entry in {**CONTAINERS, "run": COMMON["run"], "exec": COMMON["exec"]}.items()
    }
    | {f"image {name}": entry for name, entry in {**IMAGES, "pull": COMMON["pull"], "push": COMMON["push"]}.items()}
)
GLOBAL_HELP = """Global Options:
      --config string      Location of client config files (default "~/.docker")
  -D, --debug              Show a traceback where a command fails
  -H, --host string        Engine socket to connect to (default $WINDLASS_HOST, $DOCKER_HOST,
                           unix:///run/windlass/windlass.sock)
      --tls                Use TLS; implied by --tlsverify
      --tlscacert string   Trust certs signed only by this CA
      --tlscert string     Path to TLS certificate file
      --tlskey string      Path to TLS key file
      --tlsverify          Use TLS and verify the remote
  -v, --version            Print version information and quit
"""


def _section(title: str, entries: dict[str, str]) -> str:
    width = max(len(name) for name in entries) + 3
    return f"{title}:\n" + "".join(f"  {name.ljust(width)}{text}\n" for name, text in sorted(entries.items()))


def _summaries(table: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {name: text for name, (_, text) in table.items()}


def help_text() -> str:
    """The text of `windlass --help`."""
    return (
        "Usage:  windlass [OPTIONS] COMMAND\n\nBuild, ship, run and orchestrate containers\n\n"
        + "\n".join(
            [
                _section("Common Commands", _summaries(COMMON)),
                _section("Management Commands", GROUPS),
                _section("Commands", _summaries(CONTAINERS | IMAGES | SYSTEM)),
                _section("Servers and tools", SERVERS),
                GLOBAL_HELP,
            ]
        )
        + "\nRun 'windlass COMMAND --help' for more information on a command.\n"
    )


def group_help(group: str) -> str:
    """The text of `windlass container --help` and the like."""
    entries = {name.split(" ", 1)[1]: text for name, (_, text) in ALL.items() if name.startswith(group + " ")}
    return (
        f"Usage:  windlass {group} COMMAND\n\n{GROUPS[group]}\n\n"
        + _section("Commands", entries)
        + f"\nRun 'windlass {group} COMMAND --help' for more information on a command.\n"
    )


_VALUED = {"-H": "host", "--host": "host", "--config": "config", "--tlscacert": "tlscacert"}
_VALUED |= {"--tlscert": "tlscert", "--tlskey": "tlskey"}
_SWITCHES = {"-D": "debug", "--debug": "debug", "--tls": "tls", "--tlsverify": "tlsverify"}


class Globals:
    """What stands before the command."""

    def __init__(self) -> None:
        self.host = ""
        self.config = ""
        self.debug = False
        self.tls = False
        self.tlsverify = bool(os.environ.get("DOCKER_TLS_VERIFY"))
        self.tlscacert = self.tlscert = self.tlskey = ""

    def take(self, words: list[str]) -> list[str]:
        """Take the flags before the command from a line; returns the rest. Raises UsageError."""
        from windlass.cli.flags import UsageError

        while words and words[0].startswith("-"):
            word, equals, text = words[0].partition("=")
            if word in _VALUED:
                if not equals:
                    if len(words) < 2:
                        raise UsageError(f"flag needs an argument: {word}")
                    text = words.pop(1)
                setattr(self, _VALUED[word], text)
            elif word in _SWITCHES:
                setattr(self, _SWITCHES[word], text != "false")
            else:
                break
            words.pop(0)
        return words

    def connect(self) -> Client:
        """A client of the engine that these flags and the environment name."""
        from windlass.cli.client import Client, TlsOptions, default_host

        host = self.host or default_host()
        if "://" not in host:
            host = f"tcp://{host}" if ":" in host else f"unix://{host}"
        if not (self.tls or self.tlsverify):
            return Client(host)
        directory = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser(self.config or "~/.docker")

        def file(given: str, name: str) -> str | None:
            path = given or os.path.join(directory, name)
            return path if os.path.exists(path) else None

        return Client(
            host,
            TlsOptions(
                ca=file(self.tlscacert, "ca.pem"),
                certificate=file(self.tlscert, "cert.pem"),
                key=file(self.tlskey, "key.pem"),
                verify=self.tlsverify,
            ),
        )


def _resolve(words: list[str]) -> tuple[str, list[str]]:
    """The command's name in the table, and its own words. Raises UsageError for one that is not there."""
    from windlass.cli.flags import UsageError

    pair = " ".join(words[:2])
    pair = ALIASES.get(pair, pair)
    if len(words) > 1 and pair in ALL:
        return pair, words[2:]
    if words[0] in TOP_LEVEL:
        return words[0], words[1:]
    import difflib

    group = words[0] in GROUPS
    names = (
        [name.split(" ", 1)[1] for name in ALL if name.startswith(words[0] + " ")]
        if group
        else [*TOP_LEVEL, *GROUPS, *SERVERS]
    )
    wrong = words[1] if group else words[0]
    close = difflib.get_close_matches(wrong, names, n=3)
    hint = f"\n\nDid you mean: {', '.join(close)}?" if close else ""
    where = f"windlass {words[0]}" if group else "windlass"
    raise UsageError(f"unknown command: {where} {wrong}{hint}\n\nRun '{where} --help' for more information", code=1)


def load(name: str) -> Command:
    """The declaration of a command."""
    import importlib

    module = importlib.import_module(f"windlass.cli.commands.{ALL[name][0]}")
    if name.endswith((" inspect", " prune")):
        of_group: Command = module.command_for(name.split(" ")[0])
        return of_group._replace(name=name)
    command: Command = module.COMMANDS[name.split(" ", 1)[1] if " " in name and name.split(" ")[0] in GROUPS else name]
    return command._replace(name=name)


def _server(name: str, words: list[str]) -> int:
    """Commands that are programs of their own."""
    if name == "daemon":
        from windlass.daemon import main as daemon

        return daemon.main(words)
    if name == "server":
        from windlass.kube.server import main as server

        return server.main(words)
    if name == "agent":
        from windlass.kube.agent import main as agent

        return agent.main(words)
    if name == "token":
        from windlass.kube.tokens import command as token

        return token.main(words)
    if name == "simulate":
        from windlass.kube.hollow import command as simulate

        return simulate.main(words)
    if name == "runtime":
        from windlass.runtime import command

        return command.program(words)
    from windlass.cli import completion

    return completion.main(words)


def _dispatch(settings: Globals, words: list[str]) -> int:
    from windlass.cli.flags import UsageError, parse

    if words and words[0] in SERVERS:
        return _server(words[0], words[1:])
    if not words or words[0] in {"--help", "-h", "help"}:
        if len(words) > 1:
            return _dispatch(settings, [*words[1:], "--help"])
        sys.stdout.write(help_text())
        return 0
    if words[0] in {"-v", "--version"}:
        from windlass import __version__

        print(f"windlass version {__version__}")
        return 0
    if words[0].startswith("-"):
        raise UsageError(f"unknown flag: {words[0]}\n\nRun 'windlass --help' for more information")
    if words[0] in GROUPS and (len(words) < 2 or words[1] in {"--help", "-h"}):
        sys.stdout.write(group_help(words[0]))
        return 0
    name, rest = _resolve(words)
    command = load(name)
    return command.run(parse(command, rest, settings.connect, settings.config))


def main(argv: Sequence[str] | None = None) -> int:
    """The console script: runs the command line and returns its exit code."""
    settings = Globals()
    try:
        words = settings.take(list(sys.argv[1:] if argv is None else argv))
        code = _dispatch(settings, words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except Exception as error:
        if settings.debug:
            raise
        return _report(error)
    return code


def _report(error: Exception) -> int:
    """The text and the exit code for an error that a command let through."""
    from windlass.cli.client import ApiError, ClientError
    from windlass.cli.flags import HelpWanted, UsageError, help_text, usage_line
    from windlass.cli.templates import TemplateError

    if isinstance(error, HelpWanted):
        sys.stdout.write(help_text(error.command))
        return 0
    if isinstance(error, UsageError):
        text = f"windlass: {error}"
        if command := error.command:
            text = f"{error}\n\n{usage_line(command)}\n\nRun 'windlass {command.name} --help' for more information"
        print(text, file=sys.stderr)
        return error.code
    if isinstance(error, ApiError):
        print(f"Error response from daemon: {error}", file=sys.stderr)
    elif isinstance(error, ClientError | TemplateError | ValueError):
        print(error, file=sys.stderr)
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        print(f"windlass: {where}{error.strerror or error}", file=sys.stderr)
    else:
        raise error
    return 1


if __name__ == "__main__":
    sys.exit(main())
