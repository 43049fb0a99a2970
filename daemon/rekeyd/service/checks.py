"""`rekeyd check`: reach everything that the daemon will depend on, and say how to mend what isn't well."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NoReturn

from rekeyd import __version__
from rekeyd.custody.aws_kms import AwsKms
from rekeyd.custody.port import Custody
from rekeyd.domain.custody import Errand
from rekeyd.domain.errors import (
    AccessDeniedError,
    CustodyError,
    KeyForbiddenError,
    LedgerError,
    MissingCredentialsError,
    RefusedError,
    StoreError,
    UnfitKeyError,
)
from rekeyd.domain.key import KmsKey
from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import LocationPattern
from rekeyd.intake.port import Intake, IntakeError
from rekeyd.jobs.tools import Store
from rekeyd.service.adapters import open_stores, sqs_intake
from rekeyd.service.custody import MAKE_WRAPPING_KEY, open_custody, wrapping_key
from rekeyd.service.findings import CheckFinding
from rekeyd.service.ledger import look_at_ledger
from rekeyd.service.signing import key_beside_ledger, open_signer
from rekeyd.settings import Settings
from rekeyd.telemetry import Metrics

_NOBODY = "rekeyd-check"
"""The tenant by whose locations the stores are asked; nothing is written anywhere."""


async def check(settings: Settings) -> Sequence[CheckFinding]:
    """Look at ledger, our own keys, credentials, stores, key service and intakes, one by one; make none of them.

    Raises SettingsError where the patterns are empty.
    """
    source_pattern, target_pattern = settings.require_patterns()
    metrics = Metrics(__version__)
    findings = [
        await _ledger_finding(settings),
        await _signing_finding(settings),
        await _wrapping_finding(settings),
    ]
    try:
        async with open_stores(settings, metrics) as stores, open_custody(settings, unwraps=False) as custody:
            findings.append(CheckFinding("credentials", ok=True, detail="found"))
            source_exists = "{" not in _bucket(source_pattern)
            findings += await asyncio.gather(
                _bucket_finding(stores, source_pattern, "source", must_exist=source_exists),
                _bucket_finding(stores, target_pattern, "target", must_exist=False),
                _custody_finding(settings, custody),
                _roles_finding(custody),
                _intake_finding(sqs_intake(settings, _ClosedDesk(), metrics.count_message)),
            )
    except MissingCredentialsError as error:
        advice = "set AWS_PROFILE, AWS_ACCESS_KEY_ID and its secret, or run where there is an identity"
        findings.append(
            CheckFinding("credentials", ok=False, detail=str(error), advice=advice, reachable=False)
        )
    return findings


async def _ledger_finding(settings: Settings) -> CheckFinding:
    try:
        return CheckFinding("ledger", ok=True, detail=await look_at_ledger(settings))
    except LedgerError as error:
        advice = "is ledger.url right? Its folder, and what is in it, must be this user's to write to"
        return CheckFinding("ledger", ok=False, detail=str(error), advice=advice, reachable=False)


async def _signing_finding(settings: Settings) -> CheckFinding:
    """Whether what signs certificates and checkpoints is there; makes none."""
    name, path = "signing key", key_beside_ledger(settings)
    try:
        if not settings.audit.signing_key_file and not await asyncio.to_thread(path.exists):
            return CheckFinding(name, ok=True, detail=f"{path} isn't there yet: `rekeyd serve` makes it")
        found = await (await open_signer(settings)).public_key()
    except RefusedError as error:
        return CheckFinding(name, ok=False, detail=error.reason, advice=f"see {error.field}")
    except KeyForbiddenError as error:
        advice = "let these credentials use kms:GetPublicKey and kms:Sign with it"
        return CheckFinding(name, ok=False, detail=str(error), advice=advice)
    except CustodyError as error:
        advice = "is audit.signing_key_file right, and does the key service run?"
        return CheckFinding(name, ok=False, detail=str(error), advice=advice, reachable=False)
    return CheckFinding(name, ok=True, detail=f"its public key is {found.fingerprint}")


async def _wrapping_finding(settings: Settings) -> CheckFinding:
    """Whether wrapped keys can be taken: the private key is there, and is one."""
    name, wrapping = "wrapping key", settings.custody.wrapping
    if not wrapping.private_key_file and not wrapping.kms_key_arn:
        return CheckFinding(name, ok=True, detail="none: wrapped keys aren't taken")
    try:
        found = await wrapping_key(settings)
    except RefusedError as error:
        return CheckFinding(name, ok=False, detail=error.reason, advice=f"see {error.field}")
    except KeyForbiddenError as error:
        advice = "let these credentials use kms:GetPublicKey with it, and those that provision kms:Decrypt"
        return CheckFinding(name, ok=False, detail=str(error), advice=advice)
    except UnfitKeyError as error:
        return CheckFinding(name, ok=False, detail=str(error), advice=MAKE_WRAPPING_KEY)
    except CustodyError as error:
        advice = "is custody.wrapping right, and does the key service run?"
        return CheckFinding(name, ok=False, detail=str(error), advice=advice, reachable=False)
    return CheckFinding(name, ok=True, detail=f"its public key is {found.fingerprint}")


def _bucket(pattern: LocationPattern) -> str:
    return pattern.text.partition("://")[2].partition("/")[0]


async def _bucket_finding(
    stores: Mapping[str, Store], pattern: LocationPattern, name: str, *, must_exist: bool
) -> CheckFinding:
    location = pattern.locate(_NOBODY, name)
    store = f"store {location.store} ({name})"

    async def look() -> CheckFinding:
        bucket = await stores[location.store].buckets.describe(location.bucket)
        if bucket is None and must_exist:
            return CheckFinding(
                store, ok=False, detail=f"there is no bucket {location.bucket}", advice=f"see {pattern.text}"
            )
        if must_exist:
            await stores[location.store].objects.list_page(location.bucket, location.prefix, limit=1)
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


async def _custody_finding(settings: Settings, custody: Custody) -> CheckFinding:
    """Ask for a key that doesn't exist: that the service says so is all that is wanted."""
    region = settings.custody.aws.region
    account = f"arn:aws:kms:{region}:000000000000"
    nobody = KmsKey(
        kind="kms",
        arn=f"{account}:key/00000000-0000-0000-0000-000000000000",
        alias=f"{account}:alias/{_NOBODY}",
    )
    try:
        await custody.describe(nobody)
    except KeyForbiddenError:
        pass  # AWS says so of keys in other accounts, existing or not
    except CustodyError as error:
        advice = "is custody.aws right, and does the key service run?"
        return CheckFinding("custody aws", ok=False, detail=str(error), advice=advice, reachable=False)
    return CheckFinding("custody aws", ok=True, detail="answers")


