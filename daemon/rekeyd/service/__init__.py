"""The daemon as a whole: settings become adapters here, and only here; it is started, drained and stopped.

The SDKs take about a second to import. Commands that only look into the ledger do without, so what needs
them is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rekeyd.domain.posture import KeyFacts
from rekeyd.service.findings import CheckFinding
from rekeyd.service.ledger import admission, open_ledger
from rekeyd.service.requests import PostureRequest
from rekeyd.settings import Settings

if TYPE_CHECKING:
    from rekeyd.domain.certificate import Certificate
    from rekeyd.domain.custody import WrappingKey
    from rekeyd.domain.offer import AnswerDocument, OfferDocument
    from rekeyd.domain.signed import PublicKey
    from rekeyd.ledger.port import Ledger, TenantKey
    from rekeyd.service.destruction import DestroyedKey
    from rekeyd.transfer.rekey_estimate import RotationEstimate

__all__ = [
    "CheckFinding",
    "PostureRequest",
    "accept_key",
    "admission",
    "check",
    "check_unknown_tenant",
    "destroy_key",
    "estimate_rotation",
    "look_at_key",
    "offer_key",
    "open_ledger",
    "prove",
    "serve",
    "signing_key",
    "signing_keys",
    "wrapping_key",
]


async def serve(settings: Settings) -> int:
    """See `rekeyd.service.daemon.serve`."""
    from rekeyd.service import daemon  # noqa: PLC0415 - see above

    return await daemon.serve(settings)


async def check(settings: Settings) -> Sequence[CheckFinding]:
    """See `rekeyd.service.checks.check`."""
    from rekeyd.service import checks  # noqa: PLC0415 - see above

    return await checks.check(settings)


async def check_unknown_tenant(settings: Settings, tenant: str) -> None:
    """See `rekeyd.service.unknown.check_unknown_tenant`."""
    from rekeyd.service import unknown  # noqa: PLC0415 - see above

    await unknown.check_unknown_tenant(settings, tenant)


async def look_at_key(settings: Settings, request: PostureRequest) -> KeyFacts:
    """See `rekeyd.service.posture.look_at_key`."""
    from rekeyd.service import posture  # noqa: PLC0415 - see above

    return await posture.look_at_key(settings, request)


async def signing_key(settings: Settings) -> PublicKey:
    """The public half of what signs here. Raises RefusedError naming the setting, CustodyError."""
    from rekeyd.service.signing import open_signer  # noqa: PLC0415 - only this needs it

    return await (await open_signer(settings)).public_key()


async def signing_keys(settings: Settings) -> Sequence[PublicKey]:
    """The same, and those of before: whose signatures count here. Raises likewise."""
    from rekeyd.service.signing import former_signers  # noqa: PLC0415 - see above

    return (await signing_key(settings), *await former_signers(settings))


async def wrapping_key(settings: Settings) -> WrappingKey:
    """See `rekeyd.service.custody.wrapping_key`."""
    from rekeyd.service import custody  # noqa: PLC0415 - see above

    return await custody.wrapping_key(settings)


async def offer_key(
    settings: Settings, ledger: Ledger, tenant: str, principal: str, ref: str | None
) -> OfferDocument:
    """See `rekeyd.service.offers.offer_key`."""
    from rekeyd.service import offers  # noqa: PLC0415 - see above

    return await offers.offer_key(settings, ledger, tenant, principal, ref)


async def accept_key(
    settings: Settings, ledger: Ledger, tenant: str, principal: str, document: AnswerDocument
) -> TenantKey:
    """See `rekeyd.service.offers.accept_key`."""
    from rekeyd.service import offers  # noqa: PLC0415 - see above

    return await offers.accept_key(settings, ledger, tenant, principal, document)


async def destroy_key(
    settings: Settings, ledger: Ledger, tenant: str, principal: str, ref: str
) -> DestroyedKey:
    """See `rekeyd.service.destruction.destroy_key`."""
    from rekeyd.service import destruction  # noqa: PLC0415 - see above

    return await destruction.destroy_key(settings, ledger, tenant, principal, ref)


async def prove(settings: Settings, certificate: Certificate, key: str) -> str | None:
    """See `rekeyd.service.proofs.prove`."""
    from rekeyd.service import proofs  # noqa: PLC0415 - see above

    return await proofs.prove(settings, certificate, key)


async def estimate_rotation(settings: Settings, ledger: Ledger, raw: bytes) -> RotationEstimate:
    """See `rekeyd.service.rotation.estimate_rotation`."""
    from rekeyd.service import rotation  # noqa: PLC0415 - see above

    return await rotation.estimate_rotation(settings, ledger, raw)
