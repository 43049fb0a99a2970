"""A request to S3 and its answer as values, and how a request's body goes out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field

from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import Content, LiveClaim
from rekeyd.stores.s3.outflow import Outflow

_ONE_WRITE_BYTES_MAX = 1024 * 1024
_EMPTY = BytesContent(b"")


@dataclass(frozen=True, slots=True)
class S3Request:
    """One request. With a claim it changes something, and ends by the claim's deadline."""

    operation: str
    method: str
    bucket: str
    key: str | None = None
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-case names."""
    content: Content = _EMPTY
    claim: LiveClaim | None = None
    publishes: bool = False
    """What others see changes by it."""
    takes_long: bool = False
    """The store may be silent for long before it answers: only the deadline bounds the wait."""
    moved_bytes: int = 0
    """What the store copies or puts together before it answers."""


@dataclass(frozen=True, slots=True)
class S3Answer:
    """A success: its headers, and its body where that was read as a whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        """The store's name for the call."""
        return self.headers.get("x-amz-request-id", "")


def body_of(request: S3Request) -> AbstractAsyncContextManager[bytes | Outflow | None]:
    """What is sent: bytes as one write, anything else as it flows."""
    content = request.content
    if isinstance(content, BytesContent) and content.size_bytes <= _ONE_WRITE_BYTES_MAX:
        return nullcontext(content.data or None)
    return _flowing(request)


@asynccontextmanager
async def _flowing(request: S3Request) -> AsyncGenerator[Outflow | None]:
    async with request.content.open() as chunks:
        outflow = Outflow(request.operation, chunks, request.content.size_bytes)
        try:
            if request.content.size_bytes == 0:
                # Nothing is sent, so that what a content that should be empty yields is met here.
                await outflow.check_empty()
                yield None
            else:
                yield outflow
        finally:
            await outflow.aclose()
