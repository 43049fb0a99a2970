"""What the model of the switch (switch.py) has in a state."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tests.model.placement import Place, Stored, renamed

TTL = 1
WRITE = 1
PAUSE = 4
"""In ticks. A pause leaves two for the last pass and the switch, once its wait is over."""
PAUSE_EPOCH_MAX = 3
"""Two pauses: what a pause can spoil for a later one shows in the second."""
FRESH = 9
"""Content that was never written before; see `renamed`."""


class Permit(NamedTuple):
    """A record that allows writing, and for how long it may be used."""

    place: Place
    writes_in: int
    left: int


class Request(NamedTuple):
    place: Place
    left: int
    """How long it may still take."""


class Writer(NamedTuple):
    permit: Permit | None = None
    request: Request | None = None
    upload: Place | None = None
    """Where it has begun one."""


class View(NamedTuple):
    """A record that says where to read."""

    reads: Place
    left: int


class Delayed(NamedTuple):
    """An answer on its way while its asker has asked again."""

    epoch: int
    view: View
    overtaken_by: int = 0
    """The highest epoch that the asker has seen since."""


class Reader(NamedTuple):
    view: View | None = None
    delayed: Delayed | None = None


class Daemon(NamedTuple):
    step: Literal["copying", "pausing", "passing", "switching"] = "copying"
    pause_epoch: int = 0
    wait: int = 0
    """What is left of the wait before the last pass."""


class Change(NamedTuple):
    """A transaction under way."""

    read_epoch: int
    becomes: Stored
    wait: int = 0
    """What is left of a wait that counts from its beginning."""


class Row(NamedTuple):
    """What the latest pass has listed under the key, and whether the target has it."""

    pause_epoch: int
    """The pause that the pass was made in; 0 for one made while writers go on."""
    listed: int
    verified: bool


class State(NamedTuple):
    stored: Stored = Stored("shared", 0)
    change: Change | None = None
    daemon: Daemon | None = Daemon()
    row: Row | None = None
    source: int = 1
    """What stands under the key; 0 is nothing."""
    target: int = 0
    writer: Writer = Writer()
    reader: Reader = Reader()
    broken: str | None = None
    """What has happened that must never happen."""


def with_contents(state: State, *, source: int, target: int, row: Row | None) -> State:
    """The state with these contents, named anew: the target's first, which are the oldest."""
    target, listed, source = renamed(target, 0 if row is None else row.listed, source)
    if row is not None:
        row = row._replace(listed=listed)
    return state._replace(source=source, target=target, row=row)
