"""Metrics, as docs and dashboards know them. No tenant, key or object ever stands in a label."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Protocol, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from rekeyd.domain.errors import LedgerError
from rekeyd.domain.evidence import Verdict
from rekeyd.domain.job import KNOWN_KINDS, HeldReason, JobState
from rekeyd.domain.key import KeyState

NAMESPACE = "rekeyd"
JOB_KINDS: tuple[str, ...] = tuple(sorted(KNOWN_KINDS))
HELD_REASONS: tuple[HeldReason, ...] = get_args(HeldReason)

STAGES = ("listed", "copied", "verified", "deleted")
"""What an object and its bytes go through, as `objects_total` and `bytes_total` count them."""

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
JOB_BUCKETS = (
    1,
    5,
    15,
    MINUTE,
    5 * MINUTE,
    15 * MINUTE,
    HOUR,
    4 * HOUR,
    12 * HOUR,
    DAY,
    3 * DAY,
    7 * DAY,
    30 * DAY,
)
REQUEST_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
PAUSE_BUCKETS = (1, 2.5, 5, 10, 20, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, HOUR)
REVOCATION_BUCKETS = (0.5, 1, 2.5, 5, 10, 20, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR)
COMMIT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class WholeLedger(Protocol):
    """What is shown of the ledger, whichever daemon put it there."""

    @property
    def jobs(self) -> Mapping[tuple[str, JobState], int]:
        """By kind and state."""

    @property
    def held(self) -> Mapping[HeldReason, int]:
        """Held jobs by reason."""

    @property
    def keys(self) -> Mapping[KeyState, int]:
        """By state."""

    @property
    def oldest_queued_at(self) -> float | None:
        """In seconds since 1970; None where no job waits."""


class Metrics:
    """All metrics of a daemon, in a registry of their own. Names in this code lack the prefix `rekeyd_`.

    It fits where others count: the stores' meter (`observe`), the stories' metrics, an intake's counter and
    the ledger's observer of commits.
    """

    def __init__(self, version: str) -> None:
        # A second series for each, with the time of its making, that no query of ours asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._ledger = _LedgerGauges()
        self.registry.register(self._ledger)
        self._count_work()
        self._count_services()
        self._measure()
        self._gauge("build_info", "1, with the version as its label.", "version").labels(version).set(1)
        self._concurrency = self._gauge("pace_concurrency", "Requests that may run at once.", "store")

    def _count_work(self) -> None:
        self._objects = self._counter("objects", "Objects, by what was done with them.", "stage")
        self._bytes = self._counter("bytes", "Bytes of objects, by what was done with them.", "stage")
        self._verdicts = self._counter("verdicts", "Comparisons of both copies.", "verdict")
        self._failures = self._counter("object_failures", "Attempts at an object in vain.", "reason")
        self._claims_lost = self._counter("claims_lost", "Claims that ended before the work.")
        self._audit_records = self._counter("audit_records", "Records added to the audit trail.")
        for stage in STAGES:
            self._objects.labels(stage)
            self._bytes.labels(stage)
        for verdict in get_args(Verdict):
            self._verdicts.labels(verdict)

    def _count_services(self) -> None:
        self._requests = self._counter(
            "store_requests", "Requests to stores, each attempt for itself.", "store", "operation", "outcome"
        )
        self._throttled = self._counter("store_throttled", "Answers that ask to slow down.", "store")
        self._key_checks = self._counter("key_checks", "Checks of customer keys.", "outcome")
        self._messages = self._counter("intake_messages", "Job messages received.", "intake", "outcome")

    def _measure(self) -> None:
        self._job_seconds = self._histogram(
            "job_duration_seconds", "From start to end of a job.", JOB_BUCKETS, "kind", "outcome"
        )
        self._request_seconds = self._histogram(
            "store_request_duration_seconds", "Of one attempt.", REQUEST_BUCKETS, "store", "operation"
        )
        self._revoked_seconds = self._histogram(
            "revocation_effective_seconds",
            "From the admission of a revocation until reading failed everywhere.",
            REVOCATION_BUCKETS,
        )
        self._paused_seconds = self._histogram(
            "writes_paused_seconds", "How long a tenant's writers were stopped.", PAUSE_BUCKETS
        )
        self._commit_seconds = self._histogram(
            "ledger_commit_duration_seconds", "Of one commit, which may hold many changes.", COMMIT_BUCKETS
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace=NAMESPACE, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace=NAMESPACE, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, namespace=NAMESPACE, registry=self.registry, buckets=buckets)

    def count_objects(self, stage: str, objects: int, size_bytes: int) -> None:
        """Objects that went through a stage, one of `STAGES`, and their bytes."""
        assert stage in STAGES, stage
        self._objects.labels(stage).inc(objects)
        self._bytes.labels(stage).inc(size_bytes)

    def count_verdict(self, verdict: Verdict) -> None:
        """Both copies of an object were compared."""
        self._verdicts.labels(verdict).inc()

    def count_failure(self, reason: str) -> None:
        """An object was tried in vain. `reason` is one of a few: never an error's text."""
        self._failures.labels(reason).inc()

    def count_key_check(self, outcome: str) -> None:
        """A key was checked: `usable`, or why it is not."""
        self._key_checks.labels(outcome).inc()

    def count_lost_claim(self) -> None:
        """A claim was lost before its work was done."""
        self._claims_lost.inc()

    def count_audit_records(self, records: int) -> None:
        """Records were added to the audit trail, and committed."""
        self._audit_records.inc(records)

    def count_message(self, intake: str, outcome: str) -> None:
        """An intake is done with a message."""
        self._messages.labels(intake, outcome).inc()

    def observe(self, store: str, operation: str, outcome: str, seconds: float) -> None:
        """An attempt at a request to a store has ended."""
        self._requests.labels(store, operation, outcome).inc()
        self._request_seconds.labels(store, operation).observe(seconds)
        if outcome == "throttled":
            self._throttled.labels(store).inc()

    def observe_job(self, kind: str, outcome: str, seconds: float) -> None:
        """A job has ended, in the state `outcome`."""
        self._job_seconds.labels(kind, outcome).observe(seconds)

    def observe_revocation(self, seconds: float) -> None:
        """See `rekeyd.jobs.tools`: from a revocation's admission until nothing could be read any more."""
        self._revoked_seconds.observe(seconds)

    def observe_pause(self, seconds: float) -> None:
        """A tenant's writers may go on."""
        self._paused_seconds.observe(seconds)

    def observe_commit(self, seconds: float, _units: int = 1) -> None:
        """The ledger has committed."""
        self._commit_seconds.observe(seconds)

    def show_store(self, store: str, concurrency: Callable[[], float]) -> None:
        """Show, whenever it is asked for, how many requests to a store may run at once."""
        self._throttled.labels(store)
        self._concurrency.labels(store).set_function(concurrency)

    def show_ledger(self, summary: WholeLedger | None) -> None:
        """Show what the ledger holds; None where it isn't known: then nothing is shown, rather than what was."""
        self._ledger.summary = summary

    async def follow_ledger(self, read: Callable[[], Awaitable[WholeLedger]], every_seconds: float) -> None:
        """Show the ledger anew every so often, until cancelled. A ledger that can't be read is waited for."""
        while True:
            try:
                self.show_ledger(await read())
            except LedgerError:
                self.show_ledger(None)
            await asyncio.sleep(every_seconds)


