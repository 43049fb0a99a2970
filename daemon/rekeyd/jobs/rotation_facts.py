"""What a rotation came to, as its certificate says it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rekeyd.domain.certificate import SHOWN_MAX, Rotated, RotationFacts, UnderKeyFacts


def nothing_moved(did: Rotated) -> RotationFacts:
    """Of a rotation that had nothing to do: nothing was looked at, either."""
    return RotationFacts(
        did=did,
        former_keys=(),
        looked_at=None,
        under_key=None,
        under_others=(),
        archived=(),
        unfinished_uploads=0,
    )


def facts_of(did: Rotated, result: Mapping[str, Any]) -> RotationFacts:
    """Of one whose result is this, as the ledger has it."""
    others = {**result["under_former_keys"], **result["under_others"]}
    return RotationFacts(
        did=did,
        former_keys=tuple(result["former_keys"]),
        looked_at=result["looked_at"],
        under_key=_under(result["key"], result["under_key"]),
        under_others=tuple(_under(name, view) for name, view in sorted(others.items()))[:SHOWN_MAX],
        archived=tuple(result["archived"]),
        unfinished_uploads=result["unfinished_uploads"],
    )


def _under(reference: str, view: Mapping[str, Any]) -> UnderKeyFacts:
    return UnderKeyFacts(
        reference=reference,
        current=view["current"],
        lasting=view["lasting"],
        noncurrent=view["noncurrent"],
        bucket_key=view["bucket_key"],
        bytes=view["bytes"],
    )
