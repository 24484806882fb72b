"""`windlass token`: make, show and delete what nodes join with.

Source: https://docs.k3s.io/cli/token
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from windlass.cluster.tokens import JoinToken, is_id
from windlass.errors import WindlassError
from windlass.kube.api import times
from windlass.kube.remote.commandline import Connection, add_kubeconfig_flag
from windlass.kube.tokens.secret import DEFAULT_GROUP, NAMESPACE, PREFIX, TYPE, USAGES, BootstrapToken, name_of

_AGENT = "windlass-token"
_DAY = "24h0m0s"


class CommandError(WindlassError):
    """What the user reads."""


def parser() -> argparse.ArgumentParser:
    """The parser."""
    found = argparse.ArgumentParser(prog="windlass token", description="Manage bootstrap tokens: what nodes join with.")
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    add_kubeconfig_flag(shared)
    create = commands.add_parser("create", parents=[shared], help="Create a bootstrap token on the server")
    create.add_argument("token", nargs="?", default="", metavar="TOKEN", help="<id>.<secret> (default: a random one)")
    create.add_argument("--description", default="", metavar="TEXT", help="what the token is for")
    create.add_argument("--groups", action="append", metavar="GROUPS", help=f"extra groups (default {DEFAULT_GROUP})")
    create.add_argument(
        "--ttl", default=_DAY, metavar="TIME", help="how long it is good, 0 for ever (default %(default)s)"
    )
    create.add_argument("--usages", action="append", metavar="NAMES", help=f"(default {','.join(USAGES)})")
    listed = commands.add_parser("list", parents=[shared], help="List bootstrap tokens on the server")
    listed.add_argument("--output", "-o", choices=("text", "json"), default="text")
    delete = commands.add_parser("delete", parents=[shared], help="Delete bootstrap tokens on the server")
    delete.add_argument("tokens", nargs="+", metavar="TOKEN", help="a token, or its first part")
    commands.add_parser("generate", help="Print a token that no server knows yet")
    return found


def main(argv: list[str]) -> int:
    """Run a command; the exit status."""
    found = parser().parse_args(argv)
    if found.command == "generate":
        _say(str(JoinToken.generate()))
        return 0
    import asyncio

    commands: dict[str, Callable[[argparse.Namespace], Coroutine[Any, Any, None]]] = {
        "create": _create,
        "list": _list,
        "delete": _delete,
    }
    try:
        asyncio.run(commands[found.command](found))
    except (WindlassError, OSError) as error:
        print(f"windlass token: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _say(text: str) -> None:
    print(text)  # noqa: T201


async def _create(found: argparse.Namespace) -> None:
    token = JoinToken.parse(found.token) if found.token else JoinToken.generate()
    try:
        seconds = times.parse_duration("0s" if found.ttl == "0" else found.ttl)
    except ValueError as error:
        raise CommandError(str(error)) from None
    usages = _split(found.usages) or USAGES
    if strange := [each for each in usages if each not in USAGES]:
        raise CommandError(f"no usage is called {', '.join(strange)}: {', '.join(USAGES)}")
    made = BootstrapToken(
        token=token,
        description=found.description,
        expires=time.time() + seconds if seconds else None,
        usages=usages,
        groups=_split(found.groups) or (DEFAULT_GROUP,),
    )
    async with Connection(found.kubeconfig, _AGENT) as connection:
        if await connection.client.find("", "secrets", NAMESPACE, name_of(token.id)) is not None:
            raise CommandError(f'a token with id "{token.id}" already exists')
        await connection.client.create("", "secrets", made.to_secret())
        _say(str(token.pinned(connection.authority) if connection.authority else token))


def _split(texts: Sequence[str] | None) -> list[str]:
    return [part.strip() for text in texts or () for part in text.split(",") if part.strip()]


async def _list(found: argparse.Namespace) -> None:
    async with Connection(found.kubeconfig, _AGENT) as connection:
        secrets = [
            each
            for each in await connection.client.list("", "secrets", NAMESPACE)
            if each.get("type") == TYPE and each["metadata"]["name"].startswith(PREFIX)
        ]
    tokens = []
    for secret in secrets:
        try:
            tokens.append(BootstrapToken.from_secret(secret))
        except ValueError as error:
            print(f"{secret['metadata']['name']}: {error}", file=sys.stderr)  # noqa: T201
    if found.output == "json":
        _say(json.dumps([_to_json(each) for each in tokens]))
        return
    rows: list[tuple[str, ...]] = [("TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS")]
    for each in tokens:
        rest, end = "<forever>", "<never>"
        if each.expires is not None:
            rest, end = _short(each.expires - time.time()), times.format_time(each.expires)
        columns = (",".join(each.usages), each.description, ",".join(each.groups))
        rows.append((each.token.id, rest, end, *(text or "<none>" for text in columns)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        _say("   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _to_json(token: BootstrapToken) -> dict[str, Any]:
    found: dict[str, Any] = {"token": token.token.bootstrap}
    if token.description:
        found["description"] = token.description
    if token.expires is not None:
        found["expires"] = times.format_time(token.expires)
    return {**found, "usages": list(token.usages), "groups": list(token.groups)}


def _short(seconds: float) -> str:
    """A duration's largest unit, as kubectl shows ages."""
    if seconds < 0:
        return "<invalid>" if seconds < -1 else "0s"
    for unit, size in (("y", 365 * 86400), ("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


async def _delete(found: argparse.Namespace) -> None:
    async with Connection(found.kubeconfig, _AGENT) as connection:
        for text in found.tokens:
            identifier = text if is_id(text) else JoinToken.parse(text).id
            if await connection.client.find("", "secrets", NAMESPACE, name_of(identifier)) is None:
                raise CommandError(f'there is no bootstrap token "{identifier}"')
            await connection.client.delete("", "secrets", NAMESPACE, name_of(identifier))
            _say(f'bootstrap token "{identifier}" deleted')
