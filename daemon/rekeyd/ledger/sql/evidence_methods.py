"""The part of `SqlLedger` that is about evidence, certificates and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rekeyd.domain.control import AuditHeads
from rekeyd.domain.objects import CarryState
from rekeyd.ledger.port import Checkpoint, EvidenceRow, JobClaim
from rekeyd.ledger.sql import evidence, statements, transaction
from rekeyd.ledger.sql.methods import Transactions


class EvidenceMethods(Transactions):
    """The port `EvidenceLedger`."""

    async def evidence_rows(self, claim: JobClaim, after: str | None, limit: int) -> Sequence[EvidenceRow]:
        return await self._read(evidence.evidence_rows, claim, after, limit)

    async def known_states(self, claim: JobClaim, keys: Sequence[str]) -> Mapping[str, CarryState]:
        return await self._read(evidence.known_states, claim, keys)

    async def record_certificate(self, claim: JobClaim, text: str) -> str:
        return await self._write(statements.record_certificate, claim, text)

    async def certificate(self, job_id: str) -> str | None:
        return await self._read(statements.certificate, job_id)

    async def tenant_certificates(self, tenant: str, limit: int) -> Sequence[str]:
        return await self._read(statements.tenant_certificates, tenant, limit)

    async def audit_heads(self) -> AuditHeads:
        return await self._read(transaction.heads)

    async def last_checkpoint(self) -> Checkpoint | None:
        return await self._read(statements.last_checkpoint)

    async def record_checkpoint(self, checkpoint: Checkpoint, actor: str) -> bool:
        return await self._write(statements.record_checkpoint, checkpoint, actor)

    async def checkpoints(self, after: int, limit: int) -> Sequence[Checkpoint]:
        return await self._read(statements.checkpoints_after, after, limit)

    async def unwritten_checkpoints(self, limit: int) -> Sequence[Checkpoint]:
        return await self._read(statements.unwritten_checkpoints, limit)

    async def note_written(self, number: int) -> None:
        await self._write(statements.note_written, number)
