"""The story of a migration, from its claim to its end. Each chapter can be begun again after a crash."""

from __future__ import annotations

import asyncio

import structlog

from rekeyd.domain.errors import StoreError
from rekeyd.domain.job import Job
from rekeyd.domain.tenant import PlacementRecord
from rekeyd.jobs.bring import bring_key, lead_alias
from rekeyd.jobs.certify import certify, remark_of
from rekeyd.jobs.conditions import prove_conditions
from rekeyd.jobs.control import examine_control
from rekeyd.jobs.cutover import cut_over, open_target
from rekeyd.jobs.drift import dedicated_drift
from rekeyd.jobs.endings import Completed, Ending, Failed, Held, Waiting
from rekeyd.jobs.passes import make_pass
from rekeyd.jobs.preflight import Ready, preflight
from rekeyd.jobs.provision import canary_reads, provision
from rekeyd.jobs.refusals import refused_elsewhere
from rekeyd.jobs.run import JobRun, first_of
from rekeyd.jobs.watch import check_key, watch_key

log = structlog.get_logger()

_PAUSES_MAX = 5
"""After so many pauses in a row whose time was too short, a person should look at the settings."""


async def migrate(run: JobRun) -> Ending:
    """Move the job's tenant; give how this attempt ends."""
    unbrought = await bring_key(run)
    if unbrought is not None:
        return unbrought
    record, now = await run.tools.ledger.placement(run.job.tenant)
    if record is not None and run.job.phase == "grace":
        left_seconds = _grace_left_seconds(run, record, now)
        if left_seconds > run.tools.timings.lease_seconds:
            return await _look_while_waiting(run, left_seconds)
    begun = await run.tools.ledger.current_pass(run.claim) is not None
    await run.tools.ledger.enter_phase(run.claim, "preflight")
    dedicated = record is not None and record.phase == "dedicated"
    if record is not None and dedicated and _leads_elsewhere(run.job, record):
        return Failed(
            f"the tenant is dedicated already, from {record.source} in {record.target}, {record.key_ref}"
        )
    ready = await preflight(run.tools, run.job, begun=begun, dedicated=dedicated)
    if isinstance(ready, Held):
        return ready
    unknown = await examine_control(run)
    if isinstance(ready, Failed):
        # A ledger that has forgotten its copies takes them for somebody else's objects.
        return unknown if unknown is not None and unknown.reason == "ledger_behind" else ready
    if unknown is not None:
        return unknown
    run.source_versioned = ready.source.versioning == "enabled"
    await run.tools.ledger.begin_job(run.claim)
    return await first_of(
        _move(run, record, ready),
        watch_key(run.tools, run.job, ready.region),
        run.obstacle(),
        refused_elsewhere(run),
    )


def _leads_elsewhere(job: Job, record: PlacementRecord) -> bool:
    """Whether the tenant was moved by another job's terms: what is verified is so under that one's key."""
    wanted = (job.source, job.target, job.key_ref)
    return (record.source, record.target, record.key_ref) != wanted


async def _move(run: JobRun, record: PlacementRecord | None, ready: Ready) -> Ending:
    if record is None or record.phase != "dedicated":
        unfit = await _provision(run, ready)
        if unfit is not None:
            return unfit
        switched = await _catch_up(run)
    else:
        switched = await open_target(run, record)
    if isinstance(switched, Held):
        return switched
    waiting = await _grace(run, switched)
    if waiting is not None:
        return waiting
    return await first_of(_retire(run, switched), _watch_target(run))


async def _provision(run: JobRun, ready: Ready) -> Held | Failed | None:
    """Make the dedicated bucket, and have the stores show that they heed conditions."""
    await run.tools.ledger.enter_phase(run.claim, "provision")
    provisioned = await provision(run, ready)
    if isinstance(provisioned, Held):
        return provisioned
    unheeded = await prove_conditions(run, ready)
    if unheeded is not None:
        return unheeded
    await lead_alias(run)
    await run.tools.ledger.set_key_state(run.claim, "active")
    run.checks_checksums = provisioned.checks_checksums
    return None


