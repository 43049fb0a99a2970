"""The part of `SqlLedger` that is about rotating."""

from __future__ import annotations

from collections.abc import Mapping

from rekeyd.domain.tenant import PlacementRecord
from rekeyd.ledger.port import JobClaim
from rekeyd.ledger.sql import rotation
from rekeyd.ledger.sql.methods import Transactions


class RotationMethods(Transactions):
    """The port `RotationLedger`."""

    async def redirect_key(self, claim: JobClaim) -> PlacementRecord:
        return await self._write(rotation.redirect_key, claim)

    async def archive_key(self, claim: JobClaim, ref: str, details: Mapping[str, object]) -> None:
        await self._write(rotation.archive_key, claim, ref, details)

    async def observe_material(self, ref: str, material_id: str, actor: str) -> None:
        await self._write(rotation.observe_material, ref, material_id, actor)
