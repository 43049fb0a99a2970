"""Whether a store heeds conditions: shown on objects of our own, before anything of a tenant depends on it.

A store that ignores a condition answers as if all were well, and overwrites or deletes what somebody else has written:
it looks like any other until it costs an object. So each call that a move relies on is made once in vain, and the
object that it must not touch is looked at again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from rekeyd.domain.errors import (
    AccessDeniedError,
    KeyUnusableError,
    PreconditionError,
    StoreError,
)
from rekeyd.domain.objects import OWN_PREFIX, ObjectVersion
from rekeyd.jobs.endings import Failed, Held
from rekeyd.jobs.own_objects import (
    Ground,
    abort_own_uploads,
    foreign_of,
    not_deleted,
    own_attributes,
    remove_own,
    write_own,
)
from rekeyd.jobs.preflight import Ready
from rekeyd.jobs.run import JobRun
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import IfAbsent, IfMatches, UnderKey, WriteCondition
from rekeyd.transfer.checksum import crc64nvme
from rekeyd.transfer.route import head_or_none

log = structlog.get_logger()

PROOF_PREFIX = OWN_PREFIX + "condition-"
"""Before the keys of all proofs' objects."""

_STANDING_BYTES = b"this must stand"
_OFFERED_BYTES = b"this is offered in its place, and must be refused"


@dataclass(frozen=True, slots=True)
class Keys:
    """Where a tenant's proof puts its two objects: others may share the source's bucket, and prove at the same time."""

    standing: str
    """Of what must not be touched."""
    offered: str
    """Of what a copy offers in its place, and whose ETag is the wrong one."""

    @classmethod
    def of(cls, tenant: str) -> Keys:
        """Always the same: a later attempt finds what an earlier one has left."""
        name = hashlib.sha256(tenant.encode()).hexdigest()[:16]
        return cls(f"{PROOF_PREFIX}standing-{name}", f"{PROOF_PREFIX}offered-{name}")

    @property
    def both(self) -> tuple[str, str]:
        """The one and the other."""
        return self.standing, self.offered


@dataclass(frozen=True, slots=True)
class Pair:
    """The two objects of a proof, as they stand."""

    standing: ObjectVersion
    offered: ObjectVersion

    @property
    def broken_conditions(self) -> Sequence[tuple[str, WriteCondition]]:
        """The conditions that don't hold for the one that stands, with their names."""
        return (
            ("If-None-Match: *", IfAbsent()),
            ("If-Match with another ETag", IfMatches(self.offered.etag)),
        )


async def prove_conditions(run: JobRun, ready: Ready) -> Failed | Held | None:
    """Show on the stores themselves that they heed the conditions that the move relies on; None where they do.

    The dedicated bucket stands, and keeps versions as the source does. Passing errors are raised. Repeating it is
    harmless, and removes what an attempt that died has left. It is on record.
    """
    job, target, keys = run.job, run.tools.target_of(run.job), Keys.of(run.job.tenant)
    one_store = run.tools.source_of(job).objects.name == target.objects.name
    versioned = ready.source.versioning == "enabled"
    # Versions are deleted by their ids, which needs no condition; and one store needs no second proof.
    in_source = not one_store and not versioned
    where = {"target": job.target.bucket, "source": job.source.bucket if in_source else None}
    await run.tools.ledger.record_action(
        run.claim, "conditions.proof_intended", {**where, "objects": list(keys.both)}
    )
    ground = Ground(
        target.objects, job.target.bucket, UnderKey(job.key.arn), run.kept, keeps_versions=versioned
    )
    unheeded = await first_unheeded(ground, keys, copies=one_store)
    if unheeded is not None:
        return Failed(f"target: the store of {job.target.bucket} doesn't heed conditions: {unheeded}")
    shown = await _shown_in_source(run, keys) if in_source else True
    if not isinstance(shown, bool):
        return shown
    await run.tools.ledger.record_action(
        run.claim, "conditions.proven", {**where, "source_taken_for_granted": not shown}
    )
    return None


async def _shown_in_source(run: JobRun, keys: Keys) -> bool | Failed | Held:
    """Show that the source's store heeds the condition of a delete. False: we can't, and its documentation says so."""
    source, name = run.tools.source_of(run.job), run.job.source.bucket
    ground = Ground(source.objects, name, None, run.kept)
    try:
        foreign = await foreign_of(ground, keys.both)
        if foreign is not None:
            error = f"source: {foreign!r} in {name} isn't rekeyd's, and is in the way of a proof: move it"
            return Held("conflict", error, by_itself=False)
        unheeded = await first_unheeded_delete(ground, keys)
    except (AccessDeniedError, KeyUnusableError) as error:
        if source.is_aws:
            # "How to perform conditional deletes", Amazon S3 User Guide.
            log.info("conditional_delete_taken_for_granted", bucket=name, why=str(error))
            return False
        advice = f"source: let rekeyd write, read and delete {keys.standing} and {keys.offered} in {name}"
        return Held("access_denied", f"{advice}, to show that its store heeds a delete's condition: {error}")
    if unheeded is not None:
        return Failed(f"source: the store of {name} doesn't heed conditions: {unheeded}")
    return True


