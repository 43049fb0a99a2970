"""What is done to stores, on record in the audit trail."""

from __future__ import annotations

from collections.abc import Mapping

from rekeyd.ledger.port import JobClaim, StoreAction
from rekeyd.ledger.sql.claims import change_job
from rekeyd.ledger.sql.transaction import Transaction


def record_action(
    tx: Transaction, claim: JobClaim, action: StoreAction, details: Mapping[str, object]
) -> None:
    """Append what the claim's holder is about to do, or has done."""
    change_job(tx.db, claim)
    tx.record(action, actor=claim.holder, tenant=claim.job.tenant, job=claim.job.id, **details)
