"""The lock of a revocation that is the key's: switched off, and by the key service's own word afterwards it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import structlog

from rekeyd.domain.bucket_policy import partition_of
from rekeyd.domain.custody import ProviderRequest, account_of, region_of, tenant_alias
from rekeyd.domain.errors import CustodyError, ForeignKeyError, KeyForbiddenError, KeyStateError
from rekeyd.domain.key import KmsKey
from rekeyd.jobs.run import JobRun
from rekeyd.ledger.port import TenantKey

log = structlog.get_logger()

MISSING = "missing"
"""What stands for a key service's state of a key that it doesn't have (any more)."""

_OFF: Mapping[str, str] = {
    "Disabled": "disabled",
    "PendingDeletion": "waits for its deletion",
    "PendingReplicaDeletion": "waits for its deletion",
    "PendingImport": "has no material",
    MISSING: "gone",
}
"""What became of a key in each state in which nothing can be read under it, by the key service's word for that.

Decrypt fails in all of them ("Key states of AWS KMS keys", AWS KMS Developer Guide). They are as good as disabled: one
that is gone, or about to be, need not be waited for.
"""


@dataclass(frozen=True, slots=True)
class KeyLeft:
    """How a key was left."""

    did: str = ""
    """What became of it, or why it was not touched; empty where that isn't settled."""
    is_off: bool = False
    """Whether the key service says that nobody can use it."""
    was_on: bool = False
    """Whether it was on until now."""
    requests: tuple[ProviderRequest, ...] = ()
    fault: str = ""
    """Why it couldn't be switched off now."""
    doubt: str = ""
    """Why it counts as on, although it was switched off."""


async def switch_off(run: JobRun, key: TenantKey) -> KeyLeft:
    """Disable a key, whatever the ledger has for its state. One that nobody can use anyway is left as it is."""
    if key.arn is None:
        return KeyLeft("never imported", is_off=True)
    found = await _state_of(run, key, key.arn)
    if found in _OFF:
        return KeyLeft(_OFF[found], is_off=True)
    try:
        switched = await run.switching(partial(run.tools.custody.disable, run.errand, key.arn))
    except CustodyError as error:
        return _not_switched(run, key, error)
    after = await _state_of(run, key, key.arn)
    if after in _OFF:
        return KeyLeft(_OFF[after], is_off=True, was_on=True, requests=switched.requests)
    if after:
        return KeyLeft(was_on=True, doubt=f"{key.ref} is {after}, although it was disabled")
    return KeyLeft(was_on=True, fault=f"{key.ref} was disabled, but whether it is can't be looked at")


def _not_switched(run: JobRun, key: TenantKey, error: CustodyError) -> KeyLeft:
    if isinstance(error, KeyStateError) and error.state in _OFF:
        return KeyLeft(_OFF[error.state], is_off=True, requests=error.requests)
    if isinstance(error, ForeignKeyError | KeyForbiddenError) and key.kind == "kms":
        # The tenant's own key: its owner decides who may switch it off. Any other is ours, and that is a fault.
        return KeyLeft(f"not touched: {error}", requests=error.requests)
    log.warning("key_not_disabled", job=run.job.id, key=key.ref, error=str(error))
    return KeyLeft(fault=f"{key.ref}: {error}")


async def _state_of(run: JobRun, key: TenantKey, arn: str) -> str:
    """The key service's word for the key's state; empty where we can't look."""
    alias = key.alias or _alias_of(key, arn)
    try:
        description = await run.tools.custody.describe(KmsKey(kind="kms", arn=arn, alias=alias))
    except CustodyError as error:
        log.info("key_not_looked_at", job=run.job.id, key=key.ref, error=str(error))
        return ""
    return MISSING if description is None else description.state


def _alias_of(key: TenantKey, arn: str) -> str:
    """The alias that a key of the tenant's making has; whether it is there doesn't matter here."""
    return f"arn:{partition_of(arn)}:kms:{region_of(arn)}:{account_of(arn)}:{tenant_alias(key.tenant)}"
