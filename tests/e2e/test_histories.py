"""A versioned bucket moves with all its histories, while writers go on adding to them and daemons die."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from rekeyd.domain.tenant import Placement
from tests.doubles.weather import Asked, Fault, Forecast, Weather, fair
from tests.e2e.harness import LedgerView, Scene, Tenant
from tests.e2e.test_kills import JOB, SLOWLY
from tests.e2e.versions import Histories, without_idle_markers

pytestmark = pytest.mark.asyncio(loop_scope="session")

WRITE_SECONDS_MAX = 4.0
ONE_AT_A_TIME = SLOWLY | {"objects_in_flight_max": 1, "lease_seconds": 5}


@dataclass(slots=True)
class VersionWriter:
    """Adds versions and markers all the time, where a good record says; what it was acknowledged is on record."""

    ledger: LedgerView
    tenant: Tenant
    histories: Histories
    dice: random.Random
    record: Placement | None = None
    written: dict[str, int] = field(default_factory=lambda: {"shared": 0, "dedicated": 0})
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self) -> None:
        while not (self.enough.is_set() and self.written["dedicated"] >= 5):
            await self._write_one()
            await asyncio.sleep(self.dice.uniform(0.0, 0.05))

    async def _write_one(self) -> None:
        if self.record is None or time.time() >= self.record.expires_at:
            self.record = await self.ledger.placement(self.tenant.name)
        record = self.record
        if record is None or not record.writes or time.time() < (record.writes_from or 0):
            return
        where, key = record.writes[0], f"live/{self.dice.randrange(8)}"
        history = self.histories.written.get(key, [])
        async with asyncio.timeout(WRITE_SECONDS_MAX):
            if history and history[-1] is not None and self.dice.random() < 0.3:
                await self.histories.delete(where, key)
            else:
                await self.histories.put(where, key, self.dice.randbytes(self.dice.randrange(200)))
        self.written[record.phase] += 1


@pytest.mark.parametrize("target_store", ["s3", "s3b"], ids=["server_side", "streaming"])
async def test_histories_move_whole_among_writers_and_kills(scene: Scene, target_store: str) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await moved_among_writers_and_kills(scene, weather, target_store)


def stalls_second_delete(weather: Weather, source: str) -> Forecast:
    """Amid the deletes: some versions are gone, newer ones of the same keys are not."""

    def forecast(asked: Asked) -> Fault | None:
        of_source = asked.operation == "DeleteObjects" and asked.target.startswith(f"/{source}")
        return "stalled" if of_source and weather.seen["DeleteObjects"] else None

    return forecast


async def moved_among_writers_and_kills(scene: Scene, weather: Weather, target_store: str) -> None:
    await scene.open(
        target_store=target_store,
        endpoint=weather.endpoint_url,
        limits=ONE_AT_A_TIME,
        migrate={"write_seconds_max": WRITE_SECONDS_MAX, "pass_objects_small": 10, "passes_max": 3},
    )
    acme = await scene.tenant("acme", [])
    histories = Histories(scene)
    await histories.make_all_kinds(acme)
    await scene.admit(acme.message())
    async with scene.ledger() as ledger, asyncio.TaskGroup() as group:
        writer = VersionWriter(ledger, acme, histories, random.Random(20261125))
        group.create_task(writer.work())
        async with scene.serving() as served:
            await ledger.until_copying(JOB, verified_min=5)
            await served.daemon.kill()
        async with scene.serving() as served:
            await served.until_logged("switched")
            weather.seen.clear()
            weather.forecast = stalls_second_delete(weather, acme.source.bucket)
            await weather.until_suffered("DeleteObjects", "stalled")
            await served.daemon.kill()
        weather.forecast = fair
        left = await histories.found(acme.source)
        assert 0 < sum(map(len, left.values())) < sum(map(len, histories.written.values()))
        async with scene.serving():
            done = await ledger.until_state(JOB, "completed")
            writer.enough.set()
    assert done.counts.objects_verified + done.counts.objects_excluded == done.counts.objects_listed
    assert min(writer.written.values()) > 0
    expected = {key: without_idle_markers(history) for key, history in histories.written.items()}
    found = await histories.found(acme.target)
    assert sorted(found) == sorted(expected)
    assert [key for key in expected if found[key] != expected[key]] == []
    left = await histories.found(acme.source)
    # Only what a writer has replaced in the target since the switch may remain, and is reported.
    assert {key.partition("/")[0] for key in left} <= {"live"}
    assert bool(left) == ("still holds" in str(done.error))
    await scene.assert_audit_whole()


async def test_locks_travel_and_what_they_keep_is_reported(scene: Scene) -> None:
    """A source with Object Lock: the target has one, locks travel, and what is locked stays where it was."""
    await scene.open(object_lock=True)
    acme = await scene.tenant("acme", [])
    histories, s3 = Histories(scene), scene.clients.s3
    until_then = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    source, prefix = acme.source.bucket, acme.source.prefix
    await histories.put(acme.source, "free", b"first")
    await histories.put(acme.source, "free", b"second")
    retained = await s3.put_object(
        Bucket=source,
        Key=f"{prefix}retained",
        Body=b"retained",
        ObjectLockMode="GOVERNANCE",
        ObjectLockRetainUntilDate=until_then,
    )
    await s3.put_object(Bucket=source, Key=f"{prefix}held", Body=b"held", ObjectLockLegalHoldStatus="ON")
    histories.written |= {"retained": [b"retained"], "held": [b"held"]}
    await scene.admit(acme.message())
    async with scene.serving(), scene.ledger() as ledger:
        done = await ledger.until_state(JOB, "completed")
    assert await histories.found(acme.target) == histories.written
    assert await histories.found(acme.source) == {"retained": [b"retained"], "held": [b"held"]}
    assert "still holds" in str(done.error)
    assert done.counts.objects_deleted == 1
    target = acme.target.bucket
    configured = await s3.get_object_lock_configuration(Bucket=target)
    assert configured["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled"
    copy = await s3.head_object(Bucket=target, Key="retained")
    assert (copy["ObjectLockMode"], copy["ObjectLockRetainUntilDate"]) == ("GOVERNANCE", until_then)
    assert (await s3.head_object(Bucket=target, Key="held"))["ObjectLockLegalHoldStatus"] == "ON"
    for bucket, key, version_id in (
        (source, f"{prefix}retained", retained["VersionId"]),
        (target, "retained", copy["VersionId"]),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            await s3.delete_object(Bucket=bucket, Key=key, VersionId=version_id)
