"""What may be asked of the ledger about evidence, certificates and checkpoints. See `rekeyd.ledger.port`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from rekeyd.domain.control import AuditHeads
from rekeyd.domain.objects import CarryState
from rekeyd.ledger.values import Checkpoint, EvidenceRow, JobClaim


class EvidenceLedger(Protocol):
    """What is known of a move's objects in the end, and the signed statements that were made of it."""

    async def evidence_rows(self, claim: JobClaim, after: str | None, limit: int) -> Sequence[EvidenceRow]:
        """The next `limit` rows of the claim's move whose keys come after `after`, in the order of the keys' bytes.

        All but those `vanished` or `dropped`: what the source no longer held when it was switched is no data.
        Where nothing works on the move any more they are the same each time.
        """

    async def known_states(self, claim: JobClaim, keys: Sequence[str]) -> Mapping[str, CarryState]:
        """The states of those of the claim's move that have a row; at most 1,000 keys."""

    async def record_certificate(self, claim: JobClaim, text: str) -> str:
        """Keep the certificate of the claim's job, unless it has one already. Gives the one that is kept."""

    async def certificate(self, job_id: str) -> str | None:
        """The certificate of a job; None where it has none. Raises UnknownJobError."""

    async def tenant_certificates(self, tenant: str, limit: int) -> Sequence[str]:
        """The tenant's certificates, the oldest first; of more than `limit` those recorded last."""

    async def audit_heads(self) -> AuditHeads:
        """Of each chain of the audit trail the last record's number and hash."""

    async def last_checkpoint(self) -> Checkpoint | None:
        """The one with the highest number."""

    async def record_checkpoint(self, checkpoint: Checkpoint, actor: str) -> bool:
        """Keep a checkpoint whose number follows the last one's, on record; False where another has that number."""

    async def checkpoints(self, after: int, limit: int) -> Sequence[Checkpoint]:
        """At most `limit` checkpoints, those with higher numbers than `after`, in order."""

    async def unwritten_checkpoints(self, limit: int) -> Sequence[Checkpoint]:
        """At most `limit` of those that weren't noted as written elsewhere, too, in order."""

    async def note_written(self, number: int) -> None:
        """The checkpoint was seen to stand where checkpoints are written to."""
