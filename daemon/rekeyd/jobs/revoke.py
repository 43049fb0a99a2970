"""The story of a revocation: keys are disabled, the buckets refuse everybody, until nothing can be read any more.

What overtakes the tenant's other work took effect in the ledger already, as the job was admitted. Each step can be
begun again after a crash, and one that fails doesn't keep the others from being tried: what can be closed is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from rekeyd.domain.custody import noted
from rekeyd.domain.errors import CustodyError, ForeignKeyError, KeyForbiddenError, KeyStateError, StoreError
from rekeyd.domain.job import RevokeMessage
from rekeyd.domain.objects import Location
from rekeyd.jobs.bucket_rules import refuse_everybody
from rekeyd.jobs.canaries import readability
from rekeyd.jobs.elsewhere import readable_elsewhere
from rekeyd.jobs.endings import Completed, Ending, Held
from rekeyd.jobs.run import JobRun
from rekeyd.ledger.port import TenantKey, TenantMove

log = structlog.get_logger()

_LOOKS_MAX = 20
"""So often is looked, one `key_check_seconds` apart, before the attempt is held and begun anew."""

_CLOSED = ("empty", "unreadable")


@dataclass(slots=True)
class _Found:
    """What became of each key and bucket."""

    keys: dict[str, str] = field(default_factory=dict)
    """By the reference: `disabled`, `destroyed`, or why it was not touched."""
    buckets: dict[str, str] = field(default_factory=dict)
    """By the name: whether it refuses everybody."""
    faults: list[str] = field(default_factory=list)
    """What couldn't be done now, and is tried again."""


async def revoke(run: JobRun) -> Ending:
    """Make all of the tenant's data unreadable that lies under its keys; give how this attempt ends."""
    message = run.job.message
    assert isinstance(message, RevokeMessage), "the worker's table says so"
    record = await run.tools.ledger.withdraw(run.claim)
    if record.revoked_by != run.job.id:
        return Completed(f"the tenant is revoked already, by {record.revoked_by}: nothing was changed")
    await run.tools.ledger.begin_job(run.claim)
    await run.tools.ledger.enter_phase(run.claim, "withdraw")
    moves = await run.tools.ledger.tenant_moves_of(run.job.tenant)
    found = _Found()
    await _disable_keys(run, found)
    await _close_buckets(run, moves, found)
    held = await _until_unreadable(run, moves, found)
    if held is not None:
        return held
    if message.options.mode == "destroy":
        if run.job.approved_by is None:
            return Held(
                "needs_approval",
                "nothing can be read any more; before the key material is deleted for good, another person than "
                f"{run.job.admitted_by} has to approve it: rekeyd approve {run.job.id}",
                by_itself=False,
            )
        await _destroy_material(run, found)
        if found.faults:
            return _not_done(found)
    return await _ending(run, moves, found)


async def _disable_keys(run: JobRun, found: _Found) -> None:
    """Disable every key under which any of the tenant's data may be, whatever its state."""
    for key in await run.tools.ledger.tenant_keys(run.job.tenant):
        if key.state == "destroyed":
            found.keys[key.ref] = "destroyed"
        elif key.arn is None:
            found.keys[key.ref] = "never imported"
            await run.tools.ledger.withdraw_key(run.claim, key.ref, "revoked", {"did": "never imported"})
        else:
            await _disable(run, key, key.arn, found)


async def _disable(run: JobRun, key: TenantKey, arn: str, found: _Found) -> None:
    try:
        switched = await run.tools.custody.disable(run.errand, arn)
    except (ForeignKeyError, KeyForbiddenError) as error:
        if key.kind != "kms":
            # We made it, and are to switch it: a role or a policy is amiss.
            found.faults.append(f"{key.ref}: {error}")
            return
        # The tenant's own key: its owner decides who may switch it off.
        did, requests = f"not touched: {error}", error.requests
    except KeyStateError as error:
        if error.state != "missing":
            found.faults.append(f"{key.ref}: {error}")
            return
        did, requests = f"gone: {error}", error.requests
    except CustodyError as error:
        log.warning("key_not_disabled", job=run.job.id, key=key.ref, error=str(error))
        found.faults.append(f"{key.ref}: {error}")
        return
    else:
        did, requests = "disabled", switched.requests
    found.keys[key.ref] = did
    await run.tools.ledger.withdraw_key(
        run.claim, key.ref, "revoked", {"did": did, "requests": noted(requests)}
    )


async def _close_buckets(run: JobRun, moves: Sequence[TenantMove], found: _Found) -> None:
    """Have each dedicated bucket refuse everybody: what holds where a key isn't ours to disable."""
    for target in targets_of(moves):
        try:
            closed = await refuse_everybody(run.tools.store_of(target), target.bucket, run.kept)
        except StoreError as error:
            log.warning("bucket_not_closed", job=run.job.id, bucket=target.bucket, error=str(error))
            found.faults.append(f"{target.bucket}: {error}")
        else:
            found.buckets[target.bucket] = (
                "refuses everybody" if closed else "the store has no bucket policies"
            )


