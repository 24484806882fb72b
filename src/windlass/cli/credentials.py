"""Registry credentials in docker's config.json: plain, and through credential helpers (docker-credential-*)."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from typing import Any

DOCKER_HUB = "https://index.docker.io/v1/"


class Credentials:
    """The client configuration in a directory (`--config`, $DOCKER_CONFIG, ~/.docker)."""

    def __init__(self, directory: str = "") -> None:
        self.path = os.path.join(
            directory or os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json"
        )
        try:
            with open(self.path, encoding="utf-8") as file:
                self._document: dict[str, Any] = json.load(file)
        except FileNotFoundError:
            self._document = {}
        except ValueError as error:
            raise ValueError(f"loading config file: {self.path}: {error}") from None

    def _helper(self, server: str) -> str:
        helpers: dict[str, str] = self._document.get("credHelpers") or {}
        return helpers.get(server) or str(self._document.get("credsStore") or "")

    def get(self, server: str) -> dict[str, str]:
        """The AuthConfig for a registry; empty where there is none."""
        if helper := self._helper(server):
            found = _ask(helper, "get", server.encode())
            if not found:
                return {}
            answer = json.loads(found)
            if answer["Username"] == "<token>":
                return {"identitytoken": answer["Secret"], "serveraddress": server}
            return {"username": answer["Username"], "password": answer["Secret"], "serveraddress": server}
        entry = (self._document.get("auths") or {}).get(server) or {}
        if token := entry.get("identitytoken"):
            return {"identitytoken": token, "serveraddress": server}
        if not entry.get("auth"):
            return {}
        name, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        return {"username": name, "password": password, "serveraddress": server}

    def put(self, server: str, auth: dict[str, str]) -> str:
        """Keep credentials; returns where. The file is replaced whole, mode 0600."""
        if helper := self._helper(server):
            name, secret = auth.get("username", ""), auth.get("password", "")
            if token := auth.get("identitytoken"):
                name, secret = "<token>", token
            _ask(helper, "store", json.dumps({"ServerURL": server, "Username": name, "Secret": secret}).encode())
            return f"credential helper {helper}"
        text = f"{auth.get('username', '')}:{auth.get('password', '')}"
        entry = {"auth": base64.b64encode(text.encode()).decode()}
        if token := auth.get("identitytoken"):
            entry = {"auth": base64.b64encode(f"{auth.get('username', '')}:".encode()).decode(), "identitytoken": token}
        self._document.setdefault("auths", {})[server] = entry
        self._write()
        return self.path

    def remove(self, server: str) -> bool:
        """Forget credentials; False where there were none."""
        if helper := self._helper(server):
            return _ask(helper, "erase", server.encode()) is not None
        if self._document.get("auths", {}).pop(server, None) is None:
            return False
        self._write()
        return True

    def _write(self) -> None:
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        temporary = f"{self.path}.{os.getpid()}"
        with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            json.dump(self._document, file, indent="\t")
        os.replace(temporary, self.path)


def _ask(helper: str, verb: str, data: bytes) -> bytes | None:
    done = subprocess.run([f"docker-credential-{helper}", verb], input=data, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def server_of(image: str) -> str:
    """The key in config.json for an image's registry."""
    first = image.partition("/")[0]
    if (
        "/" not in image
        or not ("." in first or ":" in first or first == "localhost")
        or first in {"docker.io", "index.docker.io"}
    ):
        return DOCKER_HUB
    return first


def header(auth: dict[str, str]) -> str:
    """X-Registry-Auth."""
    return base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()