async def first_unheeded(ground: Ground, keys: Keys, *, copies: bool) -> str | None:
    """The first call whose condition the store doesn't heed, and how that shows; None where it heeds all.

    `copies`: CopyObject is asked, too. Raises what else goes wrong, having removed what it could.
    """

    async def prove(pair: Pair) -> str | None:
        return await _unheeded_write(ground, pair, copies=copies) or await _unheeded_delete(ground, pair)

    async def remove() -> None:
        await abort_own_uploads(ground, keys.standing)
        await remove_own(ground, keys.both)

    return await _between_removals(ground, keys, prove, remove)


async def first_unheeded_delete(ground: Ground, keys: Keys) -> str | None:
    """The same of deletes alone, where nothing else is asked of a store."""
    return await _between_removals(
        ground, keys, partial(_unheeded_delete, ground), partial(remove_own, ground, keys.both)
    )


async def _between_removals(
    ground: Ground,
    keys: Keys,
    prove: Callable[[Pair], Awaitable[str | None]],
    remove: Callable[[], Awaitable[None]],
) -> str | None:
    """Prove something with two fresh objects. What an earlier attempt has left is removed first."""
    await remove()
    try:
        standing = await write_own(ground, keys.standing, _STANDING_BYTES)
        offered = await write_own(ground, keys.offered, _OFFERED_BYTES)
        found = await prove(Pair(standing.version, offered.version))
    except StoreError:
        await remove()
        raise
    try:
        await remove()
    except StoreError as error:
        if found is None:
            raise
        # The store is refused for a graver reason. What is left is our own, and the next attempt's to remove.
        log.warning("proof_not_removed", bucket=ground.bucket, error=str(error))
    return found


async def _unheeded_write(ground: Ground, pair: Pair, *, copies: bool) -> str | None:
    for name, condition in pair.broken_conditions:
        calls = {
            "Put": partial(_put, ground, pair, condition),
            "Copy": partial(_copy, ground, pair, condition),
            "Complete": partial(_complete, ground, pair, condition),
        }
        for operation, call in calls.items():
            if operation == "Copy" and not copies:
                continue
            found = await _unheeded(ground, pair, f"{operation} ({name})", call)
            if found is not None:
                return found
    return None


async def _unheeded_delete(ground: Ground, pair: Pair) -> str | None:
    """Of a version that is named by its ETag: alone, as one of several, and, where versions are kept, as a marker."""
    name = "If-Match with another ETag"
    if ground.keeps_versions:
        return await _unheeded(ground, pair, f"Delete ({name})", partial(_hide, ground, pair))
    wrong = [
        replace(pair.standing, etag=pair.offered.etag),
        replace(pair.offered, etag=pair.standing.etag),
    ]
    return await _unheeded(
        ground, pair, f"Delete ({name})", partial(_delete, ground, wrong[:1])
    ) or await _unheeded(ground, pair, f"Delete of several ({name})", partial(_delete, ground, wrong))


async def _unheeded(
    ground: Ground, pair: Pair, operation: str, call: Callable[[], Awaitable[object]]
) -> str | None:
    """How a call that must be refused isn't, in words for a person; None where it is, and nothing has changed."""
    try:
        await call()
    except PreconditionError:
        pass
    except (AccessDeniedError, KeyUnusableError):
        raise
    except StoreError as error:
        if error.repeatable:
            raise
        return f"{operation} is not answered with 412 but with: {error}"
    else:
        return f"{operation} is carried out although the condition doesn't hold"
    for version in (pair.standing, pair.offered):
        head = await head_or_none(ground.objects, ground.bucket, version.key)
        if head is None or head.version != version:
            return f"{operation} is answered with 412, and carried out nevertheless"
    return None


async def _put(ground: Ground, pair: Pair, condition: WriteCondition) -> None:
    await ground.objects.put(
        ground.bucket,
        pair.standing.key,
        BytesContent(_OFFERED_BYTES),
        own_attributes(),
        condition=condition,
        under=ground.under,
        crc64nvme=crc64nvme(_OFFERED_BYTES),
        claim=ground.claim,
    )


async def _copy(ground: Ground, pair: Pair, condition: WriteCondition) -> None:
    assert ground.under is not None, "a copy names its key"
    await ground.objects.copy(
        ground.bucket,
        pair.standing.key,
        source_bucket=ground.bucket,
        source=pair.offered,
        condition=condition,
        under=ground.under,
        claim=ground.claim,
    )


async def _complete(ground: Ground, pair: Pair, condition: WriteCondition) -> None:
    objects, claim = ground.objects, ground.claim
    upload = await objects.begin_upload(
        ground.bucket, pair.standing.key, own_attributes(), under=ground.under, claim=claim
    )
    part = await objects.put_part(upload, 1, BytesContent(_OFFERED_BYTES), claim=claim)
    await objects.complete_upload(
        upload, [part], condition=condition, crc64nvme=crc64nvme(_OFFERED_BYTES), claim=claim
    )


async def _delete(ground: Ground, wrong: Sequence[ObjectVersion]) -> None:
    """Delete what doesn't stand there. Raises PreconditionError where the store says of each that another one does."""
    outcomes = await ground.objects.delete(ground.bucket, wrong, claim=ground.claim)
    for outcome in outcomes:
        if outcome.result == "failed":
            raise not_deleted(f"{outcome.version.key!r}: {outcome.detail}")
    if all(outcome.result == "changed" for outcome in outcomes):
        raise PreconditionError("delete", "another version stands there")


async def _hide(ground: Ground, pair: Pair) -> None:
    await ground.objects.hide(
        ground.bucket, pair.standing.key, condition=IfMatches(pair.offered.etag), claim=ground.claim
    )
