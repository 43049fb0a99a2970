"""The control object: what keeps a ledger that was restored from a backup from undoing a move.

A change of phase is proposed in the ledger, written to a control object in the target, and takes effect in the ledger.
The ledger is backed up at any time and, at most once, restored to that; every daemon starts anew then. What switch.py
explores is taken for granted: a pause is waited out, and the last pass has copied everything as `dedicated` is
proposed. Clients have no memory: each acts on what it is served at the moment, the hardest case for a ledger that
serves what is over. A write to the control object that a dead daemon left under way may arrive at any time, long
after its deadline.

The epochs of a ledger that was restored, and isn't held, may be lower than some that were served before. Clients who
have seen those wait until it has caught up. Nothing is lost by it, and it isn't looked at here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

from rekeyd.domain.tenant import PlacementPhase, end_pause, pause, return_epoch
from tests.model.explorer import Model
from tests.model.placement import (
    Stored,
    Told,
    opened,
    record_of,
    renamed,
    stored_of,
    switched,
    told,
)
from tests.model.rules import EpochRule

EPOCHS_MAX = 6
"""So high may epochs go: two pauses, the second of which is followed by `dedicated`."""
FRESH = 9
"""Content that was never written before; see `renamed`."""
LONG = 1
"""A pause's length. Time does not count here: its deadline passes whenever it may."""

Rules = frozenset[EpochRule]


class Proposal(NamedTuple):
    phase: PlacementPhase
    epoch: int


class Ledger(NamedTuple):
    stored: Stored = Stored("shared", 0)
    proposed: Proposal | None = None


class Control(NamedTuple):
    """What the control object says."""

    epoch: int = 0
    return_epoch: int | None = None


class Orphan(NamedTuple):
    """A write to the control object that its dead daemon left under way."""

    writes: Control
    matches: bool
    """Its condition still holds: nobody has written the control object since."""


class State(NamedTuple):
    ledger: Ledger = Ledger()
    control: Control = Control()
    orphan: Orphan | None = None
    daemon: Literal["stopped", "serving", "held"] = "stopped"
    """`held`: it has found the ledger to be too old."""
    paused_by_it: bool = False
    """The pause in force is the running daemon's own: it has waited, and may propose to end it by the switch."""
    backup: Ledger | None = None
    restored: bool = False
    source: int = 1
    target: int = 0
    newest: int = 1
    """What a reader has to find."""


def daemon_starts(rules: Rules, state: State) -> Iterator[State]:
    if state.daemon == "stopped":
        compares = {EpochRule.UNKNOWN_EPOCH_HELD, EpochRule.COMPARED_BEFORE_SERVING} <= rules
        too_old = compares and not knows(state.ledger, state.control)
        yield state._replace(daemon="held" if too_old else "serving")


def knows(ledger: Ledger, control: Control) -> bool:
    """Whether the ledger knows the control object's epoch as in effect or as proposed."""
    in_effect = told(ledger.stored, LONG).epoch
    proposed = None if ledger.proposed is None else ledger.proposed.epoch
    return control.epoch in (ledger.stored.epoch, proposed) or in_effect in (
        control.epoch,
        control.return_epoch,
    )


@cache
def served(rules: Rules, ledger: Ledger) -> Told:
    """Where clients are told to read, and where to write."""
    stored = ledger.stored
    return told(switched(stored, stored.epoch) if is_switched(rules, ledger) else stored, LONG)


def is_switched(rules: Rules, ledger: Ledger) -> bool:
    """Whether `dedicated` is proposed, and with that decided."""
    proposal = ledger.proposed
    undecided = proposal is None or proposal.phase != "dedicated" or ledger.stored.phase == "dedicated"
    return not undecided and EpochRule.SWITCH_IS_PROPOSAL in rules


def daemon_dies(rules: Rules, state: State) -> Iterator[State]:
    if state.daemon != "stopped":
        yield state._replace(daemon="stopped", paused_by_it=False)


def ledger_is_backed_up(rules: Rules, state: State) -> Iterator[State]:
    if not state.restored:
        yield state._replace(backup=state.ledger)


def ledger_is_restored(rules: Rules, state: State) -> Iterator[State]:
    if state.backup is not None and not state.restored:
        yield state._replace(
            ledger=state.backup, daemon="stopped", paused_by_it=False, backup=None, restored=True
        )


def pause_is_proposed(rules: Rules, state: State) -> Iterator[State]:
    if state.daemon != "serving" or state.ledger.stored.phase != "shared":
        return
    if state.ledger.proposed is not None and EpochRule.PROPOSAL_SETTLED in rules:
        return
    epoch = pause(record_of(state.ledger.stored), 0, LONG).epoch
    if state.ledger.proposed is not None:
        epoch = max(epoch, state.ledger.proposed.epoch + 1)
    if epoch < EPOCHS_MAX - 1:
        yield proposing(rules, state, Proposal("paused", epoch))


def switch_is_proposed(rules: Rules, state: State) -> Iterator[State]:
    """The last pass is over: what the source holds, the target holds."""
    stored = state.ledger.stored
    if state.daemon == "serving" and state.paused_by_it and stored.in_force and state.ledger.proposed is None:
        own = EpochRule.DEDICATED_HAS_ITS_OWN in rules
        epoch = switched(stored, stored.epoch).epoch if own else return_epoch(stored.epoch)
        copied = state._replace(target=state.source)
        yield proposing(rules, copied, Proposal("dedicated", epoch))


