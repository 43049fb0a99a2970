"""The pause and the switch: the only time in which writers wait, bounded, measured, and safe to die in."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial

import structlog

from rekeyd.domain.audit import canonical_json
from rekeyd.domain.errors import ConflictError
from rekeyd.domain.tenant import PlacementRecord, dedicate, end_pause, pause
from rekeyd.jobs.endings import Held
from rekeyd.jobs.passes import make_pass
from rekeyd.jobs.provision import OTHER_BUCKET, canary_reads
from rekeyd.jobs.run import JobRun

log = structlog.get_logger()


async def cut_over(run: JobRun) -> PlacementRecord | Held | None:
    """Pause the writers, make the last pass, publish the target.

    None where the pause was over before that: the writers go on in the source, and it may be tried again.
    """
    timings, ledger = run.tools.timings, run.tools.ledger
    await ledger.enter_phase(run.claim, "pause")
    paused = await ledger.change_placement(run.claim, partial(_pause_anew, seconds=timings.pause_seconds_max))
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    try:
        async with asyncio.timeout(timings.pause_seconds_max):
            return await _last_pass_and_switch(run, paused)
    except (TimeoutError, ConflictError) as error:
        log.warning("pause_given_up", job=run.job.id, tenant=run.job.tenant, error=str(error))
        return None
    finally:
        record, now = await ledger.placement(run.job.tenant)
        waiting_seconds = 0.0
        if record is not None and record.phase == "paused":
            await ledger.change_placement(run.claim, end_pause)
        elif record is not None and record.writes_from is not None:
            # Dedicated: writers wait until no reader looks at the source any more.
            waiting_seconds = max(record.writes_from - now, 0.0)
        run.tools.metrics.observe_pause(loop.time() - began_at + waiting_seconds)


def _pause_anew(record: PlacementRecord, now: float, seconds: float) -> PlacementRecord:
    """A pause that a dead daemon left is ended first: how much of its time is gone, nobody here knows."""
    return pause(end_pause(record, now), now, seconds)


async def _last_pass_and_switch(run: JobRun, paused: PlacementRecord) -> PlacementRecord | Held:
    await _await_writers(run)
    found = await make_pass(run, paused.epoch)
    if isinstance(found, Held):
        return found
    await _abort_unfinished_uploads(run)
    if not await canary_reads(run.tools, run.job):
        return OTHER_BUCKET
    await run.tools.ledger.enter_phase(run.claim, "switch")
    step = partial(dedicate, pause_epoch=paused.epoch, ttl_seconds=run.tools.timings.placement_ttl_seconds)
    switched = await run.tools.ledger.switch(run.claim, step)
    log.info("switched", job=run.job.id, tenant=run.job.tenant, epoch=switched.epoch)
    return switched


async def _await_writers(run: JobRun) -> None:
    """Wait until nobody writes any more, counted on the database's clock from a time read after the pause's commit.

    Every record that allowed writing has expired by then, and the longest write begun under one has ended.
    """
    timings, ledger = run.tools.timings, run.tools.ledger
    still_at = await ledger.now() + timings.placement_ttl_seconds + timings.write_seconds_max
    while (left_seconds := still_at - await ledger.now()) > 0:  # noqa: ASYNC110 - the clock is the database's
        await asyncio.sleep(left_seconds)


async def _abort_unfinished_uploads(run: JobRun) -> None:
    """Uploads that a dead daemon, or an abort that failed, left in the target: until the switch all are ours."""
    target = run.job.target
    objects = run.tools.target_of(run.job).objects
    uploads = await objects.list_uploads(target.bucket, target.prefix)
    if not uploads:
        return
    named = canonical_json([[upload.key, upload.upload_id] for upload in uploads])
    details = {
        "bucket": target.bucket,
        "uploads": len(uploads),
        "sha256": hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest(),
    }
    await run.tools.ledger.record_action(run.claim, "uploads.abort_intended", details)
    for upload in uploads:
        await objects.abort_upload(upload, claim=run.kept)
