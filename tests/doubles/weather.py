"""A front between rekeyd and a real store: it passes requests on byte by byte, or spoils them as it is told.

Signatures stay good, since nothing of a request is changed: the store sees the Host that was signed.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from tests.patience import HANG_SECONDS

Fault = Literal[
    "slow_down",  # 503 SlowDown; the store never sees the request
    "internal",  # 500 InternalError, likewise
    "reset_unsent",  # the connection is reset; the store never sees the request
    "reset_unanswered",  # the store does what was asked; the connection is reset in place of its answer
    "truncated",  # the store's answer breaks off in the middle of its body
    "error_in_200",  # a 200 whose body is an error; the store never sees the request
    "lost_in_200",  # the same, yet the store has done what was asked
    "empty_200",  # a 200 without a body; the store never sees the request
    "garbage_200",  # a 200 whose body is half a document, likewise
    "no_keys_200",  # a 200 with a listing, whole and well-formed, of nothing, likewise
    "stalled",  # no answer until `stalling` ends; then it is passed on
    "delayed",  # passed on DELAY_SECONDS later than it came
    "repeated",  # answered, and passed on a second time DELAY_SECONDS later, whatever has happened since
]

DELAY_SECONDS = 0.4
"""Less than the deadline of any call in the tests: a store that acts later breaks a promise that rekeyd relies on."""

Forecast = Callable[["Asked"], Fault | None]

_ERROR = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>weather</Message></Error>'
_ANSWERS: Mapping[Fault, tuple[str, bytes]] = {
    "slow_down": ("503 Slow Down", _ERROR % b"SlowDown"),
    "internal": ("500 Internal Server Error", _ERROR % b"InternalError"),
    "error_in_200": ("200 OK", _ERROR % b"InternalError"),
    "lost_in_200": ("200 OK", _ERROR % b"InternalError"),
    "empty_200": ("200 OK", b""),
    "garbage_200": ("200 OK", b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false'),
    "no_keys_200": (
        "200 OK",
        b"<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>",
    ),
}

_NEVER_SENT = frozenset({"slow_down", "internal", "error_in_200", "empty_200", "garbage_200", "no_keys_200"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as it came in."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def operation(self) -> str:
        """S3's name for it; `Bucket` for whatever concerns a bucket's configuration."""
        parts = urlsplit(self.target)
        query = parse_qs(parts.query, keep_blank_values=True)
        of_object = "/" in parts.path.strip("/")
        copies = "x-amz-copy-source" in self.headers
        match self.method:
            case "GET" if "list-type" in query:
                return "ListObjectsV2"
            case "GET" if "uploads" in query:
                return "ListMultipartUploads"
            case "POST" if "delete" in query:
                return "DeleteObjects"
            case "POST" if "uploads" in query:
                return "CreateMultipartUpload"
            case "POST":
                return "CompleteMultipartUpload"
            case "PUT" if "partNumber" in query:
                return "UploadPartCopy" if copies else "UploadPart"
            case "DELETE" if "uploadId" in query:
                return "AbortMultipartUpload"
            case _ if not of_object:
                return "Bucket"
            case "PUT" if copies:
                return "CopyObject"
            case method:
                return f"{method.capitalize()}Object"


def fair(_: Asked) -> None:
    """Good weather."""


def foul(seed: int, fraction: float, *, spoils: Mapping[str, tuple[Fault, ...]] | None = None) -> Forecast:
    """Spoils a fraction of all requests, by turns of a seeded die.

    `spoils` gives the faults of an operation where they aren't those that can befall any.
    """
    dice = random.Random(seed)
    usual: tuple[Fault, ...] = ("slow_down", "internal", "reset_unsent", "reset_unanswered", "truncated")
    embedded: tuple[Fault, ...] = (*usual, "error_in_200", "lost_in_200")
    special = spoils or {
        "CopyObject": embedded,
        "UploadPartCopy": embedded,
        "CompleteMultipartUpload": embedded,
        "ListObjectsV2": (*usual, "empty_200", "garbage_200"),
    }

    def forecast(asked: Asked) -> Fault | None:
        if dice.random() >= fraction:
            return None
        return dice.choice(special.get(asked.operation, usual))

    return forecast


class Weather:
    """The front. `forecast` may be exchanged at any time; `seen` counts requests, `suffered` those spoilt."""

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream)
        self.forecast: Forecast = fair
        self.endpoint_url = ""
        self.seen: Counter[str] = Counter()
        self.suffered: Counter[tuple[str, Fault]] = Counter()
        self.repeated: Counter[tuple[str, str]] = Counter()
        """What was asked a second time, and with which status it was answered then, to nobody."""
        self.stalling = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def started(cls, upstream: str) -> AsyncIterator[Weather]:
        """Listens on loopback for as long as the context lasts."""
        weather = cls(upstream)
        server = await asyncio.start_server(weather._connected, "127.0.0.1", 0)
        weather.endpoint_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield weather
        finally:
            server.close()
            for task in list(weather._tasks):
                task.cancel()
            await asyncio.gather(*weather._tasks, return_exceptions=True)

    async def until_suffered(
        self, operation: str, fault: Fault, *, seconds_max: float = HANG_SECONDS
    ) -> None:
        """Wait until such a request has been spoilt so."""
        async with asyncio.timeout(seconds_max):
            while not self.suffered[operation, fault]:  # noqa: ASYNC110 - a counter tells nobody
                await asyncio.sleep(0.01)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.CancelledError, asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("expect") == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(method, target, headers)
        fault = self.forecast(asked)
        self.seen[asked.operation] += 1
        if fault is not None:
            self.suffered[asked.operation, fault] += 1
        return await self._answer(asked, head + body, fault, writer)

    async def _answer(
        self, asked: Asked, request: bytes, fault: Fault | None, writer: asyncio.StreamWriter
    ) -> bool:
        if fault == "stalled":
            await self.stalling.wait()
        elif fault == "delayed":
            await asyncio.sleep(DELAY_SECONDS)
        elif fault == "reset_unsent":
            writer.transport.abort()
            return False
        answer = b""
        if fault not in _NEVER_SENT:
            answer = await self._passed_on(asked, request)
        if fault == "repeated":
            self._repeat_later(asked, request)
        if fault == "reset_unanswered":
            writer.transport.abort()
            return False
        if fault == "truncated":
            head_bytes = answer.index(b"\r\n\r\n") + 4
            writer.write(answer[: (head_bytes + len(answer)) // 2])
            await writer.drain()
            writer.transport.close() if head_bytes < len(answer) else writer.transport.abort()
            return False
        if fault is not None and fault in _ANSWERS:
            status, document = _ANSWERS[fault]
            answer = f"HTTP/1.1 {status}\r\nContent-Length: {len(document)}\r\n\r\n".encode()
            answer += document if asked.method != "HEAD" else b""
        writer.write(answer)
        await writer.drain()
        return True

    def _repeat_later(self, asked: Asked, request: bytes) -> None:
        async def repeat() -> None:
            await asyncio.sleep(DELAY_SECONDS)
            try:
                answer = await self._passed_on(asked, request)
            except (OSError, asyncio.IncompleteReadError):
                return
            self.repeated[asked.operation, answer.split(b" ", 2)[1].decode()] += 1

        task = asyncio.create_task(repeat())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _passed_on(self, asked: Asked, request: bytes) -> bytes:
        """The store's answer, as it came, framing included."""
        reader, writer = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        try:
            writer.write(request)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            while head.split(b" ", 2)[1].startswith(b"1"):
                head = await reader.readuntil(b"\r\n\r\n")
            return head + await _body(asked, head, reader)
        finally:
            writer.transport.abort()


async def _body(asked: Asked, head: bytes, reader: asyncio.StreamReader) -> bytes:
    status = head.split(b" ", 2)[1]
    if asked.method == "HEAD" or status in (b"204", b"304"):
        return b""
    lines = head.decode("latin-1").lower().split("\r\n")
    if any(line.startswith("transfer-encoding:") and "chunked" in line for line in lines):
        return await _chunks(reader)
    sizes = [int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")]
    return await reader.readexactly(sizes[0]) if sizes else b""


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    found = []
    while True:
        line = await reader.readline()
        chunk = await reader.readexactly(int(line, 16) + 2)
        found += [line, chunk]
        if int(line, 16) == 0:
            return b"".join(found)
