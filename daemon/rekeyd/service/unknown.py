"""What a tenant's target says of it, where the ledger has never heard of the tenant."""

from __future__ import annotations

from rekeyd import __version__
from rekeyd.jobs.comparison import check_unknown
from rekeyd.service.adapters import open_stores
from rekeyd.settings import Settings
from rekeyd.telemetry import Metrics


async def check_unknown_tenant(settings: Settings, tenant: str) -> None:
    """Raises DistrustedError where the tenant has moved all the same: the ledger is older than that.

    Raises StoreError where the target's store says nothing, and MissingCredentialsError.
    """
    _, target_pattern = settings.require_patterns()
    target = target_pattern.locate(tenant, "tenant")
    async with open_stores(settings, Metrics(__version__)) as stores:
        await check_unknown(stores[target.store].objects, tenant, target)
