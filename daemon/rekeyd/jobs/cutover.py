"""The pause and the switch: the only time in which writers wait, bounded, measured, and safe to die in."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial

import structlog

from rekeyd.domain.audit import canonical_json
from rekeyd.domain.control import ControlDocument
from rekeyd.domain.errors import ConflictError
from rekeyd.domain.tenant import PlacementRecord, dedicate, end_pause, pause
from rekeyd.jobs.control import write_control
from rekeyd.jobs.endings import Held
from rekeyd.jobs.passes import make_pass
from rekeyd.jobs.provision import OTHER_BUCKET, canary_reads
from rekeyd.jobs.run import JobRun

log = structlog.get_logger()


async def cut_over(run: JobRun) -> PlacementRecord | Held | None:
    """Pause the writers, make the last pass, publish the target, open it for writing.

    None where the pause was over before that: the writers go on in the source, and it may be tried again.
    """
    await run.tools.ledger.enter_phase(run.claim, "pause")
    proposed = await run.tools.ledger.propose_pause(run.claim)
    # While writers go on still: an unreachable target costs them nothing.
    held = await write_control(run, proposed)
    if held is not None:
        return held
    loop = asyncio.get_running_loop()
    began_at, waiting_seconds = loop.time(), 0.0
    try:
        switched = await _switched_in_a_pause(run, proposed)
        if isinstance(switched, PlacementRecord):
            switched = await open_target(run, switched)
        if isinstance(switched, PlacementRecord):
            # Until then no writer may write, so that no reader looks at the source any more.
            waiting_seconds = run.tools.timings.placement_ttl_seconds
        return switched
    finally:
        run.tools.metrics.observe_pause(loop.time() - began_at + waiting_seconds)


async def open_target(run: JobRun, switched: PlacementRecord) -> PlacementRecord | Held:
    """End a switch that was committed: the control object says so, too, and the writers may write to the target.

    Repeating it changes nothing more. Until it is done nobody writes: whoever takes the job over begins with it.
    """
    if switched.writes_from is not None:
        return switched
    known = await run.tools.ledger.known_control(run.claim)
    assert known.proposed is not None, "dedicated without a proposal"
    held = await write_control(run, known.proposed)
    if held is not None:
        return held
    opened = await run.tools.ledger.open_writes(run.claim, run.tools.timings.placement_ttl_seconds)
    log.info("switched", job=run.job.id, tenant=run.job.tenant, epoch=opened.epoch)
    return opened


async def _switched_in_a_pause(run: JobRun, proposed: ControlDocument) -> PlacementRecord | Held | None:
    seconds = run.tools.timings.pause_seconds_max
    try:
        async with asyncio.timeout(seconds):
            paused = await run.tools.ledger.change_placement(run.claim, partial(_pause_anew, seconds=seconds))
            assert paused.epoch == proposed.epoch, "a pause that wasn't proposed"
            switched = await _last_pass_and_switch(run, paused)
    except (TimeoutError, ConflictError) as error:
        ended = await _end_pause(run)
        if ended.phase == "dedicated":
            return ended  # it was cut short amid its commit
        log.warning("pause_given_up", job=run.job.id, tenant=run.job.tenant, error=str(error))
        return None
    except BaseException:
        await _end_pause(run)
        raise
    if isinstance(switched, Held):
        await _end_pause(run)
    return switched


async def _end_pause(run: JobRun) -> PlacementRecord:
    """Let the writers go on, unless the switch was committed; gives the placement as it is then.

    Under the ledger's write lock, so it comes after a pause or a switch whose commit we were cut off from.
    """
    return await run.tools.ledger.change_placement(run.claim, end_pause)


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
    return await run.tools.ledger.switch(run.claim, partial(dedicate, pause_epoch=paused.epoch))


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
