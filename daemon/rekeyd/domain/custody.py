"""What is asked of a custody, and what it answers, as values."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

TENANT_TAG = "rekeyd:tenant"
FINGERPRINT_TAG = "rekeyd:fingerprint"
"""The tags of a key that we made: whose it is, and the SHA-256 of its material, where we know that."""

DELETION_DAYS = 30
"""How long a key waits for its deletion: the longest that KMS allows ("ScheduleKeyDeletion", AWS KMS API Reference)."""


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """One call of a provider's, as its own trail (CloudTrail) knows it. Goes into the audit trail."""

    operation: str
    """Service and operation: `kms:ImportKeyMaterial`."""
    request_id: str
    """Empty where no answer came."""
    outcome: str = "ok"
    """Or the code with which it was refused; `unanswered` where nobody knows."""


def noted(requests: Iterable[ProviderRequest]) -> list[dict[str, str]]:
    """Requests as the audit trail has them, in order."""
    return [
        {"operation": each.operation, "request_id": each.request_id, "outcome": each.outcome}
        for each in requests
    ]


@dataclass(frozen=True, slots=True)
class Errand:
    """On whose behalf, and for which job, custody is asked. It names the session of a role that is assumed."""

    tenant: str
    job: str
    """The job's id, or what a command is called."""

    @property
    def session_name(self) -> str:
        """What STS takes: 2 to 64 of A-Z a-z 0-9 _ + = , . @ - ("AssumeRole", AWS STS API Reference).

        Too long a one is cut, and told apart by a hash.
        """
        name = re.sub(r"[^A-Za-z0-9_+=,.@-]", "-", f"rekeyd-{self.tenant}-{self.job}")
        if len(name) <= _SESSION_NAME_MAX:
            return name
        digest = hashlib.sha256(f"{self.tenant}\n{self.job}".encode()).hexdigest()[:_DIGEST_LETTERS]
        return f"{name[: _SESSION_NAME_MAX - _DIGEST_LETTERS - 1]}-{digest}"


_SESSION_NAME_MAX = 64
_DIGEST_LETTERS = 12


@dataclass(frozen=True, slots=True)
class WrappingKey:
    """A public key with which keys are wrapped."""

    pem: str
    """SubjectPublicKeyInfo."""
    fingerprint: str
    """SHA-256 of its DER, in hex."""
    requests: tuple[ProviderRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyHome:
    """What a key is made for."""

    region: str
    """The bucket's: S3 takes keys of its own region alone."""
    bucket: str
    """The dedicated bucket: the key's policy lets nothing else be encrypted under it."""


@dataclass(frozen=True, slots=True)
class BroughtKey:
    """A key of the tenant's making, now in the key service and usable."""

    arn: str
    alias_arn: str
    """The tenant's alias. It points at this key only once `point_alias` made it so, or where there was none."""
    fingerprint: str
    """SHA-256 of the material in hex; of a key that we never held, `kms:` and the service's own id of the material."""
    requests: tuple[ProviderRequest, ...]
    made: bool
    """Whether this very call made the key; if not, it was found."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a tenant needs to wrap its key for the key service itself. Nothing in it is secret."""

    ref: str
    """The ARN of the key that waits for its material."""
    public_key: str
    """PEM. RSA-OAEP with SHA-256, and MGF1 with SHA-256."""
    import_token: bytes
    """Goes with this public key, and back with what was wrapped."""
    expires_at: float
    """Seconds since 1970: from then on neither will do (24 hours on AWS)."""
    requests: tuple[ProviderRequest, ...]


@dataclass(frozen=True, slots=True)
class OfferAnswer:
    """What a tenant made of an offer."""

    ref: str
    import_token: bytes
    encrypted_material: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PointedAlias:
    """Where an alias points now."""

    alias_arn: str
    arn: str
    formerly: str | None
    """The key at which it pointed before, None where it's new."""
    requests: tuple[ProviderRequest, ...]


@dataclass(frozen=True, slots=True)
class SwitchedKey:
    """A key after it was switched, or was found to be as wanted already."""

    arn: str
    state: str
    """The key service's own word: `Disabled`, `Enabled`, `PendingImport`, `PendingDeletion`."""
    requests: tuple[ProviderRequest, ...]
    deletes_at: float | None = None
    """When it will be gone for good, in seconds since 1970; None unless it waits for that."""


def tenant_alias(tenant: str) -> str:
    """The name of a tenant's alias: one to one, though KMS allows fewer letters than tenants' names have.

    KMS takes A-Z a-z 0-9 / _ - and no point ("CreateAlias", AWS KMS API Reference); no tenant's name has a slash.
    """
    return f"alias/rekeyd/{tenant.replace('.', '/2e')}"


def material_alias(fingerprint: str) -> str:
    """The name of the alias that marks the key of one material, in an account and region: KMS keeps it unique."""
    return f"alias/rekeyd-material/{fingerprint}"


def account_of(arn: str) -> str:
    """The account that an ARN names."""
    return arn.split(":")[4]


def region_of(arn: str) -> str:
    """The region that an ARN names."""
    return arn.split(":")[3]
