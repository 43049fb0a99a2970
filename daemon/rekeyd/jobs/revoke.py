"""The story of a revocation: keys are disabled, the buckets refuse everybody, until nothing can be read any more.

What overtakes the tenant's other work took effect in the ledger already, as the job was admitted. Each step can be
begun again after a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import structlog

from rekeyd.domain.custody import noted
from rekeyd.domain.errors import CustodyError, ForeignKeyError, KeyForbiddenError, KeyStateError
from rekeyd.domain.job import RevokeMessage
from rekeyd.jobs.closing import Closed, close_all
from rekeyd.jobs.elsewhere import readable_elsewhere
from rekeyd.jobs.endings import Completed, Ending, Held
from rekeyd.jobs.run import JobRun
from rekeyd.jobs.switching_off import MISSING
from rekeyd.ledger.port import TenantKey, TenantMove

log = structlog.get_logger()

_EFFECTIVE = "effective_seconds"
_CLOSED_AGAIN = "closed_again"
_FOUND_OPEN = "found_open"
_REVOKED_ALREADY_BY = "revoked_already_by"
"""As the ledger notes it: the job that had revoked the tenant when this one took effect."""


async def revoke(run: JobRun) -> Ending:
    """Make all of the tenant's data unreadable that lies under its keys; give how this attempt ends."""
    message, ledger = run.job.message, run.tools.ledger
    assert isinstance(message, RevokeMessage), "the worker's table says so"
    record = await ledger.withdraw(run.claim)
    await ledger.begin_job(run.claim)
    await ledger.enter_phase(run.claim, "withdraw")
    others_were_there = await ledger.other_claims_end_in(run.claim) > 0
    closed = await close_all(run)
    if not closed.is_proven:
        return _not_closed(closed)
    is_ours = record.revoked_by == run.job.id
    if is_ours:
        await _note_effect(run, closed)
    if others_were_there:
        closed = await _close_after_others(run)
        if not closed.is_proven:
            return _not_closed(closed)
    if not is_ours:
        return await _ending_of_another(run, closed)
    if message.options.mode == "destroy":
        if run.job.approved_by is None:
            return Held(
                "needs_approval",
                "nothing can be read any more; before the key material is deleted for good, another person than "
                f"{run.job.admitted_by} has to approve it: rekeyd approve {run.job.id}",
                by_itself=False,
            )
        await _destroy_material(run, closed)
        if closed.faults:
            return _not_closed(closed)
    return await _ending(run, closed)


async def _note_effect(run: JobRun, closed: Closed) -> None:
    """The revocation is effective: measured from when it was admitted. Seen before, it was so then."""
    ledger, job = run.tools.ledger, await run.tools.ledger.job(run.job.id)
    known = dict(job.result or {})
    if _EFFECTIVE in known:
        await _note_closed_again(run, closed)
        return
    asked_at = job.created_at if job.message.not_before is None else job.message.not_before.timestamp()
    seconds = round(max(await ledger.now() - asked_at, 0.0), 3)
    run.tools.metrics.observe_revocation(seconds)
    effect = known | {
        _EFFECTIVE: seconds,
        "unreadable": sorted(closed.buckets),
        "keys": closed.keys,
        "buckets": closed.buckets,
        _FOUND_OPEN: closed.found_open,
    }
    await ledger.note_result(run.claim, "revocation.effective", effect)
    log.info("revocation_effective", job=job.id, tenant=job.tenant, seconds=seconds)


async def _close_after_others(run: JobRun) -> Closed:
    """Close all once more when nobody's former claim can have a call under way: one may have opened something since.

    Whoever is fenced out notices later, at its next renewal at the latest. What it writes unconditionally, a policy,
    or makes, a bucket, may come after everything was closed.
    """
    ledger = run.tools.ledger
    while left_seconds := await ledger.other_claims_end_in(run.claim):  # noqa: ASYNC110 - only time ends them
        await asyncio.sleep(left_seconds)
    closed = await close_all(run)
    await _note_closed_again(run, closed)
    return closed


