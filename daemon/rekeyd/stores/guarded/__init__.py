"""Retrying, pacing and metering, as wrappers of the whole store port.

Retries are outermost and limits inside them, so that no permit is held while backing off; the meter is innermost
and sees each attempt without the waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rekeyd.stores.buckets import BucketControl
from rekeyd.stores.guarded.around import GuardedControl, GuardedStore
from rekeyd.stores.guarded.metering import Meter, Metering
from rekeyd.stores.guarded.pacing import Pace, PacePolicy
from rekeyd.stores.guarded.retrying import Retries, RetryPolicy
from rekeyd.stores.port import ObjectStore

__all__ = ["Guards", "Meter", "Pace", "PacePolicy", "Retries", "RetryPolicy"]


_RETRY = RetryPolicy()
_PACE = PacePolicy()


@dataclass(frozen=True, slots=True)
class Guards:
    """What stands around one store: its objects and its buckets share the pace."""

    retries: Retries
    pace: Pace
    metering: Metering

    @classmethod
    def of(
        cls,
        store: str,
        meter: Meter,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        retry: RetryPolicy = _RETRY,
        pace: PacePolicy = _PACE,
    ) -> Guards:
        """Guards for the store of this name. `clock` never goes back; `jitter` gives values in [0, 1)."""
        return cls(
            Retries(retry, jitter=jitter, sleep=sleep),
            Pace(store, pace, clock=clock),
            Metering(store, meter, clock=clock),
        )

    def store(self, store: ObjectStore) -> ObjectStore:
        """The store as everything above the adapters uses it."""
        return GuardedStore(GuardedStore(GuardedStore(store, self.metering), self.pace), self.retries)

    def store_once(self, store: ObjectStore) -> ObjectStore:
        """The store without its retries, for a call that is expected to fail."""
        return GuardedStore(GuardedStore(store, self.metering), self.pace)

    def control(self, control: BucketControl) -> BucketControl:
        """The control plane likewise."""
        return GuardedControl(GuardedControl(GuardedControl(control, self.metering), self.pace), self.retries)
