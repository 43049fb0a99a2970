"""The story of a rotation: writers are led to another key, then what is there is brought under it, where it stands.

Nothing is ever deleted, and no writer waits. Each chapter can be begun again after a crash. The former key stays
usable: it is archived once every version was looked at, and nothing that can be changed lies under it any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rekeyd.domain.certificate import Rotated, RotationFacts
from rekeyd.domain.errors import AccessDeniedError, StoreRefusedError
from rekeyd.domain.job import RotateMessage, utc_timestamp
from rekeyd.domain.key import KeyState
from rekeyd.domain.tenant import PlacementRecord
from rekeyd.jobs.bring import bring_key
from rekeyd.jobs.canaries import key_canary
from rekeyd.jobs.census import Census, Under, take_census
from rekeyd.jobs.certify import certify
from rekeyd.jobs.endings import Completed, Ending, Failed, Held, Waiting
from rekeyd.jobs.own_objects import Ground, remove_own
from rekeyd.jobs.passes import make_pass
from rekeyd.jobs.provision import refuses_wrong_checksum
from rekeyd.jobs.redirect import redirect, uploads_left
from rekeyd.jobs.refusals import refused_elsewhere
from rekeyd.jobs.rotation_facts import facts_of, nothing_moved
from rekeyd.jobs.rotation_preflight import preflight_rotation
from rekeyd.jobs.run import JobRun, first_of
from rekeyd.jobs.watch import watch_key
from rekeyd.ledger.port import TenantKey
from rekeyd.transfer.rekey_plan import can_update

_UPLOADS = "unfinished_uploads"
_FORMER_KEYS = "former_keys"
"""Noted before anything is changed."""
_LOOKED_AT = "looked_at"
"""Noted once all is done that a rotation is for: what is left then is the certificate."""
_IN_USE: tuple[KeyState, ...] = ("active", "unavailable")


async def rotate(run: JobRun) -> Ending:
    """Bring the tenant's data under the job's key; give how this attempt ends."""
    message, ledger = run.job.message, run.tools.ledger
    assert isinstance(message, RotateMessage), "the worker's table says so"
    unbrought = await bring_key(run)
    if unbrought is not None:
        return unbrought
    record, _ = await ledger.placement(run.job.tenant)
    if record is None or record.phase != "dedicated":
        return Failed(
            f"the tenant is {record.phase if record else 'not placed'}: only a dedicated one is rotated"
        )
    formers = await _formers(run)
    reached = record.key_ref == run.job.key_ref
    if message.key is None or (
        reached and (not formers or message.options.reencrypt == "new") and not _begun(run)
    ):
        return await _nothing_to_move(run, message, record)
    await ledger.enter_phase(run.claim, "preflight")
    ready = await preflight_rotation(run, record, formers)
    if not isinstance(ready, str):
        return ready
    await ledger.begin_job(run.claim)
    return await first_of(
        _rotate(run, message, formers),
        watch_key(run.tools, run.job, ready),
        run.obstacle(),
        refused_elsewhere(run),
    )


def _begun(run: JobRun) -> bool:
    return _FORMER_KEYS in (run.job.result or {})


async def _formers(run: JobRun) -> list[TenantKey]:
    """The tenant's other keys under which something may lie, and which no rotation has put away."""
    keys = await run.tools.ledger.tenant_keys(run.job.tenant)
    return [key for key in keys if key.ref != run.job.key_ref and key.state in _IN_USE]


async def _known_formers(run: JobRun) -> list[TenantKey]:
    """The same, and those that this very job has put away: an attempt that died after that says so as well."""
    named = _names((await run.tools.ledger.job(run.job.id)).result)
    keys = await run.tools.ledger.tenant_keys(run.job.tenant)
    others = [key for key in keys if key.ref != run.job.key_ref]
    return [key for key in others if key.state in _IN_USE or (key.state == "archived" and key.ref in named)]


