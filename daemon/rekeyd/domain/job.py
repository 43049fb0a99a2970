"""Jobs: the message that asks for one, and the states that one goes through."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from rekeyd.domain.audit import canonical_json
from rekeyd.domain.errors import RefusedError
from rekeyd.domain.key import CustomerKey, KeyFault, KeyKind, KnownKey, NamedKey, PlacedKey
from rekeyd.domain.objects import Location

MESSAGE_BYTES_MAX = 48 * 1024
"""The longest job message: what Azure Queue Storage takes once base64 is undone."""

ENCODED_BYTES_MAX = MESSAGE_BYTES_MAX * 3 // 2
"""The longest base64 of one: a third more, and line ends, since many tools wrap it."""

GRACE_SECONDS_MAX = 366 * 24 * 3600

JobState = Literal[
    "queued",  # in the ledger, nobody works on it yet
    "running",  # claimed, or waiting for the next claim after a restart
    "held",  # waits for a person or the outside world, with a reason; looked at again by and by
    "completed",  # done; final
    "failed",  # can't be done as it is; a person may resume it
    "cancelled",  # a person ended it; final
]

UNFINISHED_STATES: tuple[JobState, ...] = ("queued", "running", "held")
RESUMABLE_STATES: tuple[JobState, ...] = ("held", "failed")
CANCELLABLE_STATES: tuple[JobState, ...] = ("queued", "running", "held", "failed")

JobKind = Literal[
    "migrate",  # move a tenant's data into a dedicated bucket under its own key
    "rotate",  # bring them under another key, or another version of it
    "revoke",  # make them unreadable at once
    "reinstate",  # lift a revocation
    "verify",  # read them again, and compare with the evidence
]
OVERTAKING_KINDS: tuple[JobKind, ...] = ("revoke", "reinstate")
"""They wait for no other job of their tenant's, and are about its keys alone."""

JobPhase = Literal[
    "queued",  # not begun
    "bring",  # what the tenant wrapped becomes a key of the key service
    "preflight",  # key, source and target are looked at; nothing is written
    "provision",  # the dedicated bucket is made and read back
    "copy",  # passes over the source; writers go on
    "pause",  # writers are stopped: waits, the last pass, the comparison
    "switch",  # `dedicated` is published
    "grace",  # the source is kept for a while
    "retire",  # the verified source versions are deleted
    "certify",  # the evidence is written, the source looked at once more, the certificate signed
    "withdraw",  # keys are disabled, or their material deleted, until nothing can be read
    "redirect",  # default encryption, policy and placement lead to another key, until every writer has learnt it
    "reencrypt",  # every object is brought under that key
    "prove",  # every version is looked at: under which key it lies
    "read",  # the data in the target are read again, and compared with the evidence
    "restore",  # keys are enabled again, until everything can be read
    "done",  # nothing is left to do
]

HeldReason = Literal[
    KeyFault,
    "access_denied",  # source or target refuses us
    "store_unavailable",  # a store doesn't answer as it should
    "custody_unavailable",  # the key service doesn't answer as it should
    "unmovable_objects",  # objects that can't be moved as they are: SSE-C, DSSE, too long a history
    "needs_restore",  # objects lie in an archive and can't be read before they are restored
    "unverified_objects",  # objects that couldn't be copied or verified however often they were tried
    "pause_too_short",  # the last pass doesn't fit into the pause
    "drift",  # the dedicated bucket isn't as it was provisioned
    "conflict",  # the target holds content that we did not write
    "ledger_behind",  # the ledger is older than the control object in the target: restored from a backup, say
    "revoked",  # the tenant has withdrawn its keys
    "needs_approval",  # a second person has to agree to what can't be undone
    "readable_elsewhere",  # revoked, and some of the data can be read elsewhere still: a person accepts that
    "still_readable",  # revoked, and the data can still be read, or nobody knows
    "attempts_exhausted",  # an error that nobody foresaw came back however often we tried
]

Priority = Literal["low", "normal", "high"]
PRIORITY_RANKS: dict[Priority, int] = {"low": 0, "normal": 1, "high": 2}
OVERTAKING_RANKS: dict[JobKind, int] = {"reinstate": 8, "revoke": 9}
"""Above all others, whatever the message says."""