async def _until_unreadable(run: JobRun, moves: Sequence[TenantMove], found: _Found) -> Held | None:
    """Try to read, until it fails everywhere; then say since when, and how long that took."""
    keys = await run.tools.ledger.tenant_keys(run.job.tenant)
    arns = [key.arn for key in keys if key.arn is not None]
    doubtful: list[str] = []
    for _ in range(_LOOKS_MAX):
        seen = {t: await readability(run.tools.store_of(t), t, arns) for t in targets_of(moves)}
        doubtful = [f"{target.bucket} is {word}" for target, word in seen.items() if word not in _CLOSED]
        if not doubtful and found.faults:
            # Refused to us it may be readable to others, as long as not everything was withdrawn.
            return _not_done(found)
        if not doubtful:
            await _note_effect(run, found, [target.bucket for target in seen])
            return None
        await asyncio.sleep(run.tools.timings.key_check_seconds)
    return Held("still_readable", "; ".join([*doubtful, *found.faults]))


async def _note_effect(run: JobRun, found: _Found, buckets: Sequence[str]) -> None:
    """The revocation is effective: measured from when it was admitted. Seen before, it was so then."""
    ledger, job = run.tools.ledger, await run.tools.ledger.job(run.job.id)
    if job.result is not None:
        return  # it was so before
    asked_at = job.created_at if job.message.not_before is None else job.message.not_before.timestamp()
    seconds = round(max(await ledger.now() - asked_at, 0.0), 3)
    run.tools.metrics.observe_revocation(seconds)
    effect = {"effective_seconds": seconds, "unreadable": sorted(buckets), "keys": found.keys}
    await ledger.note_result(run.claim, "revocation.effective", effect | {"buckets": found.buckets})
    log.info("revocation_effective", job=job.id, tenant=job.tenant, seconds=seconds)


async def _destroy_material(run: JobRun, found: _Found) -> None:
    """Delete what was imported. A key whose material isn't ours to delete stays disabled, and is named."""
    for key in await run.tools.ledger.tenant_keys(run.job.tenant):
        if key.state == "destroyed" or key.arn is None:
            continue
        try:
            switched = await run.tools.custody.delete_material(run.errand, key.arn)
        except ForeignKeyError as error:
            found.keys[key.ref] = (
                f"{found.keys.get(key.ref, 'disabled')}; its material isn't ours to delete: {error}"
            )
        except CustodyError as error:
            found.faults.append(f"{key.ref}: {error}")
        else:
            found.keys[key.ref] = "destroyed"
            details = {
                "did": "material deleted",
                "requests": noted(switched.requests),
                "approved_by": run.job.approved_by,
            }
            await run.tools.ledger.withdraw_key(run.claim, key.ref, "destroyed", details)


async def _ending(run: JobRun, moves: Sequence[TenantMove], found: _Found) -> Ending:
    """Done once nobody's former claim can have a call under way, and what can be read elsewhere is accepted."""
    ledger = run.tools.ledger
    elsewhere = await readable_elsewhere(run.tools, moves)
    job = await ledger.job(run.job.id)
    result = dict(job.result or {}) | {
        "keys": found.keys,
        "buckets": found.buckets,
        "readable_elsewhere": elsewhere,
        "accepted_by": job.accepted_by,
        "approved_by": job.approved_by,
    }
    await ledger.note_result(run.claim, "revocation.result", result)
    if elsewhere and job.accepted_by is None:
        words = f"can be read still: {'; '.join(elsewhere)}. Accept it: rekeyd approve {job.id}"
        # Not looked at again by itself: whoever approves it must find it waiting.
        return Held("readable_elsewhere", words, by_itself=False)
    if await _outwait_others(run):
        # Whoever lost its claim may have had a call under way until then: one that opened a bucket, or made one.
        found.faults.clear()
        await _disable_keys(run, found)
        await _close_buckets(run, moves, found)
        held = await _until_unreadable(run, moves, found)
        if held is not None:
            return held
    await ledger.enter_phase(run.claim, "done")
    untouched = [f"{ref}: {did}" for ref, did in found.keys.items() if did.startswith("not touched")]
    return Completed("; ".join([*untouched, *(f"readable: {each}" for each in elsewhere)]) or None)


async def _outwait_others(run: JobRun) -> bool:
    """Wait until nobody else has a lease on anything of the tenant's; gives whether anybody had."""
    waited = False
    while left_seconds := await run.tools.ledger.other_claims_end_in(run.claim):
        waited = True
        await asyncio.sleep(left_seconds)
    return waited


def targets_of(moves: Sequence[TenantMove]) -> list[Location]:
    """The dedicated buckets, each once."""
    return list({(move.target.store, move.target.bucket): move.target for move in moves}.values())


def _not_done(found: _Found) -> Held:
    return Held("custody_unavailable", "; ".join(found.faults))
