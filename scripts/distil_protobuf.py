"""Distil the field numbers of Kubernetes' protobuf messages into the table that windlass reads.

    python scripts/distil_protobuf.py API APIMACHINERY APIEXTENSIONS AGGREGATOR > src/windlass/kube/protobuf/fields.txt

Each argument is a git directory (bare or not) of the repository of that name under github.com/kubernetes. Two files of
each package are read: generated.proto (numbers and types) and types.go (JSON names, what is inlined, what is a
pointer). Only facts are taken: one line for each message, `name field …`, where a field is

    number jsonName flags type      joined by ":"; flags: * repeated, % map with string keys, ^ inlined, ? optional
                                    (a zero value is a value), . neither
"""

from __future__ import annotations

import re
import subprocess
import sys

_MESSAGE = re.compile(r"^message (\w+) \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^  (optional|repeated|map<string, ([\w.]+)>)\s*([\w.]*)\s*(\w+) = (\d+);", re.MULTILINE)
_STRUCT = re.compile(r"^type (\w+) struct \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_TAG = re.compile(r"^\s*(?:\w+\s+)?(\S+)\s+`([^`]*protobuf:[^`]*)`", re.MULTILINE)
_SCALARS = {"string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "double", "float"}


def show(repository: str, path: str) -> str:
    """A file of the newest commit."""
    command = ["git", "--git-dir", repository, "show", f"HEAD:{path}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def listing(repository: str) -> list[str]:
    """All paths of the newest commit."""
    command = ["git", "--git-dir", repository, "ls-tree", "-r", "--name-only", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def go_fields(repository: str, folder: str, paths: list[str]) -> dict[tuple[str, int], tuple[str, bool, bool]]:
    """(struct, number) → JSON name, inlined, optional."""
    found: dict[tuple[str, int], tuple[str, bool, bool]] = {}
    for path in paths:
        if path.startswith(f"{folder}/") and path.endswith(".go") and "/" not in path[len(folder) + 1 :]:
            if re.search(r"(generated|_test|register|conversion)", path):
                continue
            for struct in _STRUCT.finditer(show(repository, path)):
                for type, tags in _TAG.findall(struct[2]):
                    number = re.search(r'protobuf:"\w+,(\d+)', tags)
                    name = re.search(r'json:"([^",]*)(,inline)?', tags)
                    if number and name:
                        is_optional = type.startswith("*")
                        found[(struct[1], int(number[1]))] = (name[1], not name[1] or bool(name[2]), is_optional)
    return found


def lines(repository: str) -> list[str]:
    """The table's lines of one repository."""
    result: list[str] = []
    paths = listing(repository)
    for path in paths:
        if not path.endswith("/generated.proto") or re.search(
            r"testapigroup|/testing/|v\d+beta|(?<!scheduling/)v\d+alpha", path
        ):
            continue
        text = show(repository, path)
        package = re.search(r"^package ([\w.]+);", text, re.MULTILINE)[1]  # type: ignore[index]
        names = go_fields(repository, path.rpartition("/")[0], paths)
        for message in _MESSAGE.finditer(text):
            fields = []
            for label, value, type, name, number in _FIELD.findall(message[2]):
                json_name, inline, optional = names.get((message[1], int(number)), (name, False, False))
                kind = value or type
                if kind not in _SCALARS:
                    kind = kind.lstrip(".") if "." in kind else f"{package}.{kind}"
                flag = "%" if value else "*" if label == "repeated" else "^" if inline else "?" if optional else "."
                fields.append(f"{number}:{json_name or name}:{flag}:{kind}")
            result.append(f"{package}.{message[1]} {' '.join(fields)}".rstrip())
    return result


if __name__ == "__main__":
    print("\n".join(sorted({line for repository in sys.argv[1:] for line in lines(repository)})))
