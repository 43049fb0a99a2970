"""Placements as the models hold them, and their way into rekeyd.domain.tenant and back.

A model's state has times left instead of times: seen from now, which is always 0.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import (
    PlacementPhase,
    PlacementRecord,
    dedicate,
    open_writes,
    return_epoch,
    serve,
)

__all__ = [
    "Place",
    "Stored",
    "Told",
    "opened",
    "record_of",
    "renamed",
    "return_epoch",
    "stored_of",
    "switched",
    "told",
]

Place = Literal["source", "target"]

_LOCATIONS: dict[Place, Location] = {
    "source": Location.parse("s3://shared/tenants/acme/"),
    "target": Location.parse("s3://byok-acme/"),
}
_PLACES = {location: place for place, location in _LOCATIONS.items()}


class Stored(NamedTuple):
    """The record as it stands in the ledger."""

    phase: PlacementPhase
    epoch: int
    pause_left: int | None = None
    """How long the pause still lasts; 0 once its deadline has passed."""
    writes_in: int | None = None
    """How long until the target may be written."""

    @property
    def in_force(self) -> bool:
        """Whether it is a pause before its deadline."""
        return self.phase == "paused" and self.pause_left != 0

    @property
    def lapsed(self) -> bool:
        """Whether it is a pause past its deadline."""
        return self.phase == "paused" and self.pause_left == 0


def record_of(stored: Stored) -> PlacementRecord:
    """The record that the domain's functions work on."""
    return PlacementRecord(
        tenant="acme",
        source=_LOCATIONS["source"],
        target=_LOCATIONS["target"],
        phase=stored.phase,
        epoch=stored.epoch,
        key_state=None,
        pause_ends_at=stored.pause_left,
        writes_from=stored.writes_in,
    )


def stored_of(record: PlacementRecord) -> Stored:
    """What the model keeps of a record."""
    return Stored(record.phase, record.epoch, _whole(record.pause_ends_at), _whole(record.writes_from))


class Told(NamedTuple):
    """What a client makes of a placement that it is served."""

    epoch: int
    reads: Place
    writes: Place | None
    writes_in: int


def told(stored: Stored, ttl: int) -> Told:
    """What whoever asks now is told."""
    placement = serve(record_of(stored), 0, ttl)
    writes = _PLACES[placement.writes[0]] if placement.writes else None
    return Told(placement.epoch, _PLACES[placement.reads[0]], writes, stored.writes_in or 0)


def switched(stored: Stored, pause_epoch: int) -> Stored:
    """`dedicated`, its writes still closed. Raises ConflictError unless this pause is in force."""
    return stored_of(dedicate(record_of(stored), 0, pause_epoch))


def opened(stored: Stored, ttl: int) -> Stored:
    """The target may be written, one time to live from now."""
    return stored_of(open_writes(record_of(stored), 0, ttl))


def _whole(ticks: float | None) -> int | None:
    return None if ticks is None else int(ticks)


def renamed(*contents: int) -> list[int]:
    """Contents are only ever compared: they are named by the order in which they are given. 0 is none at all.

    States that differ in names alone are one, so that a model needs no bound on how much is written.
    """
    names = {0: 0}
    return [names.setdefault(content, len(names)) for content in contents]