class _LedgerGauges(Collector):
    """The gauges of the whole ledger. Each daemon shows them all: take the maximum, not the sum."""

    def __init__(self) -> None:
        self.summary: WholeLedger | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        jobs = GaugeMetricFamily(f"{NAMESPACE}_jobs", "Jobs.", labels=["kind", "state"])
        held = GaugeMetricFamily(
            f"{NAMESPACE}_jobs_held", "Held jobs, by what they wait for.", labels=["reason"]
        )
        keys = GaugeMetricFamily(f"{NAMESPACE}_keys", "Customer keys.", labels=["state"])
        oldest = GaugeMetricFamily(
            f"{NAMESPACE}_job_oldest_queued_timestamp_seconds",
            "Since when the job waits that waits longest to be begun; absent where none waits.",
        )
        summary = self.summary
        if summary is not None:
            kinds = {*JOB_KINDS, *(kind for kind, _ in summary.jobs)}
            for kind, state in itertools.product(sorted(kinds), get_args(JobState)):
                jobs.add_metric([kind, state], summary.jobs.get((kind, state), 0))
            for reason in sorted({*HELD_REASONS, *summary.held}):
                held.add_metric([reason], summary.held.get(reason, 0))
            for key_state in get_args(KeyState):
                keys.add_metric([key_state], summary.keys.get(key_state, 0))
            if summary.oldest_queued_at is not None:
                oldest.add_metric([], summary.oldest_queued_at)
        yield from (jobs, held, keys, oldest)
