"""The one owner of retries."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from rekeyd.domain.errors import StoreError
from rekeyd.stores.guarded.operation import Answer, Operation
from rekeyd.stores.port import ObjectStream


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a call is repeated, and how long is waited in between."""

    attempts_max: int = 5
    first_wait_seconds: float = 0.2
    """What the first wait is at the most; each further one may be twice as long."""
    wait_seconds_max: float = 10.0
    retry_after_seconds_max: float = 60.0
    """How long a store may ask us to wait."""


def next_wait_seconds(policy: RetryPolicy, error: StoreError, attempt: int, jitter: float) -> float | None:
    """How long to wait after the failure of attempt number `attempt`, or None where it was the last.

    Exponential with full jitter, `jitter` lying in [0, 1): many callers that failed together don't come back
    together (AWS Architecture Blog, "Exponential Backoff And Jitter").
    """
    if not error.repeatable or attempt >= policy.attempts_max:
        return None
    wait: float = jitter * min(policy.wait_seconds_max, policy.first_wait_seconds * 2.0 ** (attempt - 1.0))
    asked = min(error.retry_after_seconds or 0.0, policy.retry_after_seconds_max)
    return max(wait, asked)


class Retries:
    """Repeats calls whose error says that they may be repeated; nothing else, and never without a claim.

    A claim is asked for its deadline at each sending: where it is lost, ClaimLostError ends the repeating. What
    comes out after an attempt whose outcome isn't known says so in `after_unknown`: a PreconditionError then
    may be our own doing, and the caller settles it by reading. A read isn't repeated here: only whoever
    consumes the bytes can begin anew.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        jitter: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._policy = policy
        self._jitter = jitter
        self._sleep = sleep

    async def run(self, operation: Operation, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """See Guard."""
        unknown = False
        attempt = 0
        while True:
            attempt += 1
            try:
                return await call()
            except StoreError as error:
                error.after_unknown = error.after_unknown or unknown
                wait = next_wait_seconds(self._policy, error, attempt, self._jitter())
                if wait is None:
                    raise
                unknown = unknown or (operation.mutates and error.outcome_unknown)
            await self._sleep(wait)

    @asynccontextmanager
    async def reading(
        self, opened: AbstractAsyncContextManager[ObjectStream]
    ) -> AsyncGenerator[ObjectStream]:
        """See Guard."""
        async with opened as stream:
            yield stream
