"""How fast a job goes and how long it may still take: pure arithmetic on what the ledger says."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from rekeyd.domain.job import Job

WINDOW_SECONDS = 10.0
"""A rate is that of the last so many seconds: long enough to be calm, short enough to be true."""

_SAMPLES_MAX = 256

Stage = Literal[
    "carry",  # objects are copied and verified
    "retire",  # verified source versions are deleted
]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is in the stage that it is in. None: not known."""

    stage: Stage
    objects_done: int
    objects_total: int
    bytes_done: int
    bytes_total: int
    objects_per_second: float | None = None
    bytes_per_second: float | None = None
    seconds_left: float | None = None


def average(job: Job, now: float) -> Progress:
    """Progress at the average rate since the job began: what one look at a job can tell.

    Without rates where the job isn't carrying objects: nothing tells when retiring began.
    """
    standing = _standing(job)
    if job.started_at is None or job.state != "running" or standing.stage != "carry":
        return standing
    return _at_rates(
        standing,
        seconds=now - job.started_at,
        objects=standing.objects_done,
        size_bytes=standing.bytes_done,
    )


class Meter:
    """Progress at the rate of the last seconds, from one look at the job after the other."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Progress]] = deque(maxlen=_SAMPLES_MAX)

    def observe(self, job: Job, now: float) -> Progress:
        """What the job looks like at `now`; `now` never goes back."""
        standing = _standing(job)
        if self._samples and self._samples[-1][1].stage != standing.stage:
            self._samples.clear()
        self._samples.append((now, standing))
        # One sample from before the window stays: without it the window would have no beginning.
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW_SECONDS:  # noqa: PLR2004 - "one and another one"
            self._samples.popleft()
        since, first = self._samples[0]
        return _at_rates(
            standing,
            seconds=now - since,
            objects=standing.objects_done - first.objects_done,
            size_bytes=standing.bytes_done - first.bytes_done,
        )


def _standing(job: Job) -> Progress:
    counts = job.counts
    if job.phase in {"retire", "certify", "done"}:
        # What is deleted are objects: their bytes take no time.
        return Progress(
            "retire",
            objects_done=counts.objects_deleted,
            objects_total=counts.objects_verified,
            bytes_done=counts.bytes_verified,
            bytes_total=counts.bytes_verified,
        )
    return Progress(
        "carry",
        objects_done=counts.objects_verified + counts.objects_excluded,
        objects_total=counts.objects_listed,
        bytes_done=counts.bytes_verified,
        bytes_total=counts.bytes_listed,
    )


def _at_rates(standing: Progress, *, seconds: float, objects: int, size_bytes: int) -> Progress:
    if seconds <= 0 or not standing.objects_total:
        return standing
    objects_per_second = max(0.0, objects / seconds)
    bytes_per_second = max(0.0, size_bytes / seconds)
    waits = [
        _wait(standing.objects_total - standing.objects_done, objects_per_second),
        _wait(standing.bytes_total - standing.bytes_done, bytes_per_second),
    ]
    known = [wait for wait in waits if wait is not None]
    return Progress(
        standing.stage,
        standing.objects_done,
        standing.objects_total,
        standing.bytes_done,
        standing.bytes_total,
        objects_per_second,
        bytes_per_second,
        # Small objects cost requests, large ones bytes: whichever is scarcer decides.
        max(known) if len(known) == len(waits) else None,
    )


def _wait(left: int, per_second: float) -> float | None:
    if left <= 0:
        return 0.0
    return left / per_second if per_second > 0 else None
