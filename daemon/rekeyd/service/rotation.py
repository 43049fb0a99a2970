"""What a rotation would do, asked of ledger and store without admitting anything."""

from __future__ import annotations

from rekeyd import __version__
from rekeyd.domain.errors import RefusedError
from rekeyd.domain.job import RotateMessage, read_job_message
from rekeyd.domain.key import KmsKey, key_ref
from rekeyd.jobs.rotation_plan import plan_rotation
from rekeyd.ledger.port import Ledger
from rekeyd.service.adapters import open_stores, plan_limits
from rekeyd.settings import Settings
from rekeyd.telemetry import Metrics
from rekeyd.transfer.rekey_estimate import RotationEstimate


async def estimate_rotation(settings: Settings, ledger: Ledger, raw: bytes) -> RotationEstimate:
    """The estimate for a message. Nothing is admitted, written or recorded.

    Raises RefusedError naming the field where the message is no rotation, or one that wouldn't be admitted; StoreError
    where the bucket can't be listed, and MissingCredentialsError.
    """
    message = read_job_message(raw).message
    if not isinstance(message, RotateMessage):
        raise RefusedError("kind", f"{message.kind} has no plan: only a rotation does")
    record, _ = await ledger.placement(message.tenant)
    if record is None or record.target is None or record.phase != "dedicated":
        raise RefusedError("tenant", "isn't dedicated: only a dedicated one's key can be rotated")
    ref = None if message.key is None else key_ref(message.key)
    known = [key for key in await ledger.tenant_keys() if ref is not None and ref in (key.ref, key.arn)]
    if any(key.tenant != message.tenant for key in known):
        raise RefusedError("key", "belongs to another tenant")
    if record.target.store not in settings.stores:
        raise RefusedError(f"stores.{record.target.store}", f"is needed to list {record.target}")
    async with open_stores(settings, Metrics(__version__)) as stores:
        # One that is still to be imported has no place; it will be in an account of ours.
        arn = known[0].arn if known else message.key.arn if isinstance(message.key, KmsKey) else None
        store = stores[record.target.store]
        return await plan_rotation(store, record, message, arn, plan_limits(settings.limits))
