"""Backups go on while a tenant moves: the target ends with what the source had at the pause, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from dataclasses import dataclass, field

import pytest

from rekeyd.demo.load import Loaded
from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import Placement
from tests.doubles.weather import Weather, fair
from tests.e2e.harness import LedgerView, Scene, Tenant, mixed_items, small_items
from tests.e2e.middle import FREE, PATIENT, WRITES, stalls_all_but_a_few
from tests.e2e.test_kills import JOB, SLOWLY

pytestmark = pytest.mark.asyncio(loop_scope="session")

WRITE_SECONDS_MAX = 4.0
HEADERS = {"content-type": "binary/octet-stream"}


async def test_what_changes_amid_copying_ends_as_it_was_at_the_pause(scene: Scene) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(endpoint=weather.endpoint_url, target_store="s3b", limits=SLOWLY | PATIENT)
        acme = await scene.tenant("acme", mixed_items())
        keys = sorted(acme.loaded)
        small = [key for key in keys if key.startswith("2026/")]
        weather.forecast = stalls_all_but_a_few(acme.target, acme.loaded, WRITES)
        await scene.send(acme.message())
        async with scene.serving(), scene.ledger() as ledger:
            await ledger.until_copying(JOB, verified_min=FREE)
            # The first ones have been carried by now, the last ones haven't.
            for key in (small[0], small[1], small[-1], "images/0.img"):
                await scene.put(acme, key, f"overwritten {key}".encode())
            for key in (small[2], small[-2], "images/1.img"):
                await scene.delete(acme, key)
            await scene.delete(acme, small[3])
            await scene.put(acme, small[3], b"deleted, and written anew")
            for key in ("2026/00-first", "zz-last", "images/new"):
                await scene.put(acme, key, f"new {key}".encode())
            job = await ledger.job(JOB)
            assert job is not None
            assert job.phase == "copy"
            weather.forecast = fair

            done = await ledger.until_state(JOB, "completed")
        assert done.counts.objects_deleted == len(acme.loaded)
        await scene.assert_moved(acme)
        await scene.assert_audit_whole()


@dataclass(slots=True)
class BackupService:
    """Writes and reads all the time, and keeps the placement protocol: it acts on good records alone."""

    scene: Scene
    ledger: LedgerView
    tenant: Tenant
    dice: random.Random
    record: Placement | None = None
    written: dict[str, int] = field(default_factory=lambda: {"shared": 0, "dedicated": 0})
    changed_in_target: set[str] = field(default_factory=set)

    async def work(self, enough: asyncio.Event) -> None:
        while not (enough.is_set() and self.written["dedicated"] >= 20):
            await self.write_one()
            await self.read_one()

    async def good_record(self) -> Placement:
        """A record that hasn't expired. No epoch lower than one seen is accepted."""
        while self.record is None or time.time() >= self.record.expires_at:
            found = await self.ledger.placement(self.tenant.name)
            assert found is not None
            assert self.record is None or found.epoch >= self.record.epoch
            self.record = found
        return self.record

    async def write_one(self) -> None:
        record = await self.good_record()
        begins = record.writes_from or 0
        if not record.writes or time.time() < begins:
            await asyncio.sleep(0.01)
            return
        await self.change(record.writes[0], record.phase)

    async def change(self, where: Location, phase: str) -> None:
        s3, loaded = self.scene.clients.s3, self.tenant.loaded
        key = self.dice.choice([*sorted(loaded), f"new-{self.dice.randrange(200)}"])
        async with asyncio.timeout(WRITE_SECONDS_MAX):
            if self.dice.random() < 0.1 and key in loaded:
                await s3.delete_object(Bucket=where.bucket, Key=where.prefix + key)
                del loaded[key]
            else:
                body = self.dice.randbytes(self.dice.randrange(2000))
                await s3.put_object(
                    Bucket=where.bucket,
                    Key=where.prefix + key,
                    Body=body,
                    ContentType=HEADERS["content-type"],
                )
                loaded[key] = Loaded(len(body), hashlib.sha256(body).hexdigest(), HEADERS, {}, {})
        self.written[phase] += 1
        if phase == "dedicated":
            self.changed_in_target.add(key)

    async def read_one(self) -> None:
        """Whatever was acknowledged is read, at every moment of the move."""
        key = self.dice.choice(sorted(self.tenant.loaded))
        where = (await self.good_record()).reads[0]
        answer = await self.scene.clients.s3.get_object(Bucket=where.bucket, Key=where.prefix + key)
        async with answer["Body"] as body:
            digest = hashlib.sha256(await body.read()).hexdigest()
        assert digest == self.tenant.loaded[key].sha256, key


async def test_writers_that_keep_the_protocol_lose_nothing(scene: Scene) -> None:
    await scene.open(
        migrate={"write_seconds_max": WRITE_SECONDS_MAX, "pass_objects_small": 5, "passes_max": 3}
    )
    acme = await scene.tenant("acme", small_items(300))
    async with scene.ledger() as ledger:
        await scene.admit(acme.message())
        enough = asyncio.Event()
        service = BackupService(scene, ledger, acme, random.Random(7))
        async with scene.serving(), asyncio.TaskGroup() as group:
            group.create_task(service.work(enough))
            done = await ledger.until_state(JOB, "completed")
            enough.set()
    assert min(service.written.values()) > 0
    await scene.assert_holds(acme, acme.loaded)
    left = set(await scene.keys_in(acme.source))
    assert left <= service.changed_in_target
    assert done.counts.objects_deleted > 0
    if left:
        assert done.error is not None
        assert "still holds" in done.error