def _names(result: Mapping[str, object] | None) -> Sequence[object]:
    found = (result or {}).get(_FORMER_KEYS, [])
    return found if isinstance(found, list) else []


async def _nothing_to_move(run: JobRun, message: RotateMessage, record: PlacementRecord) -> Ending:
    """The provider rotated under the same reference, or the tenant's data are under the key already."""
    ledger = run.tools.ledger
    await ledger.begin_job(run.claim)
    if message.key is None and record.key_ref != run.job.key_ref:
        return Failed(f"the placement leads to {record.key_ref} by now")
    facts = nothing_moved("rotated by its provider" if message.key is None else "active already")
    await ledger.note_result(run.claim, "rotation.result", {"key": run.job.key.arn, "did": facts.did})
    return await _certified(run, facts, f"{run.job.key.arn} is {facts.did}: nothing was moved")


async def _certified(run: JobRun, facts: RotationFacts, remark: str | None) -> Ending:
    """Give the job its certificate, and end it."""
    ledger = run.tools.ledger
    await ledger.enter_phase(run.claim, "certify")
    record, _ = await ledger.placement(run.job.tenant)
    assert record is not None, "a dedicated tenant has one"
    certified = await certify(run, record, facts)
    if isinstance(certified, Held):
        return certified
    await ledger.enter_phase(run.claim, "done")
    return Completed(remark)


@dataclass(slots=True)
class _Progress:
    """What is known by now of what lies where."""

    census: Census
    uploads: int
    """Unfinished uploads that may have been begun under a former key."""
    looked_at: float
    """When that was, by the ledger's clock."""


async def _rotate(run: JobRun, message: RotateMessage, formers: Sequence[TenantKey]) -> Ending:
    result = (await run.tools.ledger.job(run.job.id)).result or {}
    if _LOOKED_AT not in result:
        brought = await _brought(run, message, formers)
        if not isinstance(brought, _Progress):
            return brought
        result = await _put_away(run, await _known_formers(run), brought)
    # The rows stay as they are from here on: another attempt writes the same evidence.
    did: Rotated = "brought" if message.options.reencrypt == "all" else "redirected"
    return await _certified(run, facts_of(did, result), str(result["remark"]) or None)


async def _brought(
    run: JobRun, message: RotateMessage, formers: Sequence[TenantKey]
) -> _Progress | Held | Waiting:
    await run.tools.ledger.enter_phase(run.claim, "redirect")
    redirected = await redirect(run, formers)
    if isinstance(redirected, Held):
        return redirected
    if message.options.reencrypt == "all":
        return await _bring_all(run, redirected)
    return await _look(run, redirected, waits=False)


async def _bring_all(run: JobRun, redirected_at: float) -> _Progress | Held | Waiting:
    """Passes over the bucket, until a look at every version finds nothing more to do."""
    store, timings = run.tools.target_of(run.job), run.tools.timings
    # Where nothing is in the way writers are narrowed before the first pass: of its own uploads none is waited for.
    left = await uploads_left(run, redirected_at)
    if isinstance(left, Held):
        return left
    if left and await _has_passed(run):
        return await _wait_for(run, left)
    await run.tools.ledger.enter_phase(run.claim, "reencrypt")
    run.checks_checksums = await refuses_wrong_checksum(store, run.job, run.kept)
    still: dict[str, object] = {}
    older: int | None = None
    updates = can_update(store.objects.updates_keys_of, run.job.key.arn)
    for _ in range(timings.passes_max):
        made = await make_pass(run, None)
        if isinstance(made, Held):
            return made
        found = await _look(run, redirected_at, waits=True)
        if not isinstance(found, _Progress):
            return found
        former_older, older = older, found.census.older
        # One that writers have replaced amid the pass became an older one unseen: once more, as long as that helps.
        fewer = updates and older and (former_older is None or older < former_older)
        if not found.census.pending and not fewer:
            return found
        still = {key: under.view() for key, under in found.census.by_key.items() if under.pending}
        await run.tools.ledger.enter_phase(run.claim, "reencrypt")
    return Held("unverified_objects", f"still to be brought after {timings.passes_max} passes: {still}")


