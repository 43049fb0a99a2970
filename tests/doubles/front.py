"""A server on loopback that answers each request as a script says, however wrong that is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, or one way of giving none."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    announced_bytes: int | None = None
    """The Content-Length where it isn't the body's."""
    closes_after: bool = False
    resets_unread: bool = False
    """Reset the connection once the head is read, before the body is."""
    resets_read: bool = False
    """Reset the connection when the whole request is read, without an answer."""
    hangs: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    whole: bool


class Front:
    """The script and what came in. Without a reply left, every request is answered 599."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.seen: list[Seen] = []
        self.connections = 0
        self.endpoint_url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    def will(self, *replies: Reply) -> None:
        self.replies += replies

    @classmethod
    @asynccontextmanager
    async def started(cls) -> AsyncIterator[Front]:
        front = cls()
        server = await asyncio.start_server(front._connected, "127.0.0.1", 0)
        front.endpoint_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield front
        finally:
            server.close()
            for task in list(front._tasks):
                task.cancel()
            await asyncio.gather(*front._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._answered(reader, writer):
                pass
        except (asyncio.CancelledError, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        reply = self.replies.pop(0) if self.replies else Reply(599)
        if reply.resets_unread:
            self.seen.append(Seen(method, target, headers, b"", whole=False))
            writer.transport.abort()
            return False
        try:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        except asyncio.IncompleteReadError as error:
            self.seen.append(Seen(method, target, headers, error.partial, whole=False))
            raise
        self.seen.append(Seen(method, target, headers, body, whole=True))
        if reply.resets_read:
            writer.transport.abort()
            return False
        if reply.hangs:
            await asyncio.sleep(3600)
        return await _write(reply, method, writer)


async def _write(reply: Reply, method: str, writer: asyncio.StreamWriter) -> bool:
    size = len(reply.body) if reply.announced_bytes is None else reply.announced_bytes
    headers = {"content-length": str(size), **reply.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {reply.status} X\r\n{lines}\r\n".encode())
    if method != "HEAD":
        writer.write(reply.body)
    await writer.drain()
    return not reply.closes_after and size <= len(reply.body)
