"""Both ends of a move on stores in memory, under a script, for tests of one object's journey."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar

from rekeyd.domain.objects import Attributes, Encryption, Location, ObjectVersion
from rekeyd.ledger.port import ObjectRow
from rekeyd.stores.guarded import Retries, RetryPolicy
from rekeyd.stores.guarded.operation import READ
from rekeyd.stores.memory import MemoryStore, Shelf
from rekeyd.stores.memory.shelf import DEFAULT_CONTENT_TYPE, Stored
from rekeyd.stores.port import IfAbsent, WriteCondition
from rekeyd.transfer.checksum import Reading, crc64nvme
from rekeyd.transfer.copy import CopyTask
from rekeyd.transfer.pace import ByteBudget
from rekeyd.transfer.plan import PlanLimits
from rekeyd.transfer.route import Means, Route
from tests.doubles.claim import Claim
from tests.doubles.faulty import FaultyStore, Script, as_it_is

T = TypeVar("T")

MEBIBYTE = 1024**2
KEY_ARN = "arn:aws:kms:us-east-1:111122223333:key/acme"
UNDER_KEY = Encryption("aws:kms", KEY_ARN)
SOURCE = Location("s3", "shared", "tenants/acme/")
TARGET = Location("s4", "byok-acme", "")
DRESSED = Attributes(
    headers={"content-type": "text/plain", "cache-control": "no-store", "content-language": "de"},
    metadata={"origin": "a test"},
    tags={"team": "blue", "kind": "made up"},
    storage_class="STANDARD_IA",
)


@dataclass(slots=True)
class Ends:
    """A source and a target. Without retries: a fault of the script is what the caller sees."""

    server_side: bool = False
    computes_copied_checksums: bool = False
    read_back: bool = False
    target_checks_checksums: bool = True
    keeps_as: Callable[[str], str] = as_it_is
    script: Script = field(default_factory=Script)
    claim: Claim = field(default_factory=Claim)
    source_shelf: Shelf = field(default_factory=Shelf)
    target_shelf: Shelf = field(default_factory=Shelf)
    object_attempts_max: int = 3
    budget: ByteBudget = field(default_factory=lambda: ByteBudget(32 * MEBIBYTE))

    def __post_init__(self) -> None:
        if self.server_side:
            self.target_shelf = self.source_shelf
        self.source_shelf.make_bucket(SOURCE.bucket)
        self.target_shelf.make_bucket(TARGET.bucket)

    @property
    def route(self) -> Route:
        source = MemoryStore(self.source_shelf, name="s3")
        target = MemoryStore(
            self.target_shelf,
            name="s3" if self.server_side else "s4",
            computes_copied_checksums=self.computes_copied_checksums,
        )
        return Route(
            source=FaultyStore(source, self.script),
            source_location=SOURCE,
            target=FaultyStore(target, self.script, keeps_as=self.keeps_as),
            target_location=replace(TARGET, store="s3") if self.server_side else TARGET,
            key_arn=KEY_ARN,
            target_checks_checksums=self.target_checks_checksums,
            read_back=self.read_back,
        )

    @property
    def means(self) -> Means:
        retries = Retries(
            RetryPolicy(attempts_max=2, first_wait_seconds=0), jitter=lambda: 0.0, sleep=asyncio.sleep
        )

        async def repeat(call: Callable[[], Awaitable[T]]) -> T:
            return await retries.run(READ, call)

        return Means(
            limits=PlanLimits(MEBIBYTE, 5 * MEBIBYTE, 5 * MEBIBYTE),
            reading=Reading(5 * MEBIBYTE, 2, self.budget, repeat),
            parts_in_flight_max=2,
            now=lambda: datetime.now(UTC),
            object_attempts_max=self.object_attempts_max,
        )

    def put(
        self,
        data: bytes,
        attributes: Attributes = DRESSED,
        *,
        name: str = "name",
        reported_crc: bool = True,
    ) -> ObjectVersion:
        """An object appears in the source."""
        stored = self._stored(self.source_shelf, data, attributes, Encryption("AES256"), reported_crc)
        key = SOURCE.prefix + name
        self.source_shelf.buckets[SOURCE.bucket].objects[key] = stored
        return stored.version(key)

    def put_target(
        self,
        data: bytes,
        attributes: Attributes = DRESSED,
        *,
        name: str = "name",
        under: Encryption = UNDER_KEY,
    ) -> ObjectVersion:
        """An object appears in the target, under the customer key where no other is named."""
        stored = self._stored(self.target_shelf, data, attributes, under, True)
        self.target_shelf.buckets[TARGET.bucket].objects[name] = stored
        return stored.version(name)

    def _stored(
        self, shelf: Shelf, data: bytes, attributes: Attributes, encryption: Encryption, reports: bool
    ) -> Stored:
        headers = {"content-type": DEFAULT_CONTENT_TYPE, **attributes.headers}
        crc = crc64nvme(data) if reports else None
        return shelf.make(data, replace(attributes, headers=headers), encryption, crc)

    def remove(self, name: str = "name") -> None:
        """The object is gone from the source."""
        del self.source_shelf.buckets[SOURCE.bucket].objects[SOURCE.prefix + name]

    def in_target(self, name: str = "name") -> Stored | None:
        return self.target_shelf.buckets[TARGET.bucket].objects.get(name)

    @property
    def uploads(self) -> int:
        """How many are neither completed nor aborted."""
        return len(self.target_shelf.uploads)

    def task(self, version: ObjectVersion, condition: WriteCondition | None = None) -> CopyTask:
        route = self.route
        return CopyTask(
            route, version, condition or IfAbsent(), self.means, self.claim, server_side=route.server_side
        )


def row(
    source: ObjectVersion,
    target: ObjectVersion | None = None,
    *planned_before: ObjectVersion,
    attempts: int = 0,
) -> ObjectRow:
    """A row to be carried."""
    return ObjectRow(source, "listed", attempts, target, planned_before, None)
