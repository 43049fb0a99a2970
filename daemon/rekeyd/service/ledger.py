"""The ledger and the way into it: all that commands about jobs need, without the stores' SDKs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from rekeyd.intake.admission import KNOWN_KINDS, AdmissionDesk
from rekeyd.ledger.port import Ledger
from rekeyd.ledger.sql import RecordCounter, SqlLedger
from rekeyd.ledger.sql.commits import CommitObserver
from rekeyd.settings import Settings


@asynccontextmanager
async def open_ledger(
    settings: Settings,
    observe_commit: CommitObserver | None = None,
    count_records: RecordCounter | None = None,
) -> AsyncIterator[Ledger]:
    """The ledger of the settings, for as long as the context lasts. Raises LedgerError."""
    ledger = await SqlLedger.open(
        settings.ledger.url, observe_commit=observe_commit, count_records=count_records
    )
    try:
        yield ledger
    finally:
        await ledger.close()


def admission(settings: Settings, ledger: Ledger, kinds: Collection[str] = KNOWN_KINDS) -> AdmissionDesk:
    """Where job messages of these kinds are handed in. Raises SettingsError where the patterns are empty."""
    source_pattern, target_pattern = settings.require_patterns()
    return AdmissionDesk(
        ledger,
        source_pattern=source_pattern,
        target_pattern=target_pattern,
        grace_seconds=settings.migrate.grace_seconds,
        kinds=kinds,
    )