def proposing(rules: Rules, state: State, proposal: Proposal) -> State:
    """Where nothing is proposed first, the control object is what knows it first, and the daemon may die then."""
    if EpochRule.PROPOSED_FIRST in rules:
        return state._replace(ledger=state.ledger._replace(proposed=proposal))
    return state._replace(control=written(rules, proposal), daemon="stopped", paused_by_it=False)


def written(rules: Rules, proposal: Proposal) -> Control:
    """What the control object says of a proposal."""
    with_return = proposal.phase == "paused" and EpochRule.RETURN_WRITTEN_TOO in rules
    return Control(proposal.epoch, return_epoch(proposal.epoch) if with_return else None)


def proposal_is_written(rules: Rules, state: State) -> Iterator[State]:
    """Read, compared and written If-Match; whoever finds an epoch that the ledger doesn't know is held."""
    proposal = state.ledger.proposed
    if state.daemon != "serving" or proposal is None or state.control.epoch == proposal.epoch:
        return
    if not knows(state.ledger, state.control) and EpochRule.UNKNOWN_EPOCH_HELD in rules:
        yield state._replace(daemon="held", paused_by_it=False)
        return
    orphan = state.orphan and state.orphan._replace(matches=False)
    ledger = state.ledger
    if proposal.epoch == ledger.stored.epoch:  # in effect already, where that rule is dropped
        ledger = ledger._replace(proposed=None)
    yield state._replace(control=written(rules, proposal), orphan=orphan, ledger=ledger)


def daemon_dies_as_it_writes(rules: Rules, state: State) -> Iterator[State]:
    proposal = state.ledger.proposed
    if state.daemon != "serving" or proposal is None or state.orphan is not None:
        return
    if state.control.epoch != proposal.epoch and knows(state.ledger, state.control):
        orphan = Orphan(written(rules, proposal), matches=True)
        yield state._replace(orphan=orphan, daemon="stopped", paused_by_it=False)


def orphan_arrives(rules: Rules, state: State) -> Iterator[State]:
    orphan = state.orphan
    if orphan is not None:
        if orphan.matches or EpochRule.WRITTEN_ON_CONDITION not in rules:
            yield state._replace(control=orphan.writes, orphan=None)
        yield state._replace(orphan=None)


def proposal_takes_effect(rules: Rules, state: State) -> Iterator[State]:
    proposal, stored = state.ledger.proposed, state.ledger.stored
    if state.daemon != "serving" or proposal is None or stored.epoch >= proposal.epoch:
        return
    is_written = state.control.epoch == proposal.epoch
    if proposal.phase == "paused":
        after = Stored("paused", proposal.epoch, LONG)
        may = is_written or EpochRule.WRITTEN_BEFORE_EFFECT not in rules
    else:
        after = opened(Stored("dedicated", proposal.epoch), 0)
        may = is_written or EpochRule.OPENED_AFTER_WRITTEN not in rules
        # Where its proposal did not decide it, the writers may have gone on since.
        may = may and (is_switched(rules, state.ledger) or stored.in_force)
    if may:
        ledger = Ledger(after, None if is_written else proposal)
        yield state._replace(ledger=ledger, paused_by_it=proposal.phase == "paused")


def deadline_passes(rules: Rules, state: State) -> Iterator[State]:
    if state.ledger.stored.in_force and not is_switched(rules, state.ledger):
        lapsed = state.ledger.stored._replace(pause_left=0)
        yield state._replace(ledger=state.ledger._replace(stored=lapsed))


def return_is_committed(rules: Rules, state: State) -> Iterator[State]:
    """At the deadline, or because the daemon gives the pause up."""
    ledger = state.ledger
    if state.daemon == "serving" and ledger.stored.phase == "paused" and not is_switched(rules, ledger):
        returned = stored_of(end_pause(record_of(ledger.stored), 0))
        yield state._replace(ledger=ledger._replace(stored=returned), paused_by_it=False)


def client_writes(rules: Rules, state: State) -> Iterator[State]:
    if not serves(rules, state):
        return
    match served(rules, state.ledger).writes:
        case "source":
            source, target = FRESH, state.target
        case "target":
            source, target = state.source, FRESH
        case None:
            return
    source, target, newest = renamed(source, target, FRESH)
    yield state._replace(source=source, target=target, newest=newest)


def serves(rules: Rules, state: State) -> bool:
    held_too = EpochRule.HELD_SERVES_NOTHING not in rules
    return state.daemon == "serving" or (held_too and state.daemon == "held")


def violation(rules: Rules, state: State) -> str | None:
    if state.daemon == "held" and not state.restored:
        return "a tenant is held although its ledger was never restored"
    return misled(rules, state)


def misled(rules: Rules, state: State) -> str | None:
    """What is wrong with where clients are sent."""
    if serves(rules, state):
        reads = served(rules, state.ledger).reads
        if state.newest != (state.source if reads == "source" else state.target):
            return f"clients are sent to the {reads}, which doesn't hold what was written last"
    return None


ACTIONS = (
    daemon_starts,
    daemon_dies,
    ledger_is_backed_up,
    ledger_is_restored,
    pause_is_proposed,
    switch_is_proposed,
    proposal_is_written,
    daemon_dies_as_it_writes,
    orphan_arrives,
    proposal_takes_effect,
    deadline_passes,
    return_is_committed,
    client_writes,
)


def model(dropped: EpochRule | None = None) -> Model[State, EpochRule]:
    """With all rules in force but one."""
    return Model(State(), ACTIONS, violation, frozenset(EpochRule) - {dropped})
