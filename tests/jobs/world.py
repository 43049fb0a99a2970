"""A whole small world: a tenant's source, its target, its key, a ledger on a file, and processes that work in it."""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rekeyd.custody.memory import MemoryCustody
from rekeyd.custody.pem_signing import PemSigner
from rekeyd.custody.signing import Signer
from rekeyd.domain.audit import first_broken
from rekeyd.domain.evidence import Verdict
from rekeyd.domain.job import Job, JobState, read_job_message
from rekeyd.domain.key import AcceptedKey, KeyState, KmsKey, WrappedKey
from rekeyd.domain.objects import OWN_PREFIX, Attributes, Encryption, Location
from rekeyd.domain.signed import PublicKey
from rekeyd.domain.tenant import PlacementRecord
from rekeyd.jobs.conditions import PROOF_PREFIX
from rekeyd.jobs.tools import Store, Timings, Tools
from rekeyd.jobs.worker import Worker
from rekeyd.ledger.port import Ledger
from rekeyd.ledger.sql import SqlLedger
from rekeyd.stores.buckets import BucketControl, BucketRules
from rekeyd.stores.guarded import Retries, RetryPolicy
from rekeyd.stores.guarded.around import GuardedControl, GuardedStore
from rekeyd.stores.guarded.operation import READ
from rekeyd.stores.memory import MemoryControl, MemoryStore, Shelf
from rekeyd.stores.memory.shelf import DEFAULT_CONTENT_TYPE
from rekeyd.stores.port import ObjectStore
from rekeyd.transfer.checksum import Reading, crc64nvme
from rekeyd.transfer.pace import ByteBudget
from rekeyd.transfer.plan import PlanLimits
from rekeyd.transfer.route import Means
from tests.doubles.faulty import Call, FaultyControl, FaultyStore, Script, as_it_is
from tests.doubles.mortal import Life, MortalLedger
from tests.patience import HANG_SECONDS

T = TypeVar("T")

MEBIBYTE = 1024**2
TENANT = "acme"
SOURCE = Location.parse("s3://shared/tenants/acme/")
TARGET_BUCKET = "byok-acme"
KEY = KmsKey(
    kind="kms",
    arn="arn:aws:kms:us-east-1:111122223333:key/acme",
    alias="arn:aws:kms:us-east-1:111122223333:alias/acme",
)
ANOTHER_KEY = KmsKey(
    kind="kms",
    arn="arn:aws:kms:us-east-1:111122223333:key/acme-2",
    alias="arn:aws:kms:us-east-1:111122223333:alias/acme-2",
)
FINAL: tuple[JobState, ...] = ("completed", "failed", "cancelled")
SETTLED: tuple[JobState, ...] = (*FINAL, "held")

TIMINGS = Timings(
    placement_ttl_seconds=0.0,
    write_seconds_max=0.0,
    pause_seconds_max=20.0,
    pause_rest_seconds=0.0,
    pass_objects_small=0,
    pass_bytes_small=0,
    passes_max=10,
    lease_seconds=30.0,
    call_seconds_max=10.0,
    held_recheck_seconds=60.0,
    key_check_seconds=0.03,
    key_watch_seconds=0.03,
    poll_seconds=0.02,
    job_attempts_max=3,
)

LIMITS = PlanLimits(
    single_put_bytes_max=MEBIBYTE, part_bytes=5 * MEBIBYTE, copy_object_bytes_max=5 * MEBIBYTE
)


@dataclass(slots=True)
class Counted:
    """Metrics, as they were counted."""

    objects: dict[str, int] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    key_checks: list[str] = field(default_factory=list)
    claims_lost: int = 0
    jobs: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    revocations: list[float] = field(default_factory=list)

    def count_objects(self, stage: str, objects: int, size_bytes: int) -> None:
        self.objects[stage] = self.objects.get(stage, 0) + objects

    def count_verdict(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)

    def count_failure(self, reason: str) -> None:
        self.failures.append(reason)

    def count_key_check(self, outcome: str) -> None:
        self.key_checks.append(outcome)

    def count_lost_claim(self) -> None:
        self.claims_lost += 1

    def observe_job(self, kind: str, outcome: str, seconds: float) -> None:
        self.jobs.append(outcome)

    def observe_revocation(self, seconds: float) -> None:
        self.revocations.append(seconds)

    def observe_pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


