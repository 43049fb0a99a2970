"""`rekeyd check`: reach everything that the daemon will depend on, and say how to mend what isn't well."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from rekeyd import __version__
from rekeyd.domain.errors import (
    AccessDeniedError,
    CustodyError,
    KeyForbiddenError,
    LedgerError,
    StoreError,
)
from rekeyd.domain.key import KmsKey
from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import LocationPattern
from rekeyd.intake.port import Intake, IntakeError
from rekeyd.jobs.tools import Tools
from rekeyd.ledger.port import Ledger
from rekeyd.service.adapters import MissingCredentialsError, open_tools, sqs_intake
from rekeyd.service.findings import CheckFinding
from rekeyd.service.ledger import open_ledger
from rekeyd.settings import Settings
from rekeyd.telemetry import Metrics

_NOBODY = "rekeyd-check"
"""The tenant by whose locations the stores are asked; nothing is written anywhere."""


async def check(settings: Settings) -> Sequence[CheckFinding]:
    """Look at ledger, credentials, stores, key service and intakes, one by one; write nothing but a new ledger file.

    Raises SettingsError where the patterns are empty.
    """
    source_pattern, target_pattern = settings.require_patterns()
    metrics = Metrics(__version__)
    findings: list[CheckFinding] = []
    async with AsyncExitStack() as opened:
        try:
            ledger = await opened.enter_async_context(open_ledger(settings))
            findings.append(CheckFinding("ledger", ok=True, detail=settings.ledger.url))
        except LedgerError as error:
            advice = "its directory must exist and be writable for this user"
            return [CheckFinding("ledger", ok=False, detail=str(error), advice=advice, reachable=False)]
        try:
            tools = await opened.enter_async_context(open_tools(settings, ledger, metrics))
        except MissingCredentialsError as error:
            advice = "set AWS_PROFILE, AWS_ACCESS_KEY_ID and its secret, or run where there is an identity"
            return [*findings, CheckFinding("credentials", ok=False, detail=str(error), advice=advice)]
        findings.append(CheckFinding("credentials", ok=True, detail="found"))
        findings += await asyncio.gather(
            _bucket_finding(tools, source_pattern, "source", must_exist="{" not in _bucket(source_pattern)),
            _bucket_finding(tools, target_pattern, "target", must_exist=False),
            _custody_finding(settings, tools),
        )
        findings += await _intake_findings(settings, ledger, metrics)
    return findings


def _bucket(pattern: LocationPattern) -> str:
    return pattern.text.partition("://")[2].partition("/")[0]


async def _bucket_finding(
    tools: Tools, pattern: LocationPattern, name: str, *, must_exist: bool
) -> CheckFinding:
    location = pattern.locate(_NOBODY, name)
    store = f"store {location.store} ({name})"

    async def look() -> CheckFinding:
        bucket = await tools.stores[location.store].buckets.describe(location.bucket)
        if bucket is None and must_exist:
            return CheckFinding(
                store, ok=False, detail=f"there is no bucket {location.bucket}", advice=f"see {pattern.text}"
            )
        if must_exist:
            await tools.stores[location.store].objects.list_page(location.bucket, location.prefix, limit=1)
        return CheckFinding(store, ok=True, detail="answers")

    return await _store_asked(store, location, look)


async def _store_asked(
    store: str, location: Location, look: Callable[[], Awaitable[CheckFinding]]
) -> CheckFinding:
    try:
        return await look()
    except AccessDeniedError as error:
        advice = f"let these credentials list {location.bucket} and read its configuration"
        return CheckFinding(store, ok=False, detail=str(error), advice=advice)
    except StoreError as error:
        advice = "is its endpoint right, and does it run?"
        return CheckFinding(store, ok=False, detail=str(error), advice=advice, reachable=not error.repeatable)


async def _custody_finding(settings: Settings, tools: Tools) -> CheckFinding:
    """Ask for a key that doesn't exist: that the service says so is all that is wanted."""
    region = settings.custody.aws.region
    account = f"arn:aws:kms:{region}:000000000000"
    nobody = KmsKey(
        kind="kms",
        arn=f"{account}:key/00000000-0000-0000-0000-000000000000",
        alias=f"{account}:alias/{_NOBODY}",
    )
    try:
        await tools.custody.describe(nobody)
    except KeyForbiddenError:
        pass  # AWS says so of keys in other accounts, existing or not
    except CustodyError as error:
        advice = "is custody.aws right, and does the key service run?"
        return CheckFinding("custody aws", ok=False, detail=str(error), advice=advice, reachable=False)
    return CheckFinding("custody aws", ok=True, detail="answers")


async def _intake_findings(settings: Settings, ledger: Ledger, metrics: Metrics) -> list[CheckFinding]:
    sqs = sqs_intake(settings, ledger, metrics.count_message)
    if sqs is None:
        return [CheckFinding("intake sqs", ok=True, detail="off")]
    return [await _intake_finding(sqs)]


async def _intake_finding(intake: Intake) -> CheckFinding:
    name = f"intake {intake.name}"
    try:
        faults = await intake.check()
    except IntakeError as error:
        advice = "does the queue exist, and may these credentials use it?"
        return CheckFinding(name, ok=False, detail=str(error), advice=advice, reachable=False)
    if faults:
        return CheckFinding(name, ok=False, detail="answers", advice="; ".join(faults))
    return CheckFinding(name, ok=True, detail="answers")
