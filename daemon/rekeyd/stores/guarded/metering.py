"""What each call became and how long it took, told to whoever counts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Literal, Protocol

from rekeyd.domain.errors import (
    AccessDeniedError,
    ArchivedError,
    ClaimLostError,
    InterruptedTransferError,
    KeyUnusableError,
    NotFoundError,
    PreconditionError,
    StoreError,
    StoreRefusedError,
    ThrottledError,
    UnavailableError,
)
from rekeyd.domain.objects import ObjectHead
from rekeyd.stores.guarded.operation import READ, Answer, Operation
from rekeyd.stores.port import ObjectStream

Outcome = Literal[
    "ok",
    "not_found",
    "precondition_failed",
    "throttled",
    "unavailable",
    "interrupted",
    "archived",
    "key_unusable",
    "access_denied",
    "refused",
    "claim_lost",
    "abandoned",  # a read left before its end, a write whose content failed, any call that was cancelled
    "error",  # none of these: a broken invariant
]

_OUTCOMES: tuple[tuple[type[BaseException], Outcome], ...] = (
    (NotFoundError, "not_found"),
    (PreconditionError, "precondition_failed"),
    (ThrottledError, "throttled"),
    (UnavailableError, "unavailable"),
    (InterruptedTransferError, "interrupted"),
    (ArchivedError, "archived"),
    (KeyUnusableError, "key_unusable"),
    (AccessDeniedError, "access_denied"),
    (StoreRefusedError, "refused"),
    (ClaimLostError, "claim_lost"),
    (Exception, "error"),
    (BaseException, "abandoned"),
)


class Meter(Protocol):
    """Counts a store's calls."""

    def observe(self, store: str, operation: str, outcome: Outcome, seconds: float) -> None:
        """A call has ended. `throttled` is what rekeyd_store_throttled_total counts."""


def outcome_of(error: BaseException) -> Outcome:
    """The word for an error."""
    return next(outcome for kind, outcome in _OUTCOMES if isinstance(error, kind))


class Metering:
    """Tells a meter of each attempt of one store's calls, and notes on an error whose it is."""

    def __init__(self, store: str, meter: Meter, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._meter = meter
        self._clock = clock

    async def run(self, operation: Operation, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """See Guard."""
        begun = self._clock()
        outcome: Outcome = "ok"
        try:
            return await call()
        except BaseException as error:
            outcome = self._own(error)
            raise
        finally:
            self._meter.observe(self._store, operation.name, outcome, self._clock() - begun)

    def _own(self, error: BaseException) -> Outcome:
        """The outcome of a call that ended so. An error of the read that fed it has its owner already."""
        if isinstance(error, StoreError):
            if error.store is not None:
                return "abandoned"
            error.store = self._store
        return outcome_of(error)

    @asynccontextmanager
    async def reading(
        self, opened: AbstractAsyncContextManager[ObjectStream]
    ) -> AsyncGenerator[ObjectStream]:
        """See Guard. It lasts until the stream is left; an error of whoever consumes it isn't the store's."""
        begun = self._clock()
        metered: _MeteredStream | None = None
        outcome: Outcome = "abandoned"
        try:
            async with AsyncExitStack() as stack:
                try:
                    metered = _MeteredStream(await stack.enter_async_context(opened), self._own)
                except BaseException as error:
                    outcome = self._own(error)
                    raise
                yield metered
        finally:
            if metered is not None:
                outcome = metered.outcome
            self._meter.observe(self._store, READ.name, outcome, self._clock() - begun)


class _MeteredStream:
    """A stream that notes how it ended."""

    def __init__(self, stream: ObjectStream, own: Callable[[BaseException], Outcome]) -> None:
        self._stream = stream
        self._own = own
        self.outcome: Outcome = "abandoned"

    @property
    def head(self) -> ObjectHead:
        return self._stream.head

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream.chunks():
                yield chunk
        except Exception as error:
            self.outcome = self._own(error)
            raise
        self.outcome = "ok"