async def _roles_finding(custody: AwsKms) -> CheckFinding:
    """Assume each role, and do nothing in it."""
    name, faults = "custody roles", await custody.role_faults(Errand(_NOBODY, "check"))
    if faults:
        advice = "let these credentials assume it, in its trust policy and in their own: see docs/keys.md"
        return CheckFinding(name, ok=False, detail="; ".join(faults.values()), advice=advice)
    return CheckFinding(name, ok=True, detail="each can be assumed, or is ourselves")


class _ClosedDesk:
    """Nothing is handed in here: who only looks at an intake takes no message from it."""

    async def offer(self, raw: bytes, principal: str) -> NoReturn:
        raise LedgerError(f"{principal} can't hand in {len(raw)} bytes: the ledger isn't open")

    async def check(self) -> NoReturn:
        raise LedgerError("the ledger isn't open")


async def _intake_finding(intake: Intake | None) -> CheckFinding:
    if intake is None:
        return CheckFinding("intake sqs", ok=True, detail="off")
    name = f"intake {intake.name}"
    try:
        faults = await intake.check()
    except IntakeError as error:
        advice = "does the queue exist, and may these credentials use it?"
        return CheckFinding(name, ok=False, detail=str(error), advice=advice, reachable=False)
    if faults:
        return CheckFinding(name, ok=False, detail="answers", advice="; ".join(faults))
    return CheckFinding(name, ok=True, detail="answers")
