"""A job message as it arrives at the ledger: known already, refused on record, or stored. The same for every kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from rekeyd.domain.audit import canonical_json
from rekeyd.domain.errors import ConflictError, RefusedError
from rekeyd.domain.job import OVERTAKING_RANKS, PRIORITY_RANKS, ReceivedJob, key_of
from rekeyd.domain.key import KnownKey, WrappedKey, key_ref
from rekeyd.ledger.schema import jobs
from rekeyd.ledger.sql.transaction import Refusal, Transaction


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message, and who handed it in."""

    received: ReceivedJob
    principal: str


def stored_body(received: ReceivedJob) -> str:
    """The body as it is kept: without what was wrapped, which is kept apart, until it's imported and no longer."""
    key = key_of(received.message)
    if not isinstance(key, WrappedKey):
        return received.body
    known = KnownKey(kind="known", ref=key_ref(key))
    return canonical_json(json.loads(received.body) | {"key": known.model_dump()})


def is_known(tx: Transaction, arrival: Arrival) -> bool:
    """Whether the ledger has this very job. Raises ConflictError where it has another one by its id."""
    message = arrival.received.message
    known = tx.db.execute(sa.select(jobs.c.body_sha256).where(jobs.c.id == message.id)).scalar_one_or_none()
    if known is not None and known != arrival.received.body_sha256:
        raise ConflictError(f"the job {message.id} is known already, with another body")
    return known is not None


def refused(tx: Transaction, arrival: Arrival, error: ConflictError | RefusedError) -> Refusal:
    """Have the refusal on record, too."""
    message = arrival.received.message
    tx.record(
        "job.refused",
        actor=arrival.principal,
        tenant=message.tenant,
        job=message.id,
        outcome="refused",
        reason=str(error),
        body_sha256=arrival.received.body_sha256,
    )
    return Refusal(error)


def store_job(
    tx: Transaction,
    arrival: Arrival,
    *,
    move_id: int,
    key_ref: str,
    grace_seconds: int,
    details: Mapping[str, object],
) -> None:
    """Enter the job, due at once unless its message says when. `details` stand in the audit record, too."""
    message, now = arrival.received.message, tx.now()
    rank = OVERTAKING_RANKS.get(message.kind, PRIORITY_RANKS[message.options.priority])
    tx.db.execute(
        sa.insert(jobs).values(
            id=message.id,
            kind=message.kind,
            tenant=message.tenant,
            move_id=move_id,
            key_ref=key_ref,
            body=stored_body(arrival.received),
            body_sha256=arrival.received.body_sha256,
            grace_seconds=grace_seconds,
            priority=rank,
            admitted_by=arrival.principal,
            state="queued",
            phase="queued",
            due_at=message.not_before.timestamp() if message.not_before else now,
            created_at=now,
        )
    )
    tx.record(
        "job.admitted",
        actor=arrival.principal,
        tenant=message.tenant,
        job=message.id,
        outcome="admitted",
        kind=message.kind,
        key=key_ref,
        body_sha256=arrival.received.body_sha256,
        requested_by=message.requested_by,
        traceparent=message.traceparent,
        tracestate=message.tracestate,
        **details,
    )
