"""What the commands ask of the ledger. Each question opens the configured ledger, asks, and closes it.

A ledger that isn't there is an error, and stays away: but for `submit`, which begins one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rekeyd import service
from rekeyd.cli.chains import PublicKeys, TrailFinding, verify_trail
from rekeyd.domain.certificate import certificate_of
from rekeyd.domain.errors import RefusedError, RekeydError
from rekeyd.domain.job import Job, JobState
from rekeyd.domain.signed import NotHeldError, PublicKey
from rekeyd.domain.tenant import Placement, serve, unplaced
from rekeyd.ledger.port import Admission, TenantKey
from rekeyd.settings import Settings

if TYPE_CHECKING:
    from rekeyd.transfer.rekey_estimate import RotationEstimate

WATCH_SECONDS = 0.5
"""How often a watched job is looked at: often enough for a person, seldom enough for the ledger."""

_UNWATCHED_STATES: frozenset[JobState] = frozenset({"held", "completed", "failed", "cancelled"})


class NoCertificateError(RekeydError):
    """There is no certificate of what was asked for."""


async def submit(settings: Settings, raw: bytes, principal: str) -> Admission:
    """Admit a job message as every other intake does; a ledger that isn't there yet is made."""
    async with service.open_ledger(settings, make=True) as ledger:
        return await service.admission(settings, ledger).offer(raw, principal)


async def rotation_plan(settings: Settings, raw: bytes) -> RotationEstimate:
    """What a rotation would do. The message isn't admitted."""
    async with service.open_ledger(settings) as ledger:
        return await service.estimate_rotation(settings, ledger, raw)


async def jobs(settings: Settings, tenant: str | None, state: JobState | None, limit: int) -> Sequence[Job]:
    """The newest jobs first."""
    async with service.open_ledger(settings) as ledger:
        return await ledger.jobs(tenant=tenant, state=state, limit=limit)


async def look(settings: Settings, job_id: str) -> tuple[Job, float]:
    """A job, and the ledger's time at which it was so."""
    async with service.open_ledger(settings) as ledger:
        return await ledger.job(job_id), await ledger.now()


async def watch(settings: Settings, job_id: str, show: Callable[[Job], None]) -> tuple[Job, float]:
    """Show a job again and again until nothing more will happen to it by itself, or it is held."""
    async with service.open_ledger(settings) as ledger:
        while True:
            job = await ledger.job(job_id)
            show(job)
            if job.state in _UNWATCHED_STATES:
                return job, await ledger.now()
            await asyncio.sleep(WATCH_SECONDS)


async def resume(settings: Settings, job_id: str, principal: str) -> Job:
    """Have a held or failed job picked up at once."""
    async with service.open_ledger(settings) as ledger:
        return await ledger.resume_job(job_id, principal)


async def approve(settings: Settings, job_id: str, principal: str) -> Job:
    """Agree to what a held job asks for, or accept how it stands."""
    async with service.open_ledger(settings) as ledger:
        return await ledger.approve_job(job_id, principal)


async def cancel(settings: Settings, job_id: str, principal: str, waiting: Callable[[float], None]) -> Job:
    """End a job, and wait until no call of those who worked on it can be under way any more.

    They are refused from the commit on; `waiting` is told for how many seconds at most the claims that they held last.
    """
    async with service.open_ledger(settings) as ledger:
        job = await ledger.cancel_job(job_id, principal)
        left_seconds = await ledger.claims_end_in(job_id)
        if left_seconds:
            waiting(left_seconds)
        while left_seconds:
            await asyncio.sleep(left_seconds)
            left_seconds = await ledger.claims_end_in(job_id)
        return job


async def placement(settings: Settings, tenant: str) -> Placement:
    """Where a tenant's data live: by the ledger, or for one that it doesn't know, by the source pattern.

    Raises DistrustedError where the ledger is known to be older than the target, or the target of a tenant that it
    doesn't know shows that it is; StoreError where that target's store says nothing.
    """
    async with service.open_ledger(settings) as ledger:
        record, now = await ledger.placement(tenant)
    if record is None:
        source_pattern, _ = settings.require_patterns()
        await service.check_unknown_tenant(settings, tenant)
        record = unplaced(tenant, source_pattern.locate(tenant, "tenant"))
    return serve(record, now, settings.migrate.placement_ttl_seconds)


async def keys(settings: Settings, tenant: str | None) -> Sequence[TenantKey]:
    """The customer keys of a tenant, or of all."""
    async with service.open_ledger(settings) as ledger:
        return await ledger.tenant_keys(tenant)


async def audit(settings: Settings, known: Sequence[PublicKey], outside: Iterable[str] = ()) -> TrailFinding:
    """Recompute every chain of the audit trail, and check every checkpoint, with those that were kept elsewhere.

    They must be signed with one of the known keys, or where none is given with this ledger's own, or one of before.
    Raises RefusedError for one of `outside` that isn't.
    """

    async def public_keys() -> PublicKeys:
        keys = known or await service.signing_keys(settings)
        return {key.fingerprint: key for key in keys}

    async with service.open_ledger(settings) as ledger:
        try:
            return await verify_trail(ledger, public_keys, outside)
        except NotHeldError as error:
            raise RefusedError("--checkpoint", str(error)) from error


async def certificate(settings: Settings, job_id: str) -> str:
    """The certificate of a job. Raises UnknownJobError, NoCertificateError."""
    async with service.open_ledger(settings) as ledger:
        text = await ledger.certificate(job_id)
        if text is None:
            job = await ledger.job(job_id)
            raise NoCertificateError(
                f"{job_id} has no certificate: it is {job.state}, in the phase {job.phase}"
            )
        return text


async def proof(settings: Settings, job_id: str, key: str) -> str:
    """The document that proves what became of one object of a job.

    Raises UnknownJobError, NoCertificateError where there is no certificate or it speaks of no such object.
    """
    stated = certificate_of(await certificate(settings, job_id))
    found = await service.prove(settings, stated, key)
    if found is None:
        raise NoCertificateError(f"the certificate of {job_id} speaks of no object {key!r}")
    return found
