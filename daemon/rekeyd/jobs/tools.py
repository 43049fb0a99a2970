"""What the stories are given to work with. The service puts it together; nothing here is made by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rekeyd.custody.port import Custody
from rekeyd.custody.signing import Signer
from rekeyd.domain.errors import StoreRefusedError
from rekeyd.domain.evidence import Verdict
from rekeyd.domain.job import Job
from rekeyd.domain.objects import Location
from rekeyd.domain.signed import PublicKey
from rekeyd.ledger.port import Ledger
from rekeyd.stores.buckets import BucketControl
from rekeyd.stores.port import ObjectStore
from rekeyd.transfer.route import Means, Route


class JobMetrics(Protocol):
    """What is counted on the way. Stages are `listed`, `copied`, `verified` and `deleted`."""

    def count_objects(self, stage: str, objects: int, size_bytes: int) -> None: ...

    def count_verdict(self, verdict: Verdict) -> None: ...

    def count_failure(self, reason: str) -> None: ...

    def count_key_check(self, outcome: str) -> None: ...

    def count_lost_claim(self) -> None: ...

    def observe_job(self, kind: str, outcome: str, seconds: float) -> None: ...

    def observe_pause(self, seconds: float) -> None: ...

    def observe_revocation(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Store:
    """A store of the settings: its objects, its buckets, and where buckets are made."""

    objects: ObjectStore
    objects_once: ObjectStore
    """The same without retries, for a call that is expected to fail."""
    buckets: BucketControl
    region: str
    service: str
    """Who answers, whatever the store is called here: two with the same one hold the same buckets."""
    is_aws: bool
    """Whether it is AWS itself: what it documents is required of it, and believed where it can't be shown. Another
    store may lack what protects a bucket beyond the key (a public access block, a policy, lifecycle rules); that is
    reported."""


@dataclass(frozen=True, slots=True)
class Timings:
    """How long things may take, in seconds, and what counts as little."""

    placement_ttl_seconds: float
    write_seconds_max: float
    pause_seconds_max: float
    pause_rest_seconds: float
    """How long the writers go on after a pause in vain before the next one is taken."""
    pass_objects_small: int
    pass_bytes_small: int
    passes_max: int
    lease_seconds: float
    call_seconds_max: float
    held_recheck_seconds: float
    key_check_seconds: float
    key_watch_seconds: float
    poll_seconds: float
    job_attempts_max: int


@dataclass(frozen=True, slots=True)
class Tools:
    """Everything that the stories share."""

    ledger: Ledger
    stores: Mapping[str, Store]
    custody: Custody
    signer: Signer
    """Signs certificates and checkpoints."""
    former_signers: Sequence[PublicKey]
    """Whose signatures count as well: those of before."""
    means: Means
    timings: Timings
    metrics: JobMetrics
    objects_in_flight: asyncio.Semaphore
    """The places for objects on their way, of all segments together."""
    objects_in_flight_max: int
    """How many places there are."""
    work_came: asyncio.Event
    """Set when there may be something to claim, or a segment has ended: nobody waits longer than a poll anyway."""

    def source_of(self, job: Job) -> Store:
        """The store of the job's source. Raises StoreRefusedError where the settings no longer have it."""
        return self.store_of(job.source)

    def target_of(self, job: Job) -> Store:
        """The store of the job's target. Likewise."""
        return self.store_of(job.target)

    def store_of(self, location: Location) -> Store:
        """The store of a location. Likewise."""
        if location.store not in self.stores:
            raise StoreRefusedError("settings", f"{location}: there is no store {location.store}")
        return self.stores[location.store]

    def route_of(self, job: Job, *, target_checks_checksums: bool) -> Route:
        """The way of the job's objects."""
        return Route(
            source=self.source_of(job).objects,
            source_location=job.source,
            target=self.target_of(job).objects,
            target_location=job.target,
            key_arn=job.key.arn,
            target_checks_checksums=target_checks_checksums,
            read_back=job.verify == "read_back",
        )
