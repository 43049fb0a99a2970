"""Checkpoints: signed statements of where every chain of the audit trail stood, each naming the one before it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from rekeyd.domain.audit import GENESIS, canonical_json
from rekeyd.domain.control import AuditHeads
from rekeyd.domain.signed import (
    NotHeldError,
    PublicKey,
    unverified_statement,
    utf8,
    verified_statement,
)

CHECKPOINT_SCHEMA: Literal["rekeyd.checkpoint/1"] = "rekeyd.checkpoint/1"

Sha256Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}\z")]


class CheckpointStatement(BaseModel):
    """What is signed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_name: Literal["rekeyd.checkpoint/1"] = Field(default=CHECKPOINT_SCHEMA, alias="schema")
    number: Annotated[int, Field(ge=1)]
    at: str
    """RFC 3339 in UTC, by the ledger's clock."""
    heads: dict[str, tuple[Annotated[int, Field(ge=1)], Sha256Hex]]
    """Of each chain the last record's number and hash."""
    previous: Sha256Hex
    """The SHA-256 of the document before it; zeros for the first one."""
    signer: Sha256Hex

    def statement(self) -> dict[str, object]:
        """As JSON."""
        return self.model_dump(mode="json", by_alias=True)


def next_checkpoint(
    previous: str | None, number: int, at: str, heads: AuditHeads, signer: str
) -> CheckpointStatement:
    """The one that follows the document `previous`."""
    return CheckpointStatement(
        number=number, at=at, heads=heads, previous=document_hash(previous), signer=signer
    )


def document_hash(text: str | None) -> str:
    """By which a checkpoint names the one before it."""
    return GENESIS if text is None else hashlib.sha256(utf8(text)).hexdigest()


def verify_checkpoint(
    text: str, number: int, previous: str | None, public_keys: Mapping[str, PublicKey]
) -> CheckpointStatement:
    """The statement of the checkpoint of this number, which follows `previous`. Raises NotHeldError."""
    found = signed_checkpoint(text, public_keys)
    if found.number != number:
        raise NotHeldError("contradictory", f"says that it is number {found.number}")
    if found.previous != document_hash(previous):
        raise NotHeldError("contradictory", "does not name the hash of the checkpoint before it")
    return found


def signed_checkpoint(text: str, public_keys: Mapping[str, PublicKey]) -> CheckpointStatement:
    """The statement of a checkpoint that one of these keys (by fingerprint) has signed. Raises NotHeldError."""
    raw = utf8(text)
    _, signature = unverified_statement(raw, CHECKPOINT_SCHEMA)
    signer = public_keys.get(str(signature.get("public_key")))
    if signer is None:
        raise NotHeldError("other_signer", f"signed by {signature.get('public_key')!r}, which isn't known")
    found = parse_checkpoint(verified_statement(raw, signer, CHECKPOINT_SCHEMA))
    if found.signer != signer.fingerprint:
        raise NotHeldError("other_signer", f"the statement names the signer {found.signer}")
    return found


def parse_checkpoint(statement: dict[str, object]) -> CheckpointStatement:
    """Read a statement, whoever signed it. Raises NotHeldError."""
    try:
        return CheckpointStatement.model_validate_json(utf8(canonical_json(statement)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise NotHeldError("unreadable", f"{where}: {first['msg']}") from error


def is_idle(last: CheckpointStatement, heads: AuditHeads) -> bool:
    """Whether nothing is on record since that checkpoint but the record of itself."""
    since = sum(sequence - last.heads.get(chain, (0, GENESIS))[0] for chain, (sequence, _) in heads.items())
    return since <= 1