class MigrateOptions(BaseModel):
    """How a tenant is to be moved."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    cutover: Literal["catch_up"] = "catch_up"
    grace_seconds: Annotated[int, Field(ge=0, le=GRACE_SECONDS_MAX)] | None = None
    """Left out: as the settings say."""
    versions: Literal["all", "current"] = "all"
    verify: Literal["checksums", "read_back"] = "checksums"
    priority: Priority = "normal"


class RevokeOptions(BaseModel):
    """How far a revocation goes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    mode: Literal["disable", "destroy"] = "disable"
    """`destroy`: the key material is deleted, too, once another person has approved it."""
    priority: Priority = "normal"


class RotateOptions(BaseModel):
    """How far a rotation goes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    reencrypt: Literal["all", "new"] = "all"
    """`new`: what is written from now on lies under the new key; what is there stays under the former one."""
    priority: Priority = "normal"


class PlainOptions(BaseModel):
    """What may be asked of any job."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    priority: Priority = "normal"


def _rfc3339(text: object) -> object:
    # Pydantic alone would also take a number, seconds or milliseconds by its size.
    if not isinstance(text, str) or not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:", text):
        raise ValueError("write an RFC 3339 time, 2026-01-31T12:00:00Z say")
    return text


Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_rfc3339)]


JobId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\z")]
TenantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,128}\z")]


class _Message(BaseModel):
    """What every message says. It says only what it needs: see docs for the rules."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_name: Literal["rekeyd.job/1"] = Field(alias="schema")
    id: JobId
    tenant: TenantName
    not_before: Moment | None = None
    deadline: Moment | None = None
    traceparent: Annotated[str, StringConstraints(max_length=256)] | None = None
    tracestate: Annotated[str, StringConstraints(max_length=1024)] | None = None
    requested_by: Annotated[str, StringConstraints(max_length=256)] | None = None


class MigrateMessage(_Message):
    """Move a tenant."""

    kind: Literal["migrate"]
    source: str
    target: str | None = None
    key: CustomerKey
    options: MigrateOptions = MigrateOptions()


class RevokeMessage(_Message):
    """Withdraw a tenant's keys."""

    kind: Literal["revoke"]
    options: RevokeOptions = RevokeOptions()


class ReinstateMessage(_Message):
    """Lift a revocation, and no other one: queues may deliver in another order than was asked in."""

    kind: Literal["reinstate"]
    undoes: JobId
    key: CustomerKey | None = None
    """After a destruction: the same material once more."""
    options: PlainOptions = PlainOptions()


class RotateMessage(_Message):
    """Bring a dedicated tenant's data under another key."""

    kind: Literal["rotate"]
    key: CustomerKey | None = None
    """Left out: the provider has rotated under the same reference, and nothing has to be moved."""
    options: RotateOptions = RotateOptions()


class VerifyMessage(_Message):
    """Read a dedicated tenant's data again, and compare it with the evidence of its move."""

    kind: Literal["verify"]
    options: PlainOptions = PlainOptions()


JobMessage: TypeAlias = MigrateMessage | RotateMessage | RevokeMessage | ReinstateMessage | VerifyMessage
_MESSAGES: dict[str, type[JobMessage]] = {
    "migrate": MigrateMessage,
    "rotate": RotateMessage,
    "revoke": RevokeMessage,
    "reinstate": ReinstateMessage,
    "verify": VerifyMessage,
}
KNOWN_KINDS: frozenset[str] = frozenset(_MESSAGES)
"""Every kind of job that this release can do."""


@dataclass(frozen=True, slots=True)
class ReceivedJob:
    """A message that was read, and its body in the one canonical form."""

    message: JobMessage
    body: str

    @property
    def body_sha256(self) -> str:
        """Two messages ask for the same exactly when this is equal: order and spacing don't matter."""
        return hashlib.sha256(self.body.encode()).hexdigest()


def read_job_message(raw: bytes) -> ReceivedJob:
    """Read a job message, plain JSON or base64 of it.

    Raises RefusedError naming the field: too long, not JSON, a field given twice, unknown or wrong.
    """
    if len(raw) > ENCODED_BYTES_MAX:
        raise RefusedError("message", f"is longer than {MESSAGE_BYTES_MAX} bytes")
    text = raw.strip()
    if not text.startswith(b"{"):
        try:
            text = base64.b64decode(b"".join(text.split()), validate=True)
        except binascii.Error as error:
            raise RefusedError("message", "is neither a JSON object nor base64 of one") from error
    if len(text) > MESSAGE_BYTES_MAX:
        raise RefusedError("message", f"is longer than {MESSAGE_BYTES_MAX} bytes")
    try:
        body = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats)
        canonical = canonical_json(body)
        canonical.encode()
    except RecursionError as error:
        raise RefusedError("message", "is nested too deeply") from error
    except ValueError as error:
        raise RefusedError("message", f"is not JSON: {error}") from error
    message = job_message(body)
    if isinstance(key_of(message), KnownKey):
        raise RefusedError("key.kind", "is none of kms, wrapped, accepted")
    return ReceivedJob(message, canonical)


