"""Deadlines of mutating calls: set by their claim, put off while it is kept, told to it where no answer came."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress

from rekeyd.domain.errors import ClaimLostError, StoreError
from rekeyd.stores.s3.request import S3Request

_PUT_OFF_STEPS = 3
"""So often is a deadline put off before it would have come."""


def deadline_of(request: S3Request, answer_seconds_max: float) -> float:
    """When a request that is sent now must have ended. Raises ClaimLostError where its claim forbids it."""
    now = asyncio.get_running_loop().time()
    if request.claim is None:
        return now + answer_seconds_max
    deadline = request.claim.call_deadline()
    if deadline <= now:
        raise ClaimLostError(f"{request.operation}: its deadline has passed")
    return deadline


@contextmanager
def put_off(request: S3Request, bound: asyncio.Timeout, bytes_per_second_min: float) -> Generator[None]:
    """Put a mutating call's deadline off while its claim is renewed: as long as its bytes may take, and no longer.

    At any moment the claim outlives the deadline that is in force.
    """
    claim, begun = request.claim, bound.when()
    bytes_due = max(request.content.size_bytes, request.moved_bytes)
    if claim is None or begun is None or not bytes_due:
        yield
        return
    loop = asyncio.get_running_loop()
    last = begun + bytes_due / bytes_per_second_min
    step = (begun - loop.time()) / _PUT_OFF_STEPS
    timer: asyncio.TimerHandle

    def later() -> None:
        nonlocal timer
        if bound.expired():
            return
        with suppress(ClaimLostError):  # then it ends at the deadline that it has
            bound.reschedule(min(claim.call_deadline(), last))
            timer = loop.call_later(step, later)

    timer = loop.call_later(step, later)
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def unanswered_told(request: S3Request, bound: asyncio.Timeout) -> Generator[None]:
    """Tell the claim where the call that is made within ends without its answer, however that comes about."""
    try:
        yield
    except BaseException as error:
        never_sent = isinstance(error, StoreError) and not error.outcome_unknown
        deadline = bound.when()
        if request.claim is not None and deadline is not None and request.publishes and not never_sent:
            request.claim.unanswered(deadline)
        raise