async def _note_closed_again(run: JobRun, closed: Closed) -> None:
    """What was open although all had been closed, by this attempt or one before it, is on record."""
    if not closed.found_open:
        return
    log.warning("revocation_closed_again", job=run.job.id, found_open=closed.found_open)
    known = dict((await run.tools.ledger.job(run.job.id)).result or {})
    again = {_CLOSED_AGAIN: sorted({*_names(known, _CLOSED_AGAIN), *closed.found_open})}
    await run.tools.ledger.note_result(run.claim, "revocation.closed_again", known | again)


async def _destroy_material(run: JobRun, closed: Closed) -> None:
    """Delete what was imported. A key whose material isn't ours to delete stays disabled, and is named."""
    for key in await run.tools.ledger.tenant_keys(run.job.tenant):
        if key.state != "destroyed" and key.arn is not None:
            await _destroy(run, key, key.arn, closed)


async def _destroy(run: JobRun, key: TenantKey, arn: str, closed: Closed) -> None:
    did = "material deleted"
    try:
        switched = await run.switching(partial(run.tools.custody.delete_material, run.errand, arn))
        requests = switched.requests
    except (ForeignKeyError, KeyForbiddenError) as error:
        if key.kind != "kms":
            closed.faults.append(f"{key.ref}: {error}")
            return
        closed.keys[key.ref] = (
            f"{closed.keys.get(key.ref, 'disabled')}; its material isn't ours to delete: {error}"
        )
        return
    except CustodyError as error:
        if not (isinstance(error, KeyStateError) and error.state == MISSING):
            closed.faults.append(f"{key.ref}: {error}")
            return
        did, requests = "gone", error.requests
    closed.keys[key.ref] = "destroyed"
    details = {"did": did, "requests": noted(requests), "approved_by": run.job.approved_by}
    await run.tools.ledger.withdraw_key(run.claim, key.ref, "destroyed", details)


async def _ending_of_another(run: JobRun, closed: Closed) -> Ending:
    """Done, where an earlier revocation stays in force: what that left to be decided is said there."""
    ledger = run.tools.ledger
    result = dict((await ledger.job(run.job.id)).result or {}) | {_FOUND_OPEN: closed.found_open}
    await ledger.note_result(run.claim, "revocation.result", result)
    await ledger.enter_phase(run.claim, "done")
    return Completed("; ".join(_earlier(result)) or None)


async def _ending(run: JobRun, closed: Closed) -> Ending:
    """Done, once what can be read elsewhere is accepted."""
    ledger = run.tools.ledger
    moves: Sequence[TenantMove] = await ledger.tenant_moves_of(run.job.tenant)
    elsewhere = await readable_elsewhere(run.tools, moves)
    job = await ledger.job(run.job.id)
    result = dict(job.result or {}) | {
        "keys": closed.keys,
        "buckets": closed.buckets,
        "readable_elsewhere": elsewhere,
        "accepted_by": job.accepted_by,
        "approved_by": job.approved_by,
    }
    await ledger.note_result(run.claim, "revocation.result", result)
    if elsewhere and job.accepted_by is None:
        words = f"can be read still: {'; '.join(elsewhere)}. Accept it: rekeyd approve {job.id}"
        # Not looked at again by itself: whoever approves it must find it waiting.
        return Held("readable_elsewhere", words, by_itself=False)
    await ledger.enter_phase(run.claim, "done")
    untouched = [f"{ref}: {did}" for ref, did in closed.keys.items() if did.startswith("not touched")]
    remarks = [*_earlier(result), *untouched, *(f"readable: {each}" for each in elsewhere)]
    return Completed("; ".join(remarks) or None)


def _earlier(result: Mapping[str, object]) -> list[str]:
    """Where the tenant was revoked already: by which job, and whether anything had to be closed anew."""
    earlier = result.get(_REVOKED_ALREADY_BY)
    if earlier is None:
        return []
    found_open = sorted({*_names(result, _FOUND_OPEN), *_names(result, _CLOSED_AGAIN)})
    what = f"closed anew: {', '.join(found_open)}" if found_open else "nothing was changed"
    return [f"the tenant is revoked already, by {earlier}: {what}"]


def _names(result: Mapping[str, object], name: str) -> list[str]:
    found = result.get(name, [])
    return [str(each) for each in found] if isinstance(found, list) else []


def _not_closed(closed: Closed) -> Held:
    """What can be read, or may be, is the gravest."""
    words = "; ".join([*closed.doubts, *closed.faults])
    return Held("still_readable" if closed.doubts else "custody_unavailable", words)
