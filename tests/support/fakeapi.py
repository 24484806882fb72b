"""An engine that records what it is asked and answers what a test says, and a client of the API over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson

from support.rawhttp import Answer, read_answer, request
from windlass.errors import NotFound


class FakeContainer:
    def __init__(self, name: str, *, terminal: bool = False) -> None:
        self.id = name * 8
        self.name = name
        self.terminal = terminal


class FakeStream:
    """An attached stream that gives `output` and keeps its input."""

    def __init__(self, output: list[bytes], *, terminal: bool = False) -> None:
        self.terminal = terminal
        self.output = output
        self.input = b""
        self.input_ended = asyncio.Event()
        self.closed = False
        self.wait_for_input = False

    async def read(self) -> bytes:
        if self.wait_for_input:
            await self.input_ended.wait()
        return self.output.pop(0) if self.output else b""

    async def write(self, data: bytes) -> None:
        self.input += data

    def write_eof(self) -> None:
        self.input_ended.set()

    async def close(self) -> None:
        self.closed = True


class FakeEngine:
    """Methods answer with what `answers` holds (a value, an exception, a function); `calls` records them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}
        self.containers: dict[str, FakeContainer] = {"web": FakeContainer("web")}

    def container_get(self, id: str) -> FakeContainer:
        if id not in self.containers:
            raise NotFound(f"No such container: {id}")
        return self.containers[id]

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def method(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            answer = self.answers.get(name)
            if isinstance(answer, BaseException):
                raise answer
            if callable(answer):
                answer = answer(*args, **kwargs)
                if asyncio.iscoroutine(answer):
                    answer = await answer
            return answer

        return method

    @property
    def last(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        return self.calls[-1]


async def items(*values: Any) -> AsyncIterator[Any]:
    """A stream of these; an exception among them is raised in its turn."""
    for value in values:
        if isinstance(value, BaseException):
            raise value
        yield value


class Client:
    """Speaks to the API; one connection per request."""

    def __init__(self, path: str, engine: FakeEngine) -> None:
        self.path = path
        self.engine = engine
        self.writers: list[asyncio.StreamWriter] = []

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        pair = await asyncio.open_unix_connection(self.path, limit=1 << 20)
        self.writers.append(pair[1])
        return pair

    async def __call__(self, method: str, target: str, body: Any = None, *fields: str) -> Answer:
        reader, writer = await self.open()
        if body is None:
            writer.write(request(target, method, *fields))
        else:
            data = body if isinstance(body, bytes) else orjson.dumps(body)
            kind = (
                [] if any(f.lower().startswith("content-type") for f in fields) else ["Content-Type: application/json"]
            )
            writer.write(request(target, method, *kind, *fields, body=data))
        answer = await asyncio.wait_for(read_answer(reader, head=method == "HEAD"), 10)
        writer.close()
        return answer

    async def json(self, method: str, target: str, body: Any = None, *fields: str) -> tuple[int, Any]:
        answer = await self(method, target, body, *fields)
        return answer.status, orjson.loads(answer.body) if answer.body else None
