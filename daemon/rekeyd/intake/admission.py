"""From the bytes of a job message to a job in the ledger, or to the reason why not."""

from __future__ import annotations

from collections.abc import Collection

from rekeyd.domain.errors import RefusedError
from rekeyd.domain.job import KNOWN_KINDS, MigrateMessage, RevokeMessage, read_job_message
from rekeyd.domain.tenant import LocationPattern, admitted_locations
from rekeyd.ledger.port import Admission, Ledger


class AdmissionDesk:
    """Admits job messages, whichever way they come.

    The same message may be offered any number of times: the ledger knows it by its id. Each intake
    has a desk of its own, since intakes may ask for different kinds.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        source_pattern: LocationPattern,
        target_pattern: LocationPattern,
        grace_seconds: int,
        kinds: Collection[str] = KNOWN_KINDS,
        may_destroy: bool = True,
    ) -> None:
        """`may_destroy`: whether a revocation that deletes key material may be asked for here."""
        self._ledger = ledger
        self._source_pattern = source_pattern
        self._target_pattern = target_pattern
        self._grace_seconds = grace_seconds
        self._kinds = frozenset(kinds)
        self._may_destroy = may_destroy

    async def offer(self, raw: bytes, principal: str) -> Admission:
        """Admit the job that `raw` asks for, in the name of `principal`.

        Once it returns, the ledger has the job. Raises RefusedError naming the field, ConflictError for a
        known id with another body, LedgerError where it isn't known whether the ledger has it: offer it again.
        """
        received = read_job_message(raw)
        message = received.message
        if message.kind not in self._kinds:
            raise RefusedError("kind", f"{message.kind} may not be asked for here")
        if isinstance(message, RevokeMessage) and message.options.mode == "destroy" and not self._may_destroy:
            raise RefusedError("options.mode", "destroy may not be asked for here: have a person submit it")
        if not isinstance(message, MigrateMessage):
            return await self._ledger.admit_tenant_job(received, principal)
        source, target = admitted_locations(
            message.tenant,
            message.source,
            message.target,
            self._source_pattern,
            self._target_pattern,
        )
        asked = message.options.grace_seconds
        grace_seconds = self._grace_seconds if asked is None else asked
        return await self._ledger.admit(received, source, target, grace_seconds, principal)

    async def check(self) -> None:
        """Raises LedgerError while the ledger can take nothing."""
        await self._ledger.check()
