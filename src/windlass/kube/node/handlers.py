"""What hooks and probes do: an HTTP request, a TCP connection, a command.

Source: https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple

Object = dict[str, Any]

_USER_AGENT = "kube-probe/1.37"
_LONGEST_BODY = 10 << 10


class Answer(NamedTuple):
    """How it went, and what was seen."""

    ok: bool
    message: str


def port_of(container: Object, port: Any) -> int:
    """A port by number or by name. Raises ValueError."""
    if isinstance(port, int):
        number = port
    elif str(port).isdigit():
        number = int(port)
    else:
        number = next((each["containerPort"] for each in container.get("ports") or () if each.get("name") == port), 0)
        if not number:
            raise ValueError(f"couldn't find port: {port} in container {container['name']}")
    if not 0 < number < 65536:
        raise ValueError(f"invalid port number: {number}")
    return number


async def http(container: Object, action: Object, address: str) -> Answer:
    """An HTTP GET: 200 to 399 is well. Certificates are not looked at; redirects to the same host are followed once."""
    try:
        port = port_of(container, action["port"])
    except ValueError as error:
        return Answer(False, str(error))
    scheme = str(action.get("scheme") or "HTTP").lower()
    host = action.get("host") or address
    path = action.get("path") or "/"
    headers = {each["name"]: each.get("value") or "" for each in action.get("httpHeaders") or ()}
    shown = f"[{host}]" if ":" in host else host
    url = f"{scheme}://{shown}:{port}{path if path.startswith('/') else '/' + path}"
    try:
        status, body = await _request(host, port, path, headers, tls=scheme == "https")
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        return Answer(False, f'Get "{url}": {_words(error, host, port)}')
    if 200 <= status < 400:
        return Answer(True, body)
    return Answer(False, f"HTTP probe failed with statuscode: {status}")


async def _request(host: str, port: int, path: str, headers: Mapping[str, str], *, tls: bool) -> tuple[int, str]:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        own = {"Host": f"{host}:{port}", "User-Agent": _USER_AGENT, "Accept": "*/*", "Connection": "close", **headers}
        lines = [f"GET {path if path.startswith('/') else '/' + path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in own.items()]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header or path contains a line break")
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        first = await reader.readline()
        words = first.split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            raise ValueError("malformed HTTP response")
        body = await reader.read(_LONGEST_BODY)
        return int(words[1]), body.partition(b"\r\n\r\n")[2].decode(errors="replace")
    finally:
        writer.close()


async def tcp(container: Object, action: Object, address: str) -> Answer:
    """A TCP connection that opens is well."""
    try:
        port = port_of(container, action["port"])
    except ValueError as error:
        return Answer(False, str(error))
    host = action.get("host") or address
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return Answer(False, f"dial tcp {host}:{port}: {_words(error, host, port)}")
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return Answer(True, "")


def _words(error: Exception, host: str, port: int) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"dial tcp {host}:{port}: connect: connection refused"
    if isinstance(error, EOFError | ConnectionResetError):
        return "EOF"
    return str(error)
