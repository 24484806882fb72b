"""`login`, `logout`."""

from __future__ import annotations

import sys

from windlass.cli.credentials import DOCKER_HUB, Credentials
from windlass.cli.flags import Command, Flag, Options


def run_login(options: Options) -> int:
    """`windlass login`."""
    server = options.args[0] if options.args else DOCKER_HUB
    name, password = options.username, options.password
    if options.password_stdin:
        if password:
            raise ValueError("--password and --password-stdin are mutually exclusive")
        if not name:
            raise ValueError("Must provide --username with --password-stdin")
        password = sys.stdin.read().rstrip("\r\n")
    elif password:
        print("WARNING! Using --password via the CLI is insecure. Use --password-stdin.", file=sys.stderr)
    if not name or not password:
        if not sys.stdin.isatty():
            raise ValueError("Cannot perform an interactive login from a non TTY device")
        import getpass

        name = name or input("Username: ").strip()
        password = password or getpass.getpass("Password: ")
    auth = {"username": name, "password": password, "serveraddress": server}
    answer = options.client.json("POST", "/auth", body=auth) or {}
    if token := answer.get("IdentityToken"):
        auth = {"username": name, "identitytoken": token, "serveraddress": server}
    place = Credentials(options.config).put(server, auth)
    print(f"Credentials are kept in {place}", file=sys.stderr)
    print(answer.get("Status") or "Login Succeeded")
    return 0


def run_logout(options: Options) -> int:
    """`windlass logout`."""
    server = options.args[0] if options.args else DOCKER_HUB
    if Credentials(options.config).remove(server):
        print(f"Removing login credentials for {server}")
    else:
        print(f"Not logged in to {server}")
    return 0


COMMANDS = {
    "login": Command(
        "login",
        "[OPTIONS] [SERVER]",
        "Authenticate to a registry",
        run_login,
        (
            Flag("password", "string", "Password", "p"),
            Flag("password-stdin", "bool", "Take the password from stdin"),
            Flag("username", "string", "Username", "u"),
        ),
        0,
        1,
        examples="pass show registry | windlass login -u ada --password-stdin registry.example.org",
    ),
    "logout": Command("logout", "[SERVER]", "Log out from a registry", run_logout, (), 0, 1),
}
