"""Static tokens: a CSV file of `token,user,uid,"group1,group2"`, read at the start.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#static-token-file
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from windlass.errors import WindlassError
from windlass.kube.api.authentication.credentials import Found
from windlass.kube.api.identity import User


class BadTokenFile(WindlassError):
    """A line that does not say token, user and uid."""


class TokenFile:
    """Authenticates by the lines of a file."""

    def __init__(self, path: Path) -> None:
        self._users: dict[str, User] = {}
        with path.open(newline="") as file:
            for number, row in enumerate(csv.reader(file), 1):
                fields = [field.strip() for field in row]
                if not any(fields) or fields[0].startswith("#"):
                    continue
                if len(fields) < 3 or not fields[0] or not fields[1]:
                    raise BadTokenFile(f"{path}, line {number}: token, user name and uid are needed")
                groups = tuple(group.strip() for group in ",".join(fields[3:4]).split(",") if group.strip())
                self._users[fields[0]] = User(fields[1], fields[2], groups)

    def authenticate_token(self, token: str, _audiences: Sequence[str], /) -> Found | None:
        """The user of the line with this token."""
        user = self._users.get(token)
        return Found(user) if user is not None else None
