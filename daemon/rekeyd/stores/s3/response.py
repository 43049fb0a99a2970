"""A response on its connection: read as a whole, or as it flows, and given back or dropped."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import TracebackType

import aiohttp

from rekeyd.domain.errors import InterruptedTransferError, UnavailableError
from rekeyd.stores.s3.request import S3Request


class Held:
    """A response, whose connection is given back only where nothing more is to come or to go on it."""

    __slots__ = ("_response",)

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    def __enter__(self) -> aiohttp.ClientResponse:
        return self._response

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None and self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


async def read_answer(response: aiohttp.ClientResponse, request: S3Request, bytes_max: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > bytes_max:
                raise UnavailableError(request.operation, f"an answer of over {bytes_max} bytes")
    except (aiohttp.ClientError, OSError) as error:
        raise InterruptedTransferError(
            request.operation, f"the answer ended early: {type(error).__name__}"
        ) from error
    return b"".join(chunks)


async def exact_chunks(
    response: aiohttp.ClientResponse, operation: str, size_bytes: int
) -> AsyncGenerator[bytes]:
    """A body of exactly `size_bytes`, or InterruptedTransferError."""
    left = size_bytes
    try:
        async for chunk in response.content.iter_any():
            left -= len(chunk)
            if left < 0:
                raise InterruptedTransferError(operation, f"over {size_bytes} bytes came")
            yield chunk
    except (aiohttp.ClientError, OSError) as error:
        raise InterruptedTransferError(
            operation, f"the body ended {left} bytes early: {type(error).__name__}"
        ) from error
    if left:
        raise InterruptedTransferError(operation, f"the body ended {left} bytes early")