@dataclass(frozen=True, slots=True)
class Data:
    """What an object is to a tenant."""

    content: bytes
    attributes: Attributes = field(default_factory=Attributes)

    @classmethod
    def of(cls, content: bytes, **metadata: str) -> Data:
        return cls(content, Attributes(metadata=metadata))


def some_objects() -> dict[str, Data]:
    """One of each kind that matters: empty, small, with all that travels along, in one and in two parts."""
    dressed = Attributes(
        headers={"content-type": "text/plain", "cache-control": "no-store"},
        metadata={"origin": "a test"},
        tags={"team": "blue"},
    )
    return {
        "a/empty": Data(b""),
        "a/small": Data(b"small"),
        "b dressed+%2F": Data(b"dressed", dressed),
        "c/2 MiB": Data(b"2" * (2 * MEBIBYTE)),
        "c/6 MiB": Data(b"6" * (6 * MEBIBYTE), dressed),
        "z": Data(b"last"),
    }


class World:
    """What outlives every process; `process` gives one that works in it."""

    def __init__(
        self,
        ledger_path: Path,
        *,
        server_side: bool = False,
        versioned: bool = False,
        object_lock: bool = False,
    ) -> None:
        self.ledger_path = ledger_path
        self.shelf = Shelf()
        """The source's store."""
        self.target_shelf = self.shelf if server_side else Shelf()
        self.server_side = server_side
        self.script = Script()
        self.custody = MemoryCustody()
        self.key = KEY
        """That of the next job, under which all in the target lies in the end."""
        self.brings: WrappedKey | AcceptedKey | None = None
        """What the tenant brings instead."""
        self.custody.add(KEY)
        self.custody.switched = self._key_switched
        self.signer: Signer = PemSigner(Ed25519PrivateKey.generate())
        self.former_signers: tuple[PublicKey, ...] = ()
        self.metrics = Counted()
        self.timings = TIMINGS
        self.object_attempts_max = 3
        self.segments_max = 2
        self.region = "us-east-1"
        """Of the stores in the settings."""
        self.service = ""
        """Of all stores in the settings; each has one of its own where it's empty."""
        self.is_aws = False
        """Whether the stores are taken for AWS itself."""
        self.make_store: Callable[[Shelf, str], ObjectStore] = lambda shelf, name: MemoryStore(
            shelf, name=name
        )
        self.keeps_as: Callable[[str], str] = as_it_is
        self.retries = Retries(
            RetryPolicy(attempts_max=3, first_wait_seconds=0), jitter=lambda: 0.0, sleep=asyncio.sleep
        )
        self.shelf.make_bucket(SOURCE.bucket, versioned=versioned, object_lock=object_lock)
        self.target = Location("s3" if server_side else "s4", TARGET_BUCKET, "")
        self.lost: list[str] = []
        """Source objects that were about to be deleted although no equal copy stood in the target."""
        self.guards_deletes = True
        self.writers_stopped = False
        """From before a pause is asked for until a return from it is known: longer than writers really stop."""
        self.at_the_pause: dict[str, Data] = {}
        """What the source held when the latest pause was asked for."""
        self.script.always("delete", bucket=SOURCE.bucket).first_await(self._guard_delete)

    @property
    def key_arn(self) -> str:
        """Where the key is under which all in the target lies in the end."""
        match self.brings:
            case None:
                return self.key.arn
            case AcceptedKey(ref=ref):
                return ref
            case WrappedKey(fingerprint=fingerprint):
                return self.custody.arn_of(fingerprint, self.region)

    def stand_like(self, other: World) -> None:
        """Stand where another world does, whose processes have ended: its ledger, its stores, its keys."""
        for path in other.ledger_path.parent.glob(f"{other.ledger_path.name}*"):
            shutil.copy(
                path, path.with_name(path.name.replace(other.ledger_path.name, self.ledger_path.name, 1))
            )
        self.shelf, self.target_shelf = copy.deepcopy((other.shelf, other.target_shelf))
        self.custody.keys.clear()
        self.custody.keys.update(copy.deepcopy(other.custody.keys))
        self.custody.aliases.clear()
        self.custody.aliases.update(other.custody.aliases)
        self.signer, self.key = other.signer, other.key

    # --- what is there ---

    def put(self, name: str, data: Data) -> None:
        """A writer puts an object into the source."""
        self.put_into(self.shelf, SOURCE.bucket, SOURCE.prefix + name, data)

    def put_versions(self, name: str, *versions: Data | None) -> None:
        """A writer puts these one after another; None is a delete."""
        for data in versions:
            if data is None:
                self.shelf.buckets[SOURCE.bucket].objects.hide(SOURCE.prefix + name)
            else:
                self.put(name, data)

    def source_chains(self) -> dict[str, list[Data | None]]:
        """Every history of the tenant's in the source, oldest first; None is a delete marker."""
        return _chains(self.shelf, SOURCE.bucket, SOURCE.prefix)

    def target_chains(self) -> dict[str, list[Data | None]]:
        """Every history of the tenant's in the target. Each version lies under the key."""
        found = _chains(self.target_shelf, TARGET_BUCKET, "")
        tenants = {name: chain for name, chain in found.items() if not name.startswith(OWN_PREFIX)}
        for name in tenants:
            for stored in self.target_shelf.buckets[TARGET_BUCKET].objects.chain(name):
                assert stored.marker or stored.encryption == Encryption("aws:kms", self.key_arn)
        return tenants

    def put_into(
        self, shelf: Shelf, bucket: str, key: str, data: Data, encryption: Encryption | None = None
    ) -> None:
        """An object appears."""
        attributes = replace(
            data.attributes, headers={"content-type": DEFAULT_CONTENT_TYPE, **data.attributes.headers}
        )
        shelf.buckets[bucket].objects[key] = shelf.make(
            data.content, attributes, encryption or Encryption("AES256"), crc64nvme(data.content)
        )

    def remove(self, name: str) -> None:
        """A writer deletes an object from the source."""
        self.shelf.buckets[SOURCE.bucket].objects.pop(SOURCE.prefix + name, None)

    def fill(self, objects: Mapping[str, Data] | None = None) -> dict[str, Data]:
        """Put objects into the source."""
        found = dict(some_objects() if objects is None else objects)
        for name, data in found.items():
            self.put(name, data)
        return found

    def in_source(self) -> dict[str, Data]:
        """The tenant's objects in the source, by name."""
        objects = self.shelf.buckets[SOURCE.bucket].objects
        return {
            key.removeprefix(SOURCE.prefix): Data(found.data, found.attributes)
            for key, found in objects.items()
            if key.startswith(SOURCE.prefix)
        }

    def in_target(self) -> dict[str, Data]:
        """The tenant's objects in the target, by name. Each lies under the key."""
        if TARGET_BUCKET not in self.target_shelf.buckets:
            return {}
        objects = self.target_shelf.buckets[TARGET_BUCKET].objects
        tenants = {key: found for key, found in objects.items() if not key.startswith(OWN_PREFIX)}
        assert all(found.encryption == Encryption("aws:kms", self.key_arn) for found in tenants.values())
        return {key: Data(found.data, found.attributes) for key, found in tenants.items()}

    def use_another_key(self) -> None:
        self.key = ANOTHER_KEY
        self.custody.add(ANOTHER_KEY)

    def disable_key(self) -> None:
        self.custody.keys[self.key.arn].state = "Disabled"
        self.target_shelf.disabled_keys.add(self.key.arn)

    def _key_switched(self, arn: str, state: str) -> None:
        """The key service switched a key: the store can't use it from then on, or can again."""
        if state == "Enabled":
            self.target_shelf.disabled_keys.discard(arn)
        else:
            self.target_shelf.disabled_keys.add(arn)

    def enable_key(self) -> None:
        self.custody.keys[self.key.arn].state = "Enabled"
        self.target_shelf.disabled_keys.discard(self.key.arn)

    async def _guard_delete(self, call: Call) -> None:
        """The invariant: no source object goes whose equal copy doesn't stand in the target, under the key."""
        objects = self.shelf.buckets[SOURCE.bucket].objects
        for version in call.versions:
            by_id = version.version_id
            found = objects.get(version.key) if by_id is None else objects.find(version.key, by_id)
            if found is None or found.marker or found.etag != version.etag or not self.guards_deletes:
                continue
            copies = self.target_chains().get(version.key.removeprefix(SOURCE.prefix), [])
            if not any(copy is not None and copy.content == found.data for copy in copies):
                self.lost.append(version.key)

    # --- who works there ---

    def message(
        self, job_id: str = "job-1", fields: Mapping[str, object] | None = None, **options: object
    ) -> bytes:
        """A job's message, with these further fields."""
        body = {
            "schema": "rekeyd.job/1",
            "id": job_id,
            "kind": "migrate",
            "tenant": TENANT,
            "source": str(SOURCE),
            "target": str(self.target),
            "key": (self.brings or self.key).model_dump(exclude_none=True),
            "options": options,
            **(fields or {}),
        }
        return json.dumps(body).encode()

    async def admit(
        self,
        ledger: Ledger,
        job_id: str = "job-1",
        *,
        grace_seconds: int = 0,
        fields: Mapping[str, object] | None = None,
        **options: object,
    ) -> None:
        """Admit a job."""
        received = read_job_message(self.message(job_id, fields, **options))
        await ledger.admit(received, SOURCE, self.target, grace_seconds, "upstream")

    async def revoke(
        self,
        ledger: Ledger,
        job_id: str = "revoke-1",
        *,
        principal: str = "upstream",
        not_before: str | None = None,
        **options: object,
    ) -> None:
        """Admit a revocation of the tenant's keys."""
        when = {} if not_before is None else {"not_before": not_before}
        await self._admit_tenant_job(ledger, principal, job_id, "revoke", options=options, **when)

    async def reinstate(
        self,
        ledger: Ledger,
        job_id: str = "reinstate-1",
        undoes: str = "revoke-1",
        key: WrappedKey | None = None,
    ) -> None:
        """Admit a reinstatement, with material that is brought once more perhaps."""
        named = {} if key is None else {"key": key.model_dump(exclude_none=True)}
        await self._admit_tenant_job(ledger, "upstream", job_id, "reinstate", undoes=undoes, **named)

    async def rotate(
        self,
        ledger: Ledger,
        job_id: str = "rotate-1",
        *,
        key: KmsKey | WrappedKey | AcceptedKey | None = ANOTHER_KEY,
        **options: object,
    ) -> None:
        """Admit a rotation to a key, or, without one, of what its provider has rotated."""
        named = {} if key is None else {"key": key.model_dump(exclude_none=True)}
        await self._admit_tenant_job(ledger, "upstream", job_id, "rotate", options=options, **named)

    async def verify_again(self, ledger: Ledger, job_id: str) -> None:
        """Admit a job that reads the tenant's data again."""
        await self._admit_tenant_job(ledger, "upstream", job_id, "verify")

    async def _admit_tenant_job(
        self, ledger: Ledger, principal: str, job_id: str, kind: str, **fields: object
    ) -> None:
        body = {"schema": "rekeyd.job/1", "id": job_id, "kind": kind, "tenant": TENANT, **fields}
        await ledger.admit_tenant_job(read_job_message(json.dumps(body).encode()), principal)

    async def known(self, ledger: Ledger, job_id: str = "job-1") -> bool:
        """Whether the job was admitted."""
        return job_id in [job.id for job in await ledger.jobs()]

    @asynccontextmanager
    async def process(self, name: str = "daemon-1", life: Life | None = None) -> AsyncGenerator[Process]:
        """A process with a ledger connection of its own."""
        ledger = await SqlLedger.open(f"sqlite://{self.ledger_path}")
        process = Process(self, name, ledger, life or Life())
        try:
            yield process
        finally:
            await process.seen_ledger.settle()
            await ledger.close()

    def store(self, name: str, life: Life) -> Store:
        """The store of this name, as one process sees it: retried, mortal, scripted, in memory."""
        shelf = self.shelf if name == "s3" else self.target_shelf
        scripted: ObjectStore = FaultyStore(
            self.make_store(shelf, name),
            self.script,
            keeps_as=self.keeps_as if shelf is self.target_shelf else as_it_is,
        )
        once = GuardedStore(scripted, life)
        control: BucketControl = FaultyControl(MemoryControl(shelf), self.script, name)
        return Store(
            objects=GuardedStore(once, self.retries),
            objects_once=once,
            buckets=GuardedControl(GuardedControl(control, life), self.retries),
            region=self.region,
            service=self.service or name,
            is_aws=self.is_aws,
        )

    def means(self) -> Means:
        async def repeat(call: Callable[[], Awaitable[T]]) -> T:
            return await self.retries.run(READ, call)

        return Means(
            limits=LIMITS,
            reading=Reading(5 * MEBIBYTE, 2, ByteBudget(32 * MEBIBYTE), repeat),
            parts_in_flight_max=2,
            now=lambda: datetime.now(UTC),
            object_attempts_max=self.object_attempts_max,
        )

    async def target_shelf_rules(self) -> BucketRules:
        """The rules of the dedicated bucket, as they are now."""
        return await MemoryControl(self.target_shelf).describe_rules(TARGET_BUCKET)

    async def set_key_kind(self, kind: str) -> None:
        """Have the ledger know the tenant's keys as brought in another way."""
        await self._sql(f"UPDATE keys SET kind = '{kind}'")  # noqa: S608

    async def expire_leases(self) -> None:
        """Time passes: every claim in the ledger has run out."""
        await self._sql(
            "UPDATE jobs SET lease_expires_at = 0 WHERE lease_expires_at IS NOT NULL",
            "UPDATE segments SET lease_expires_at = 0 WHERE lease_expires_at IS NOT NULL",
        )

    async def make_due(self) -> None:
        """Time passes: whatever waits is due."""
        await self._sql("UPDATE jobs SET due_at = 0 WHERE due_at IS NOT NULL")

    async def rewind(self, seconds: int) -> None:
        """Time passes: so much more of it since the switch."""
        await self._sql(f"UPDATE placements SET writes_from = writes_from - {seconds}")  # noqa: S608
        await self.make_due()

    async def claimed(self) -> int:
        """How many claims the ledger knows of."""
        counts = await self._sql(
            "SELECT count(*) FROM jobs WHERE holder IS NOT NULL",
            "SELECT count(*) FROM segments WHERE holder IS NOT NULL",
        )
        return sum(int(count) for (count,) in counts)

    async def segment_holders(self) -> set[str]:
        """Who holds a claim on a segment now."""
        found = await self._sql("SELECT DISTINCT holder FROM segments WHERE holder IS NOT NULL")
        return {str(holder) for (holder,) in found}

    async def leased_segments(self) -> int:
        """How many segments nobody may claim yet."""
        ((count,),) = await self._sql("SELECT count(*) FROM segments WHERE lease_expires_at IS NOT NULL")
        return int(count)

    async def _sql(self, *statements: str) -> list[tuple[Any]]:
        """Beside every process, on a thread: their transactions need the event loop to go on."""

        def run() -> list[tuple[Any]]:
            with closing(sqlite3.connect(self.ledger_path, timeout=20)) as db, db:
                return [row for statement in statements for row in db.execute(statement).fetchall()]

        return await asyncio.to_thread(run)

    # --- how it must end ---

    async def assert_moved(self, ledger: Ledger, expected: Mapping[str, Data], job_id: str = "job-1") -> None:
        """Everything is in the target exactly once and nowhere else, and the trail is whole."""
        job = await ledger.job(job_id)
        assert (job.state, job.phase) == ("completed", "done"), (job.state, job.held_reason, job.error)
        assert sorted(self.in_target()) == sorted(expected)
        for name, data in expected.items():
            self.assert_equal(name, data)
        assert self.in_source() == {}
        assert self.shelf.uploads == {}
        assert self.target_shelf.uploads == {}
        assert self.lost == []
        self.assert_no_proof_left()
        record, _ = await ledger.placement(TENANT)
        assert record is not None
        assert (record.phase, record.target) == ("dedicated", self.target)
        await self.assert_trail(ledger)

    def assert_no_proof_left(self) -> None:
        """What was written to show that the stores heed conditions is gone."""
        for shelf in (self.shelf, self.target_shelf):
            assert shelf.uploads == {}
            for bucket in shelf.buckets.values():
                assert not [key for key in bucket.objects.keys_of_all() if key.startswith(PROOF_PREFIX)]

    def assert_equal(self, name: str, data: Data) -> None:
        found = self.in_target()[name]
        assert found.content == data.content
        assert found.attributes.metadata == data.attributes.metadata
        assert found.attributes.tags == data.attributes.tags
        for header, value in data.attributes.headers.items():
            assert found.attributes.headers[header] == value

    async def assert_trail(self, ledger: Ledger) -> None:
        """The audit chain holds."""
        for chain in await ledger.chains():
            records = [record async for record in ledger.audit_records(chain)]
            assert records
            assert first_broken(chain, records) is None

    async def key_state(self, ledger: Ledger) -> KeyState | None:
        """That of the tenant's key, as the placement shows it."""
        record, _ = await ledger.placement(TENANT)
        return None if record is None else record.key_state

    async def actions(self, ledger: Ledger) -> list[str]:
        """The audit trail's actions."""
        return [record["action"] for record in await self.records(ledger)]

    async def records(self, ledger: Ledger, action: str | None = None) -> list[dict[str, Any]]:
        """The audit trail's records, or those of an action."""
        bodies = [json.loads(record.body) async for record in ledger.audit_records("main")]
        return [body for body in bodies if action in (None, body["action"])]