async def _catch_up(run: JobRun) -> PlacementRecord | Held:
    """Passes until one finds little, then the pause; and again, where the pause was too short for what came.

    In between the writers have their peace: pauses that follow one another at once would be one long one to them.
    """
    timings = run.tools.timings
    for tried in range(_PAUSES_MAX):
        if tried:
            await asyncio.sleep(timings.pause_rest_seconds)
        await run.tools.ledger.enter_phase(run.claim, "copy")
        for _ in range(timings.passes_max):
            found = await make_pass(run, None)
            if isinstance(found, Held):
                return found
            if (
                found.changed_objects <= timings.pass_objects_small
                and found.changed_bytes <= timings.pass_bytes_small
            ):
                break
        switched = await cut_over(run)
        if switched is not None:
            return switched
    error = f"{_PAUSES_MAX} pauses in a row ended before all was verified; the log has the reason of each"
    return Held("pause_too_short", error, by_itself=False)


async def _grace(run: JobRun, record: PlacementRecord) -> Waiting | None:
    """Keep the source for as long as it is to be kept: a long time without a claim, due whenever its key is."""
    await run.tools.ledger.enter_phase(run.claim, "grace")
    left_seconds = _grace_left_seconds(run, record, await run.tools.ledger.now())
    if left_seconds > run.tools.timings.lease_seconds:
        return _waiting(run, left_seconds)
    await asyncio.sleep(max(left_seconds, 0.0))
    return None


def _grace_left_seconds(run: JobRun, record: PlacementRecord, now: float) -> float:
    """How long the source is still to be kept, counted from when the switch took effect for everybody."""
    assert record.writes_from is not None, "in its grace without a switch"
    return record.writes_from + run.job.grace_seconds - now


def _waiting(run: JobRun, left_seconds: float) -> Waiting:
    return Waiting(min(left_seconds, run.tools.timings.held_recheck_seconds))


async def _look_while_waiting(run: JobRun, left_seconds: float) -> Waiting | Held:
    """Look at nothing but key and bucket: who switches the one off, or opens the other, sees the job held at once."""
    held = await check_key(run.tools, run.job, None)
    if held is not None:
        return held
    try:
        drift = await _target_drift(run)
    except StoreError as error:
        log.warning("bucket_not_looked_at", job=run.job.id, tenant=run.job.tenant, error=str(error))
        drift = ""
    if drift:
        return Held("drift", drift)
    await run.tools.ledger.begin_job(run.claim)
    return _waiting(run, left_seconds)


async def _retire(run: JobRun, record: PlacementRecord) -> Ending:
    """Delete the verified source versions, then look once more at what the source holds, and certify all of it."""
    ledger = run.tools.ledger
    await ledger.enter_phase(run.claim, "retire")
    if not await canary_reads(run.tools, run.job):
        return Held("drift", "the canary in the target is gone, or isn't the tenant's")
    drift = await _target_drift(run)
    if drift:
        return Held("drift", drift)
    while await ledger.plan_retirement(run.claim):
        run.tools.work_came.set()
        await asyncio.sleep(run.tools.timings.poll_seconds)
    await ledger.enter_phase(run.claim, "certify")
    certified = await certify(run, record)
    if isinstance(certified, Held):
        return certified
    await ledger.enter_phase(run.claim, "done")
    return Completed(remark_of(certified))


async def _watch_target(run: JobRun) -> Held:
    """Look again and again at what protects the copies while their sources go; ends with what no longer does."""
    while True:
        await asyncio.sleep(run.tools.timings.key_watch_seconds)
        try:
            drift = await _target_drift(run)
        except StoreError as error:
            log.warning("bucket_not_looked_at", job=run.job.id, tenant=run.job.tenant, error=str(error))
            continue
        if drift:
            return Held("drift", drift)


async def _target_drift(run: JobRun) -> str:
    """What no longer protects the copies, before their sources go."""
    job = run.job
    keys = await run.tools.ledger.tenant_keys(job.tenant)
    others = sorted(key.arn for key in keys if key.arn not in (None, job.key.arn) and key.arn is not None)
    return await dedicated_drift(run.tools.target_of(job), job.target.bucket, job.tenant, job.key.arn, others)
