"""What may be asked of the ledger about rotating a key. The guarantees are those of `rekeyd.ledger.port`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rekeyd.domain.tenant import PlacementRecord
from rekeyd.ledger.values import JobClaim


class RotationLedger(Protocol):
    """A tenant's placement led to another key, and the former one put away.

    A rotation is admitted by `admit_tenant_job`. Its move leads from the dedicated bucket to itself, so that passes,
    segments and claims are those of any other move; no row of it is ever swept or retired.
    """

    async def redirect_key(self, claim: JobClaim) -> PlacementRecord:
        """Lead the placement of the claim's tenant to the job's key, which is `active` from then on.

        So is the alias by which the job names it: a key that came back may have another one than before.
        By compare-and-set, under a new epoch; led there already, nothing changes. The former key stays as it is.
        Raises ConflictError unless the tenant is `dedicated`, in the bucket of the job, and open for writing.
        """

    async def archive_key(self, claim: JobClaim, ref: str, details: Mapping[str, object]) -> None:
        """Record that a former key of the tenant's is `archived`, and on what evidence. Archived already, no news.

        Raises ConflictError for the key to which the placement leads, and for one that is withdrawn.
        """

    async def observe_material(self, ref: str, material_id: str, actor: str) -> None:
        """Record what the provider encrypts with under a key now, and by which `actor` it was seen.

        Recorded already, or of no key that there is: no news, no audit record.
        """
