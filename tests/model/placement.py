"""Placements as the models hold them, and their way into rekeyd.domain.tenant and back.

A model's state has times left instead of times: seen from now, which is always 0.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import PlacementPhase, PlacementRecord

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


def place_of(*locations: Location) -> Place | None:
    """The only place among these; None for none."""
    return _PLACES[locations[0]] if locations else None


def _whole(ticks: float | None) -> int | None:
    return None if ticks is None else int(ticks)


def renamed(*contents: int) -> list[int]:
    """Contents are only ever compared: they are named by the order in which they are given. 0 is none at all.

    States that differ in names alone are one, so that a model needs no bound on how much is written.
    """
    names = {0: 0}
    return [names.setdefault(content, len(names)) for content in contents]
