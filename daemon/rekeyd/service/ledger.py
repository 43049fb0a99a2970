"""The ledger and the way into it: all that commands about jobs need, without the stores' SDKs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from rekeyd.domain.job import KNOWN_KINDS
from rekeyd.intake.admission import AdmissionDesk
from rekeyd.ledger.port import Ledger
from rekeyd.ledger.sql import RecordCounter, SqlLedger
from rekeyd.ledger.sql.commits import CommitObserver
from rekeyd.ledger.sql.engine import check_makeable, is_there, sqlite_path
from rekeyd.settings import Settings


@asynccontextmanager
async def open_ledger(
    settings: Settings,
    observe_commit: CommitObserver | None = None,
    count_records: RecordCounter | None = None,
    *,
    make: bool = False,
) -> AsyncIterator[Ledger]:
    """The ledger of the settings, for as long as the context lasts. Raises LedgerError.

    Only with `make` is one made that isn't there: whoever only asks has mistyped `ledger.url`.
    """
    ledger = await SqlLedger.open(
        settings.ledger.url, make=make, observe_commit=observe_commit, count_records=count_records
    )
    try:
        yield ledger
    finally:
        await ledger.close()


async def look_at_ledger(settings: Settings) -> str:
    """How the ledger of the settings stands; makes none. Raises LedgerError where serving with it would fail."""
    path, url = sqlite_path(settings.ledger.url), settings.ledger.url
    if await asyncio.to_thread(is_there, path):
        async with open_ledger(settings) as ledger:
            await ledger.check()
        return url
    await asyncio.to_thread(check_makeable, path)
    return f"{url} isn't there yet: `rekeyd serve` makes it, and `rekeyd submit`"


def admission(
    settings: Settings, ledger: Ledger, kinds: Collection[str] = KNOWN_KINDS, *, may_destroy: bool = True
) -> AdmissionDesk:
    """Where job messages of these kinds are handed in. Raises SettingsError where the patterns are empty."""
    source_pattern, target_pattern = settings.require_patterns()
    return AdmissionDesk(
        ledger,
        source_pattern=source_pattern,
        target_pattern=target_pattern,
        grace_seconds=settings.migrate.grace_seconds,
        kinds=kinds,
        may_destroy=may_destroy,
    )
