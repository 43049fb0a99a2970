"""The audit trail as values: one hash chain, each record sealed together with all before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

GENESIS = "0" * 64
"""What the first record of a chain names as the hash before it."""


def canonical_json(value: object) -> str:
    """The one way to write a JSON value: keys sorted, no spaces, no escapes beyond JSON's own.

    Raises ValueError for NaN and infinities, TypeError for what JSON doesn't have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One thing done with keys or data. `body` is canonical JSON; `sequence` starts at 1 in each chain."""

    chain: str
    sequence: int
    body: str
    previous_hash: str
    hash: str


def seal(chain: str, sequence: int, body: Mapping[str, object], previous_hash: str) -> AuditRecord:
    """Make the record that follows the one with `previous_hash`."""
    text = canonical_json(body)
    return AuditRecord(chain, sequence, text, previous_hash, _digest(chain, sequence, text, previous_hash))


@dataclass(frozen=True, slots=True)
class BrokenChain:
    """The first record of a chain that doesn't hold, and why."""

    chain: str
    sequence: int
    reason: str


def first_broken(chain: str, records: Iterable[AuditRecord]) -> BrokenChain | None:
    """Recompute a chain from its first record, in order. None where all of it holds."""
    previous_hash, expected = GENESIS, 1
    for record in records:
        if record.sequence != expected:
            return BrokenChain(chain, expected, f"missing: the next one is {record.sequence}")
        if record.previous_hash != previous_hash:
            return BrokenChain(chain, expected, "does not name the hash of the record before it")
        if record.hash != _digest(chain, record.sequence, record.body, previous_hash):
            return BrokenChain(chain, expected, "its hash is not the hash of its contents")
        previous_hash, expected = record.hash, expected + 1
    return None


def _digest(chain: str, sequence: int, body: str, previous_hash: str) -> str:
    sealed = canonical_json([chain, sequence, previous_hash, body])
    return hashlib.sha256(sealed.encode()).hexdigest()