def key_of(message: JobMessage) -> CustomerKey | None:
    """The key that a message names; None where it names none."""
    return message.key if isinstance(message, MigrateMessage | RotateMessage | ReinstateMessage) else None


def job_message(body: object) -> JobMessage:
    """The message that a JSON value is. Raises RefusedError naming the field."""
    kind = body.get("kind", "migrate") if isinstance(body, dict) else "migrate"
    if not isinstance(kind, str) or kind not in _MESSAGES:
        raise RefusedError("kind", f"is none of {', '.join(sorted(_MESSAGES))}")
    try:
        return _MESSAGES[kind].model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "union_tag_invalid":
            raise RefusedError("key.kind", "is none of kms, wrapped, accepted") from error
        name = ".".join(str(part) for part in first["loc"] if part not in get_args(KeyKind)) or "message"
        raise RefusedError(name, _plain_words(first["type"], first["msg"])) from error


def _plain_words(kind: str, words: str) -> str:
    return "is not a field of a job message" if kind == "extra_forbidden" else words


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    body = dict(pairs)
    if len(body) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise RefusedError(twice, "is given twice")
    return body


@dataclass(frozen=True, slots=True)
class Counts:
    """How far the objects of a move are. Bytes are those of the source."""

    objects_listed: int = 0
    objects_verified: int = 0
    objects_excluded: int = 0
    objects_deleted: int = 0
    bytes_listed: int = 0
    bytes_verified: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the ledger knows it. Times are the database's, in seconds since 1970 (UTC)."""

    message: JobMessage
    source: Location
    target: Location
    grace_seconds: int
    move_id: int
    named_key: NamedKey
    """The customer key that it is about."""
    state: JobState
    phase: JobPhase
    held_reason: HeldReason | None
    error: str | None
    attempts: int
    """How often in a row an unforeseen error ended an attempt; progress sets it to 0."""
    counts: Counts
    created_at: float
    started_at: float | None
    finished_at: float | None
    admitted_by: str = ""
    approved_by: str | None = None
    """Who agreed to what can't be undone; None where nobody did."""
    accepted_by: str | None = None
    """Who accepts that some of the data can be read elsewhere; None where nobody does."""
    result: Mapping[str, object] | None = None
    """What it found or did, for whoever asked for it; None before there is anything to say."""

    @property
    def kind(self) -> JobKind:
        """What it does."""
        return self.message.kind

    @property
    def key_ref(self) -> str:
        """What the ledger calls its key."""
        return self.named_key.ref

    @property
    def key_fingerprint(self) -> str | None:
        """What its key's material is known by; None for a key of the tenant's own."""
        return self.named_key.fingerprint

    @property
    def key(self) -> PlacedKey:
        """Where its key is. Only once that was brought: a story sees to it before all else."""
        placed = self.named_key.placed
        assert placed is not None, f"{self.id}: its key isn't imported yet"
        return placed

    @property
    def in_place(self) -> bool:
        """Whether its objects stay where they are: nothing of them is swept or retired, whatever becomes of it."""
        return self.source == self.target

    @property
    def versions(self) -> Literal["all", "current"]:
        """Which versions of each object it carries."""
        return self.message.options.versions if isinstance(self.message, MigrateMessage) else "all"

    @property
    def verify(self) -> Literal["checksums", "read_back"]:
        """How copies are verified."""
        return self.message.options.verify if isinstance(self.message, MigrateMessage) else "checksums"

    @property
    def id(self) -> str:
        """The id that the message gave it."""
        return self.message.id

    @property
    def tenant(self) -> str:
        """The tenant whose data are moved."""
        return self.message.tenant


def utc_timestamp(seconds: float | None) -> str | None:
    """Seconds since 1970 as RFC 3339 in UTC; None stays None."""
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