async def _has_passed(run: JobRun) -> bool:
    """Whether a pass was made already, so that all that there is to do is to wait."""
    made = await run.tools.ledger.current_pass(run.claim)
    return made is not None and made.listed and made.terms_hold and not made.open_segments


async def _wait_for(run: JobRun, uploads: int) -> Waiting:
    """Whoever completes one may write under a former key; those that nobody does expire."""
    ledger = run.tools.ledger
    result = dict((await ledger.job(run.job.id)).result or {}) | {_UPLOADS: uploads}
    await ledger.note_result(run.claim, "rotation.waits", result)
    await ledger.enter_phase(run.claim, "reencrypt")
    return Waiting(run.tools.timings.held_recheck_seconds)


async def _look(run: JobRun, redirected_at: float, *, waits: bool) -> _Progress | Held | Waiting:
    """Look at every version, once no upload is left by which more could come under a former key.

    Without `waits` all the same, since what is left there is said.
    """
    await run.tools.ledger.enter_phase(run.claim, "prove")
    uploads = await uploads_left(run, redirected_at)
    if isinstance(uploads, Held):
        return uploads
    if uploads and waits:
        return await _wait_for(run, uploads)
    census = await take_census(run)
    return _Progress(census, uploads, await run.tools.ledger.now())


async def _put_away(run: JobRun, formers: Sequence[TenantKey], found: _Progress) -> Mapping[str, object]:
    """Archive each former key under which no current version and no upload is; gives what lies where."""
    ledger, job = run.tools.ledger, run.job
    ground = Ground(
        run.tools.target_of(job).objects,
        job.target.bucket,
        None,
        run.kept,
        keeps_versions=run.source_versioned,
    )
    views, remarks, kept, archived = {}, [], [], []
    for key in formers:
        assert key.arn is not None, "one that was never imported isn't active"
        under = found.census.under(key.arn)
        views[key.ref] = under.view()
        if under.current or found.uploads:
            remarks.append(
                f"{under.current} objects and {found.uploads} unfinished uploads stay under {key.ref}"
            )
            continue
        stays = await _remove_canary(ground, key.arn, under)
        await ledger.archive_key(run.claim, key.ref, {"under_it": under.view()})
        archived.append(key.ref)
        if under.noncurrent:
            remarks.append(f"{under.noncurrent} older versions stay under {key.ref}, which is archived")
        if stays is not None:
            kept.append(key.ref)
            remarks += [stays] if stays else []
    with_bucket_key = found.census.under(job.key.arn).bucket_key
    if with_bucket_key:
        remarks.append(f"{with_bucket_key} versions under {job.key.arn} have S3 Bucket Keys")
    result = dict((await ledger.job(job.id)).result or {}) | {
        "key": job.key.arn,
        "under_key": found.census.under(job.key.arn).view(),
        "under_former_keys": views,
        _UPLOADS: found.uploads,
        "canaries_kept": kept,
        "under_others": {
            name: under.view()
            for name, under in found.census.elsewhere(job.key.arn).items()
            if name not in views
        },
        "archived": archived,
        "remark": "; ".join(remarks),
        _LOOKED_AT: utc_timestamp(found.looked_at),
    }
    await ledger.note_result(run.claim, "rotation.result", result)
    return result


async def _remove_canary(ground: Ground, key_arn: str, under: Under) -> str | None:
    """Remove the canary of a key under which nothing is; None where it's gone, else why it stays, if that is news.

    As long as anything is under the key, a later revocation proves by it that that can't be read. And where the
    bucket's default retention locks it, or we may delete no version, it does no harm where it is.
    """
    if under.noncurrent:
        return ""
    try:
        await remove_own(ground, [key_canary(key_arn)])
    except (AccessDeniedError, StoreRefusedError) as error:
        return f"the canary of {key_arn} can't be removed and stays: {error}"
    return None
