"""What a tenant does to its key at the provider, followed by a rotation that nobody has to ask for.

It rotates the key under its ARN: that is recorded, and nothing moves. It points the alias at another key: its data
follow there. Whoever may point that alias decides so under which key of its account and region they lie
(docs/adr/0016-rotation-in-place.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import structlog

from rekeyd.domain.audit import canonical_json
from rekeyd.domain.errors import ConflictError, KeyForbiddenError, RefusedError
from rekeyd.domain.job import UNFINISHED_STATES, Job, read_job_message
from rekeyd.domain.key import KeyFinding, KeyState, KmsKey, key_finding
from rekeyd.jobs.tools import Tools
from rekeyd.ledger.port import TenantKey

log = structlog.get_logger()

PRINCIPAL = "rekeyd"
"""In whose name such a job is admitted."""

_FREE: tuple[KeyState, ...] = ("pending", "active", "unavailable", "archived")
"""A key of the tenant's own in one of these states may be rotated to."""
_ID_DIGITS = 32
_JOBS_READ_MAX = 1000


async def alias_finding(tools: Tools, tenant: str, named: KmsKey, target_arn: str) -> KeyFinding | None:
    """What is wrong with an alias that points at another key than the one under which the tenant is dedicated.

    None where the data can follow it there: the other key is usable as it is, in the alias's account and region, and
    nobody else's. Raises CustodyError but not KeyForbiddenError.
    """
    leads = f"{named.alias} points at {target_arn}"
    back = f"point it back at {named.arn}"
    # KMS has no such alias ("UpdateAlias", AWS KMS API Reference): what says so isn't believed.
    if target_arn.rpartition(":key/")[0] != named.alias.rpartition(":alias/")[0]:
        return KeyFinding("key_alias_mismatch", f"{leads}, in another account or region: {back}")
    owners = {key.tenant: key.state for key in await tools.ledger.tenant_keys() if key.arn == target_arn}
    if owners.keys() - {tenant}:
        # Not whose: a tenant learns nothing about other tenants.
        return KeyFinding("key_alias_mismatch", f"{leads}, which belongs to another tenant: {back}")
    state = owners.get(tenant, "pending")
    if state not in _FREE:
        return KeyFinding("key_alias_mismatch", f"{leads}, which is {state}: {back}")
    successor = KmsKey(kind="kms", arn=target_arn, alias=named.alias)
    try:
        described = await tools.custody.describe(successor)
    except KeyForbiddenError:
        return KeyFinding("key_alias_mismatch", f"{leads}: let rekeyd describe that, or {back}")
    if described is None:
        return KeyFinding("key_alias_mismatch", f"{leads}, which isn't there: {back}")
    fault = key_finding(successor, described, named.region)
    return fault and KeyFinding("key_alias_mismatch", f"{leads}: {fault.advice}, or {back}")


class Following:
    """Enqueues the rotations. Whoever else looks at the same enqueues the same job, by the same id."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._said: dict[str, str] = {}
        """By key, the latest rotation that isn't to be: asked for once and said once, not at every look."""

    async def material(self, key: TenantKey, material_id: str, *, in_use: bool, actor: str) -> None:
        """Record what the provider encrypts with under a key; where it is another than before, as a job, too.

        The job first: whoever dies between the two sees the same again. `in_use`: the tenant's data lie under it.
        """
        if key.material_id == material_id:
            return
        if key.material_id is not None and in_use:
            await self._enqueue(key, _job_id("material", key.ref, material_id), {}, "its provider rotated it")
        await self._tools.ledger.observe_material(key.ref, material_id, actor)

    async def alias(self, key: TenantKey, successor: KmsKey, epoch: int) -> None:
        """Have the tenant's data follow the alias, unless they are on their way already.

        `epoch` is that of the placement that leads to `key`: who points an alias there and back and there again
        has asked for as many rotations. While another rotation of the tenant's is queued or running, its end is
        waited for; one that is held gives way.
        """
        jobs = await self._tools.ledger.jobs(tenant=key.tenant, limit=_JOBS_READ_MAX)
        rotations = [job for job in jobs if job.kind == "rotate" and job.state in UNFINISHED_STATES]
        if any(job.state != "held" or job.key_ref == successor.arn for job in rotations):
            return
        job_id = _job_id("alias", key.ref, successor.arn, str(epoch))
        await self._enqueue(key, job_id, {"key": successor.model_dump()}, "its alias points there")

    async def _enqueue(self, key: TenantKey, job_id: str, about: Mapping[str, object], why: str) -> None:
        if self._said.get(key.ref) == job_id:
            return
        message = {"schema": "rekeyd.job/1", "id": job_id, "kind": "rotate", "tenant": key.tenant, **about}
        words = canonical_json(message | {"requested_by": f"{PRINCIPAL}: {why}"})
        try:
            admission = await self._tools.ledger.admit_tenant_job(read_job_message(words.encode()), PRINCIPAL)
        except (ConflictError, RefusedError) as error:
            self._said[key.ref] = job_id
            log.warning("rotation_refused", tenant=key.tenant, key=key.ref, job=job_id, error=str(error))
            return
        if admission.created:
            log.info("rotation_enqueued", tenant=key.tenant, key=key.ref, job=job_id, why=why)
            self._tools.work_came.set()
        elif _is_over(admission.job):
            self._said[key.ref] = job_id
            log.warning(
                "rotation_is_over", tenant=key.tenant, key=key.ref, job=job_id, state=admission.job.state
            )


def _is_over(job: Job) -> bool:
    """Whether it ended without what it was for: a person cancelled it, say, and that stands."""
    return job.state not in (*UNFINISHED_STATES, "completed")


def _job_id(*about: str) -> str:
    digest = hashlib.sha256("\n".join(about).encode()).hexdigest()
    return f"{PRINCIPAL}-rotate-{digest[:_ID_DIGITS]}"
