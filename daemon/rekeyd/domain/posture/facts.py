"""What there is to know of a key's protection. Each fact is known, or unknown for a reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar

from rekeyd.domain.errors import RefusedError

T = TypeVar("T")
S = TypeVar("S")

_REFERENCE = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):kms:([a-z0-9-]+):([0-9]{12}):(key/[A-Za-z0-9-]{1,128}|alias/[A-Za-z0-9/_-]{1,250})"
)

UnknownCause = Literal[
    "denied",  # the key service knows us and refuses
    "cross_account",  # it answers this within the key's own account alone
    "missing",  # there is no such key or alias
    "unsupported",  # the key, or the service, has no such thing
    "role",  # the role that was to look couldn't be assumed
    "unreachable",  # no answer, or none that makes sense
    "unsaid",  # nobody has told
]


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """A fact that was seen."""

    value: T


@dataclass(frozen=True, slots=True)
class Unknown:
    """A fact that couldn't be seen."""

    cause: UnknownCause
    reason: str
    mend: str = "run it where this can be seen: with --role-arn, or with the tenant's own credentials"


Fact: TypeAlias = Known[T] | Unknown


def together(one: Fact[T], other: Fact[S]) -> Fact[tuple[T, S]]:
    """Both facts: unknown where one of them is."""
    if isinstance(one, Unknown):
        return one
    if isinstance(other, Unknown):
        return other
    return Known((one.value, other.value))


@dataclass(frozen=True, slots=True)
class KeyReference:
    """The ARN of a key or of an alias."""

    arn: str
    region: str
    account: str
    is_alias: bool

    @classmethod
    def parse(cls, text: str, name: str) -> KeyReference:
        """Read an ARN that stands under a name. Raises RefusedError."""
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise RefusedError(name, f"{text!r} is not the ARN of a KMS key or alias: arn:aws:kms:REGION:…")
        return cls(text, found[2], found[3], found[4].startswith("alias/"))


@dataclass(frozen=True, slots=True)
class KeyAttributes:
    """What kms:DescribeKey says, in KMS's own words. None: it didn't say. Times are seconds of the epoch."""

    arn: str
    state: str | None = None
    manager: str | None = None
    usage: str | None = None
    spec: str | None = None
    origin: str | None = None
    multi_region: bool | None = None
    replica_regions: tuple[str, ...] = ()
    """Where a multi-Region key has its others, the primary among them."""
    deletion_at: float | None = None
    expiration: str | None = None
    """Of imported material: KEY_MATERIAL_EXPIRES or KEY_MATERIAL_DOES_NOT_EXPIRE."""
    valid_to: float | None = None
    key_store_id: str | None = None


@dataclass(frozen=True, slots=True)
class Rotation:
    """Whether the key's material is rotated by itself."""

    automatic: bool
    period_days: int | None = None


@dataclass(frozen=True, slots=True)
class Rotations:
    """Rotations that have taken place."""

    count: int
    last_at: float | None
    complete: bool
    """False: there are more than were read."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A permission beside the policy (kms:ListGrants)."""

    grant_id: str
    grantee: str
    """An ARN, an account, or a service's host name."""
    operations: tuple[str, ...]
    constrained: bool
    """Whether it asks for an encryption context, or for a source."""


@dataclass(frozen=True, slots=True)
class Grants:
    """The key's grants."""

    listed: tuple[Grant, ...]
    complete: bool
    """False: there are more than were read."""


_UNASKED = Unknown("unsaid", "it wasn't asked for")


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """All that was learnt of a key."""

    reference: KeyReference
    looked_at: float
    """When it was looked at, in seconds of the epoch."""
    looker: Fact[str] = _UNASKED
    """The ARN of whoever looked."""
    description: Fact[KeyAttributes] = _UNASKED
    policy: Fact[str] = _UNASKED
    """The key policy's JSON."""
    grants: Fact[Grants] = _UNASKED
    rotation: Fact[Rotation] = _UNASKED
    rotations: Fact[Rotations] = _UNASKED
    tags: Fact[Mapping[str, str]] = _UNASKED
    aliases: Fact[tuple[str, ...]] = _UNASKED
    """The ARNs of the aliases that point at the key."""
    alias_target: Fact[str] = _UNASKED
    """The ARN of the key at which the alias that is to be this key's points, where one was named."""
    daemon_account: Fact[str] = _UNASKED
    data_accounts: Fact[frozenset[str]] = _UNASKED

    @property
    def key_arn(self) -> str:
        """The key's ARN where it is known, else the reference."""
        return self.description.value.arn if isinstance(self.description, Known) else self.reference.arn

    @property
    def vendor_accounts(self) -> frozenset[str]:
        """The accounts of the data and of the daemon, as far as they are known."""
        known = self.data_accounts.value if isinstance(self.data_accounts, Known) else frozenset()
        return known | ({self.daemon_account.value} if isinstance(self.daemon_account, Known) else set())

    @property
    def was_reached(self) -> bool:
        """Whether the key service has said anything at all."""
        asked = (self.description, self.policy, self.grants, self.rotation, self.tags)
        return any(
            isinstance(fact, Known) or fact.cause in ("denied", "missing", "unsupported") for fact in asked
        )


@dataclass(frozen=True, slots=True)
class Expected:
    """What the person who asks takes for right."""

    principals: frozenset[str] = field(default_factory=frozenset)
    """Who may administer the key or hold grants: ARNs, accounts, service host names."""
    alias: str = ""
    """The alias that is to point at the key."""
