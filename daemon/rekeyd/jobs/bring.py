"""The first chapter of every story about a key: what the tenant wrapped becomes a key of the key service.

Only here does what was wrapped leave the ledger, for custody alone; once it is imported, refused or withdrawn, the
ledger has it no more.
"""

from __future__ import annotations

import structlog

from rekeyd.domain.custody import KeyHome, noted
from rekeyd.domain.errors import KeyForbiddenError, KeyRefusedError, KeyStateError
from rekeyd.domain.job import HeldReason
from rekeyd.jobs.endings import Failed, Held
from rekeyd.jobs.run import JobRun

log = structlog.get_logger()

_STATE_REASONS: dict[str, HeldReason] = {
    "Disabled": "key_disabled",
    "PendingDeletion": "key_pending_deletion",
    "PendingReplicaDeletion": "key_pending_deletion",
    "missing": "key_missing",
}


async def bring_key(run: JobRun) -> Held | Failed | None:
    """Import what the job's key was wrapped as; afterwards the run's job says where the key is.

    Nothing is done for a key that is in the key service already. Repeating it after a crash repeats nothing.
    """
    if run.job.named_key.placed is not None:
        return None
    await run.tools.ledger.enter_phase(run.claim, "bring")
    ending = await import_key(run, run.job.key_ref)
    if ending is None:
        await run.read_job_again()
    return ending


async def import_key(run: JobRun, ref: str) -> Held | Failed | None:
    """Import what is kept for the key of this name, and forget it. Raises CustodyError where it can't be done now."""
    ledger, job = run.tools.ledger, run.job
    pending = await ledger.begin_import(run.claim, ref)
    if pending is None:
        return Failed(
            f"{ref} isn't imported, and what was wrapped is kept no longer: bring it with another job"
        )
    home = KeyHome(run.tools.target_of(job).region, job.target.bucket)
    try:
        brought = await run.tools.custody.bring(
            run.errand, home, pending.wrapped, begun_before=pending.begun_before
        )
    except KeyRefusedError as refusal:
        reasons = {"field": refusal.field, "reason": refusal.reason, "requests": noted(refusal.requests)}
        await ledger.refuse_brought(run.claim, ref, reasons)
        return Failed(str(refusal))
    except KeyStateError as fault:
        return Held(_STATE_REASONS.get(fault.state, "key_unusable"), str(fault))
    except KeyForbiddenError as fault:
        return Held("key_access_denied", str(fault))
    await ledger.record_brought(run.claim, ref, brought)
    log.info("key_imported", job=job.id, tenant=job.tenant, key=ref, arn=brought.arn, made=brought.made)
    return None


async def lead_alias(run: JobRun) -> None:
    """Point the alias of a key that we made for the tenant at the key that is in use: for people to see.

    Nothing depends on it. A key of the tenant's own has an alias of its own. Raises CustodyError.
    """
    if run.job.named_key.kind == "kms":
        return
    pointed = await run.tools.custody.point_alias(run.errand, run.job.key.arn)
    if pointed.formerly != pointed.arn:
        details = {
            "alias": pointed.alias_arn,
            "key": pointed.arn,
            "former_key": pointed.formerly,
            "requests": noted(pointed.requests),
        }
        await run.tools.ledger.record_action(run.claim, "alias.pointed", details)
