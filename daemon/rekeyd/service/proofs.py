"""The proof of one object, from the evidence that lies with a tenant's data."""

from __future__ import annotations

from rekeyd import __version__
from rekeyd.domain.certificate import Certificate
from rekeyd.domain.errors import RefusedError
from rekeyd.domain.objects import Location
from rekeyd.jobs.evidence_reading import prove_object
from rekeyd.service.adapters import open_stores
from rekeyd.settings import Settings
from rekeyd.telemetry import Metrics


async def prove(settings: Settings, certificate: Certificate, key: str) -> str | None:
    """The document; None where the certificate speaks of no such object.

    Raises NotHeldError where the evidence isn't what was certified, StoreError where it can't be read, RefusedError for
    a store that the settings don't have, MissingCredentialsError.
    """
    target = Location.parse(certificate.target)
    if target.store not in settings.stores:
        raise RefusedError(f"stores.{target.store}", f"is needed to read the evidence in {target}")
    async with open_stores(settings, Metrics(__version__)) as stores:
        return await prove_object(stores[target.store].objects, certificate, key)