def _chains(shelf: Shelf, bucket: str, prefix: str) -> dict[str, list[Data | None]]:
    objects = shelf.buckets[bucket].objects
    return {
        key.removeprefix(prefix): [
            None if each.marker else Data(each.data, each.attributes) for each in objects.chain(key)
        ]
        for key in objects.keys_of_all()
        if key.startswith(prefix)
    }


class Process:
    """A daemon's worker, its ledger and its stores."""

    def __init__(self, world: World, name: str, ledger: SqlLedger, life: Life) -> None:
        self.world = world
        self.name = name
        self.direct = ledger
        """The ledger without the life: for looking."""
        self.life = life
        self.seen_ledger = MortalLedger(ledger, life)
        self.seen_ledger.before["change_placement"] = self._stop_writers
        self.seen_ledger.after["change_placement"] = self._let_writers_go_on
        self.tools = Tools(
            ledger=cast("Ledger", self.seen_ledger),
            stores={name: world.store(name, life) for name in ("s3", "s4")},
            custody=world.custody,
            signer=world.signer,
            former_signers=world.former_signers,
            means=world.means(),
            timings=world.timings,
            metrics=world.metrics,
            objects_in_flight=asyncio.Semaphore(4),
            objects_in_flight_max=4,
            work_came=asyncio.Event(),
        )
        self.worker = self._make_worker()

    def _make_worker(self) -> Worker:
        return Worker(self.tools, self.name, jobs_max=2, segments_max=self.world.segments_max)

    async def _stop_writers(self) -> None:
        self.world.writers_stopped = True
        self.world.at_the_pause = self.world.in_source()

    async def _let_writers_go_on(self, changed: PlacementRecord) -> None:
        self.world.writers_stopped = changed.phase != "shared"

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[asyncio.Task[None]]:
        """Work for as long as the context lasts, then stop in good order. Raises what stopped the worker."""
        task = asyncio.create_task(self.worker.run())
        try:
            yield task
        except BaseException:
            await self._stop(task)
            raise
        await self._stop(task)
        task.result()

    async def _stop(self, task: asyncio.Task[None]) -> None:
        self.worker.stop()
        async with asyncio.timeout(HANG_SECONDS):
            await asyncio.wait({task})
        self.worker = self._make_worker()  # one that was stopped is so for good

    async def work(
        self,
        job_id: str = "job-1",
        *,
        until: tuple[JobState, ...] = SETTLED,
        seconds_max: float = HANG_SECONDS,
    ) -> Job:
        """Work until the job is in one of these states; what stops the worker before is raised."""
        async with self.working() as task:
            return await self.reached(until, job_id, task=task, seconds_max=seconds_max)

    async def reached(
        self,
        until: tuple[JobState, ...],
        job_id: str = "job-1",
        *,
        task: asyncio.Task[None] | None = None,
        seconds_max: float = HANG_SECONDS,
    ) -> Job:
        async def there() -> bool:
            if task is not None and task.done():
                task.result()
                raise AssertionError("the worker has stopped")
            known = await self.world.known(self.direct, job_id)
            return known and (await self.direct.job(job_id)).state in until

        await eventually(there, seconds_max)
        return await self.direct.job(job_id)

    async def move(self, **options: object) -> Job:
        """Admit the job and work until it is settled."""
        await self.world.admit(self.direct, **options)  # type: ignore[arg-type] # options of the message
        return await self.work()


async def eventually(condition: Callable[[], Awaitable[bool]], seconds_max: float = HANG_SECONDS) -> None:
    """Wait for what others bring about."""
    async with asyncio.timeout(seconds_max):
        while not await condition():  # noqa: ASYNC110 - the ledger tells nobody
            await asyncio.sleep(0.01)
