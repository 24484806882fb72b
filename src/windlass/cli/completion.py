"""`windlass completion bash|zsh|fish`: commands and flags from the tables that parse them, names from the engine."""

from __future__ import annotations

import sys
from collections.abc import Sequence

BASH = """# windlass completion for bash: source <(windlass completion bash)
_windlass() {
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    mapfile -t COMPREPLY < <(windlass completion -- "${words[@]}" 2>/dev/null)
    [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default
}
complete -F _windlass windlass wl
"""
ZSH = """#compdef windlass wl
# windlass completion for zsh: source <(windlass completion zsh)
_windlass() {
    local -a found
    found=("${(@f)$(windlass completion -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    [[ -n ${found[1]} ]] && compadd -a found || _files
}
compdef _windlass windlass wl
"""
FISH = """# windlass completion for fish: windlass completion fish | source
function __windlass
    windlass completion -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null
end
complete -c windlass -a '(__windlass)'
complete -c wl -a '(__windlass)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
# Which objects a command's arguments name.
_RUNNING = frozenset({"attach", "exec", "kill", "pause", "stop", "top", "unpause", "port", "stats"})
_CONTAINERS = frozenset(
    {"commit", "cp", "diff", "export", "inspect", "logs", "rename", "restart", "rm", "start", "update", "wait"}
)
_IMAGES = frozenset({"create", "history", "push", "rmi", "run", "save", "tag"})


def candidates(words: Sequence[str]) -> list[str]:
    """What may stand in place of the last of `words`."""
    from windlass.cli import main

    *before, last = words or [""]
    names = [word for word in before if not word.startswith("-")]
    if not names:
        found = [*main.TOP_LEVEL, *main.GROUPS, *main.SERVERS]
    elif names[0] in main.GROUPS and len(names) == 1:
        found = [name.split(" ", 1)[1] for name in main.ALL if name.startswith(names[0] + " ")]
    else:
        command = " ".join(names[:2]) if " ".join(names[:2]) in main.ALL else names[0]
        if command not in main.ALL:
            return []
        if last.startswith("-"):
            found = [f"--{flag.name}" for flag in main.load(command).flags] + ["--help"]
        else:
            found = _objects(command)
    return sorted(word for word in found if word.startswith(last))


def _objects(command: str) -> list[str]:
    from windlass.cli.client import ApiError, Client, ClientError, default_host

    group, _, verb = command.rpartition(" ")
    client = Client(default_host())
    try:
        if group == "volume":
            return [volume["Name"] for volume in client.json("GET", "/volumes")["Volumes"] or ()]
        if group == "network":
            return [network["Name"] for network in client.json("GET", "/networks")]
        if group == "image" or verb in _IMAGES:
            return [name for image in client.json("GET", "/images/json") for name in image["RepoTags"] or ()]
        if verb in _RUNNING | _CONTAINERS:
            everything = {"all": verb in _CONTAINERS}
            containers = client.json("GET", "/containers/json", query=everything)
            return [name.lstrip("/") for container in containers for name in container["Names"]]
    except (ApiError, ClientError, OSError):
        return []
    return []


def main(words: Sequence[str]) -> int:
    """Print a script, or what completes a line (after `--`)."""
    if words and words[0] == "--":
        sys.stdout.write("".join(f"{word}\n" for word in candidates(list(words[1:]))))
        return 0
    if len(words) == 1 and words[0] in SCRIPTS:
        sys.stdout.write(SCRIPTS[words[0]])
        return 0
    sys.stderr.write("Usage:  windlass completion bash|zsh|fish\n\nFor example: source <(windlass completion bash)\n")
    return 0 if words[:1] in (["--help"], ["-h"]) else 1
