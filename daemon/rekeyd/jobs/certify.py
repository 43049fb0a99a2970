"""The last chapter: the evidence is written with the tenant's data, and a signed certificate says what it amounts to.

A job has one certificate: the first that the ledger took. Whoever comes later, after a crash say, brings that one to
where it belongs.
"""

from __future__ import annotations

import structlog

from rekeyd import __version__
from rekeyd.domain.certificate import (
    Certificate,
    JobFacts,
    KeyFacts,
    PlacementFacts,
    RemainingFacts,
    RotationFacts,
    certificate_key,
    certificate_of,
    evidence_prefix,
    verify_certificate,
)
from rekeyd.domain.job import utc_timestamp
from rekeyd.domain.signed import NotHeldError, signed_text, signing_input, utf8
from rekeyd.domain.tenant import PlacementRecord
from rekeyd.jobs.checkpoints import make_checkpoint
from rekeyd.jobs.endings import Held
from rekeyd.jobs.evidence import WrittenEvidence, write_evidence
from rekeyd.jobs.kept_objects import keep_object, read_kept
from rekeyd.jobs.own_objects import Ground
from rekeyd.jobs.remaining import Remaining, look_at_source
from rekeyd.jobs.run import JobRun
from rekeyd.stores.port import UnderKey

log = structlog.get_logger()

_CONTENT_TYPE = "application/json"
_REMAINING_SHOWN_MAX = 3


async def certify(
    run: JobRun, record: PlacementRecord, rotation: RotationFacts | None = None
) -> Certificate | Held:
    """Give the job its certificate; what that says, or why it can't be given now. `rotation` is what one came to.

    It stands in the ledger and in the target then, and all the evidence in the target. Repeating it changes nothing
    more. Raises CustodyError where the signing key can't be used, StoreError where the target doesn't take it.
    """
    ledger, job = run.tools.ledger, run.job
    ground = Ground(run.tools.target_of(job).objects, job.target.bucket, UnderKey(job.key.arn), run.kept)
    standing = await read_kept(ground.objects, ground.bucket, certificate_key(job.id))
    text = await ledger.certificate(job.id)
    if text is None and standing is not None:
        text = await _adopted(run, standing)
    if text is None and standing is None:
        text = await ledger.record_certificate(run.claim, await _signed(run, record, rotation, ground))
    if text is None or (standing is not None and standing != utf8(text)):
        return Held(
            "conflict",
            f"{job.target.bucket}: {certificate_key(job.id)} is no certificate of this ledger's: find out whose it is",
            by_itself=False,
        )
    await keep_object(ground, certificate_key(job.id), utf8(text), _CONTENT_TYPE, run.kept)
    return certificate_of(text)


async def _adopted(run: JobRun, standing: bytes) -> str | None:
    """The job's certificate, as it was found in the target: the ledger has forgotten it, restored from a backup say."""
    try:
        found = verify_certificate(standing, await run.tools.signer.public_key())
    except NotHeldError as error:
        log.warning("certificate_not_ours", job=run.job.id, error=str(error))
        return None
    if (found.job.id, found.tenant, found.target) != (run.job.id, run.job.tenant, str(run.job.target)):
        return None
    return await run.tools.ledger.record_certificate(run.claim, standing.decode("utf-8", "surrogatepass"))


async def _signed(
    run: JobRun, record: PlacementRecord, rotation: RotationFacts | None, ground: Ground
) -> str:
    ledger, signer, job = run.tools.ledger, run.tools.signer, run.job
    about = {"bucket": job.target.bucket, "evidence": evidence_prefix(job.id), "key": job.key.arn}
    await ledger.record_action(
        run.claim, "evidence.write_intended", {**about, "certificate": certificate_key(job.id)}
    )
    moved = rotation is None or rotation.did == "brought"
    evidence = await write_evidence(run, ground, moved=moved)
    facts = evidence.facts
    await ledger.record_action(
        run.claim,
        "evidence.written",
        {**about, "files": facts.files, "leaves": facts.leaves, "root": facts.root},
    )
    # A rotation leaves nothing anywhere: what it came to says all.
    remaining = _remaining(evidence, await look_at_source(run)) if rotation is None else None
    await make_checkpoint(ledger, signer, run.claim.holder)
    public_key = await signer.public_key()
    certificate = await _stated(run, record, evidence, public_key.fingerprint)
    statement = certificate.model_copy(update={"remaining": remaining, "rotation": rotation}).statement()
    return signed_text(statement, public_key, await signer.sign(signing_input(statement)))


async def _stated(
    run: JobRun, record: PlacementRecord, evidence: WrittenEvidence, signer: str
) -> Certificate:
    """All that is said of a job of any kind."""
    job, sums = run.job, evidence.sums
    # The run's own is as it was when it was claimed: before its first phase it has no beginning.
    started_at = (await run.tools.ledger.job(job.id)).started_at
    heads = await run.tools.ledger.audit_heads()
    now = utc_timestamp(await run.tools.ledger.now()) or ""
    return Certificate(
        tenant=job.tenant,
        job=JobFacts(
            id=job.id,
            kind=job.kind,
            requested_by=job.message.requested_by,
            created_at=utc_timestamp(job.created_at) or "",
            started_at=utc_timestamp(started_at),
        ),
        source=str(job.source),
        target=str(job.target),
        key=KeyFacts(kind=job.named_key.kind, reference=job.key.arn, fingerprint=job.key_fingerprint),
        placement=PlacementFacts(
            phase=record.phase, epoch=record.epoch, writes_from=utc_timestamp(record.writes_from)
        ),
        total=sums.total,
        outcomes=sums.outcomes,
        evidence=evidence.facts,
        remaining=None,
        audit_heads=heads,
        certified_at=now,
        rekeyd=__version__,
        signer=signer,
    )


def _remaining(evidence: WrittenEvidence, remaining: Remaining) -> RemainingFacts:
    kepts = evidence.kepts
    return RemainingFacts(
        kept=kepts.count,
        kept_shown=tuple(kepts.shown),
        locked=kepts.locked,
        locked_until=kepts.locked_until,
        listed_at=remaining.listed_at,
        found=remaining.found,
        markers=remaining.markers,
        unknown=remaining.unknown,
        found_shown=tuple(remaining.shown),
        uploads=len(remaining.uploads),
        uploads_shown=remaining.uploads_shown,
    )


def remark_of(certificate: Certificate) -> str | None:
    """What is left in the source, for a person; None where nothing is."""
    remaining = certificate.remaining
    if remaining is None or not (remaining.found.objects or remaining.uploads):
        return None
    found = remaining.found
    shown = ", ".join(repr(each.key) for each in remaining.found_shown[:_REMAINING_SHOWN_MAX])
    plain = found.versions == found.objects and not remaining.markers
    what = f"{found.objects}" if plain else f"{found.versions} versions and markers of {found.objects}"
    return f"the source still holds {what} objects ({shown}) and {remaining.uploads} unfinished uploads"
