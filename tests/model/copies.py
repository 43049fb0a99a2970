"""One key's way into the target: carried, verified, swept, while answers are lost and daemons die.

A row of the ledger changes by the ledger's own functions (rekeyd.ledger.rows). Writers change the source as they like,
until it is frozen: the pause and its wait, which switch.py explores. Then come the last pass and the switch; or the
pause ends, and the writers go on. After the switch the tenant writes in the target.

A call that changes the target is sent, and takes effect at any time up to its deadline, or never; its answer arrives or
is lost. Time is left out: what counts is which of a call's deadline and the end of its sender's claim comes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from rekeyd.ledger.port import SegmentStage
from rekeyd.ledger.rows import WORKED_ON
from tests.model.explorer import Model
from tests.model.known import DAMAGED, Known, Outcome, Version, after_listing, after_outcome, size_of
from tests.model.rules import CopyRule

CHANGES_MAX = 2
"""How often writers change the source. Three times, tried once, make half a million states and showed nothing new."""
CALLS_MAX = 2
"""How many calls may be under way at a time, each but the last of them given up by its sender."""

NOTHING = 0
FOREIGN = 7
"""What somebody else has put into the target. It has a size of its own, by which alone copies of ours are told."""
MIXED = 9
"""Some of one version, and some of another."""
ANY = -1
"""A condition that holds whatever there is."""

Rules = frozenset[CopyRule]


class Attempt(NamedTuple):
    """What the holder of the segment's claim is about."""

    step: Literal["reading", "sending", "waiting", "answered", "refused", "unknown"]
    content: int
    """What it has read of the source, or what it has learnt stands in the target."""
    condition: int
    """The content that must stand in the target for a call to take effect; NOTHING for absence."""


class Call(NamedTuple):
    """A request on its way to the target: a put of its content, or the deletion of what stands."""

    content: int
    condition: int
    own: bool
    """Whether the holder of the claim has sent it, and not one before."""
    heard: bool
    """Whether anybody waits for its answer."""


class State(NamedTuple):
    source: Version | None = Version(1, 0)
    target: int = NOTHING
    known: Known | None = None
    segment: SegmentStage | None = None
    claim: Literal["free", "held", "left"] = "free"
    """`left`: its holder is dead, and its lease isn't over."""
    attempt: Attempt | None = None
    calls: tuple[Call, ...] = ()
    listed_in: Literal["never", "open", "paused"] = "never"
    """When the latest pass was made."""
    phase: Literal["open", "frozen", "dedicated"] = "open"
    changes: int = 0
    omitted: bool = False
    """A listing has left the key out although it is there. It happens once, as do the next three."""
    foreign: bool = False
    damaged: bool = False
    repeated: bool = False
    tenant_changed: bool = False
    broken: str | None = None


# --- the world around ---


def writer_puts(rules: Rules, state: State) -> Iterator[State]:
    if state.phase == "open" and state.changes < CHANGES_MAX:
        for content in (1, 2):
            changed = Version(content, state.changes + 1)
            yield state._replace(source=changed, changes=state.changes + 1)


def writer_deletes(rules: Rules, state: State) -> Iterator[State]:
    if state.phase == "open" and state.changes < CHANGES_MAX and state.source is not None:
        yield state._replace(source=None, changes=state.changes + 1)


def pause_is_waited_out(rules: Rules, state: State) -> Iterator[State]:
    if state.phase == "open":
        yield state._replace(phase="frozen")


def pause_ends(rules: Rules, state: State) -> Iterator[State]:
    if state.phase == "frozen":
        made = "open" if state.listed_in == "paused" else state.listed_in
        yield state._replace(phase="open", listed_in=made)


def somebody_else_writes(rules: Rules, state: State) -> Iterator[State]:
    """Under the key, in the target, while the copy is still to be made or swept.

    Whoever does so between a copy's verification and the switch isn't noticed: docs/protocol.md, "What remains".
    """
    unsettled = state.known is not None and state.known.state in ("listed", "vanished")
    if unsettled and state.target == NOTHING and not state.foreign and state.phase != "dedicated":
        yield state._replace(target=FOREIGN, foreign=True)


def answered_put_is_repeated(rules: Rules, state: State) -> Iterator[State]:
    """By something between us and the store, once nothing stands under the key any more, and before the pause."""
    gone = state.known is not None and state.known.state == "dropped" and state.target == NOTHING
    if gone and state.phase == "open" and not state.repeated:
        assert state.known is not None, "it was dropped"
        yield state._replace(target=state.known.source.content, repeated=True)


def tenant_puts(rules: Rules, state: State) -> Iterator[State]:
    if state.phase == "dedicated" and not state.tenant_changed:
        yield state._replace(target=2 if state.target == 1 else 1, tenant_changed=True)


def tenant_deletes(rules: Rules, state: State) -> Iterator[State]:
    if state.phase == "dedicated" and not state.tenant_changed and state.target != NOTHING:
        yield state._replace(target=NOTHING, tenant_changed=True)


# --- passes, claims, the switch ---


def source_is_listed(rules: Rules, state: State) -> Iterator[State]:
    yield from _listing(rules, state, state.source)


def listing_omits_the_key(rules: Rules, state: State) -> Iterator[State]:
    """One that the ledger knows. That a key is left out which no listing has ever named can't be noticed."""
    known = state.known is not None and state.known.state not in ("vanished", "dropped")
    if known and state.source is not None and not state.omitted:
        yield from _listing(rules, state._replace(omitted=True), None)


def _listing(rules: Rules, state: State, found: Version | None) -> Iterator[State]:
    if state.phase == "dedicated":
        return
    if state.segment is not None and CopyRule.PASS_AFTER_SEGMENTS in rules:
        return
    paused = state.phase == "frozen"
    known, joins = after_listing(state.known, found, paused=paused and CopyRule.DROPPED_SWEPT_AGAIN in rules)
    made = state._replace(listed_in="paused" if paused else "open", known=known)
    if joins is None:
        yield made
    else:
        # Whoever works on a segment that the row has left goes on in vain: its outcomes are passed over.
        yield made._replace(segment=joins, claim="free", attempt=None, calls=_orphaned(state.calls))


def segment_is_claimed(rules: Rules, state: State) -> Iterator[State]:
    if state.segment is not None and state.claim == "free" and state.phase != "dedicated":
        yield state._replace(claim="held")


def segment_is_finished(rules: Rules, state: State) -> Iterator[State]:
    if state.claim == "held" and not _works(state) and _is_settled(rules, state):
        yield state._replace(segment=None, claim="free", calls=_orphaned(state.calls))


def _works(state: State) -> bool:
    """Whether the segment has something left to do."""
    known, stage = state.known, state.segment
    return known is not None and stage is not None and known.state in WORKED_ON[stage]


def segment_is_given_back(rules: Rules, state: State) -> Iterator[State]:
    """Its holder is told to stop, or meets an error that concerns all objects."""
    if state.claim == "held" and _is_settled(rules, state):
        yield state._replace(claim="free", attempt=None, calls=_orphaned(state.calls))


def _is_settled(rules: Rules, state: State) -> bool:
    return not _has_own_calls(state) or CopyRule.CALLS_OUTLASTED not in rules


def _has_own_calls(state: State) -> bool:
    return any(call.own for call in state.calls)


def holder_dies(rules: Rules, state: State) -> Iterator[State]:
    if state.claim == "held":
        yield state._replace(claim="left", attempt=None, calls=_orphaned(state.calls))


def lease_runs_out(rules: Rules, state: State) -> Iterator[State]:
    if state.claim == "left" and (not state.calls or CopyRule.CLAIMED_AFTER_DEADLINES not in rules):
        yield state._replace(claim="free")


def _orphaned(calls: tuple[Call, ...]) -> tuple[Call, ...]:
    return tuple(sorted(call._replace(own=False, heard=False) for call in calls))


def switch_is_committed(rules: Rules, state: State) -> Iterator[State]:
    settled = state.known is None or state.known.state in ("verified", "dropped")
    if state.phase == "frozen" and state.listed_in == "paused" and state.segment is None and settled:
        # Where the source has nothing, what somebody else put there is theirs.
        rightly = (NOTHING, FOREIGN) if state.source is None else (state.source.content,)
        broken = None if state.target in rightly else "`dedicated`, and the target isn't what the source is"
        yield state._replace(phase="dedicated", broken=broken)


# --- carrying ---


def attempt_begins(rules: Rules, state: State) -> Iterator[State]:
    """The source is read, or, to sweep, asked; then the target is."""
    known = state.known
    if state.claim != "held" or state.attempt is not None or known is None or not _works(state):
        return
    if state.segment == "carry":
        yield from _reading(rules, state, NOTHING if known.copy is None else known.copy)
    elif state.source is not None and CopyRule.SOURCE_ASKED_AGAIN in rules:
        yield from _ending(rules, state, "stale")
    elif state.target == NOTHING:
        yield from _ending(rules, state, "dropped")
    elif _is_ours(rules, state.target, known) or CopyRule.SWEPT_IF_OURS not in rules:
        condition = state.target if CopyRule.SWEPT_IF_MATCH in rules else ANY
        yield state._replace(attempt=Attempt("sending", NOTHING, condition))
    else:
        yield from _ending(rules, state, "failed")


def _reading(rules: Rules, state: State, condition: int) -> Iterator[State]:
    """The first bytes of the source's object."""
    source, known = state.source, state.known
    assert known is not None, "there is something to do"
    if source is None or (source.content != known.source.content and CopyRule.SOURCE_PINNED in rules):
        yield from _ending(rules, state, "stale")
    else:
        yield state._replace(attempt=Attempt("reading", source.content, condition))


def read_ends(rules: Rules, state: State) -> Iterator[State]:
    """The last bytes."""
    attempt, source, known = state.attempt, state.source, state.known
    if attempt is None or known is None or attempt.step != "reading":
        return
    if source is None or (source.content != known.source.content and CopyRule.SOURCE_PINNED in rules):
        yield from _ending(rules, state, "stale")
        return
    content = attempt.content if source.content == attempt.content else MIXED
    condition = attempt.condition if CopyRule.WRITTEN_ON_CONDITION in rules else ANY
    yield state._replace(attempt=Attempt("sending", content, condition))


def call_is_sent(rules: Rules, state: State) -> Iterator[State]:
    """For the first time, or again after an outcome that isn't known."""
    attempt = state.attempt
    if attempt is not None and attempt.step in ("sending", "unknown") and len(state.calls) < CALLS_MAX:
        call = Call(attempt.content, attempt.condition, own=True, heard=True)
        calls = tuple(sorted((*state.calls, call)))
        yield state._replace(attempt=attempt._replace(step="waiting"), calls=calls)


def call_takes_effect(rules: Rules, state: State) -> Iterator[State]:
    """Or is refused: which is answered, and heard or lost."""
    for call in state.calls:
        yield from _executed(state, call, call.content)
        if call.content != NOTHING and not state.damaged:
            yield from _executed(state._replace(damaged=True), call, DAMAGED + call.content)


def _executed(state: State, call: Call, stored: int) -> Iterator[State]:
    holds = call.condition in (ANY, state.target)
    done = _without(state, call)
    if holds:
        broken = None
        if state.target == FOREIGN:
            broken = "what somebody else wrote is destroyed"
        elif state.phase == "dedicated" and state.target != stored:
            broken = "a call of ours changes the target after `dedicated`"
        done = done._replace(target=stored, broken=broken)
    if call.heard and state.attempt is not None:
        # What is gone already counts as deleted.
        fulfilled = holds or (call.content == NOTHING and state.target == NOTHING)
        answered = Attempt("answered", stored, call.condition)
        yield done._replace(attempt=answered if fulfilled else state.attempt._replace(step="refused"))
        yield done._replace(attempt=state.attempt._replace(step="unknown"))
    else:
        yield done


def _without(state: State, call: Call) -> State:
    at = state.calls.index(call)
    return state._replace(calls=state.calls[:at] + state.calls[at + 1 :])


def call_is_given_up(rules: Rules, state: State) -> Iterator[State]:
    """Its sender waits no longer: a broken connection, say. It may still take effect."""
    for call in state.calls:
        if call.heard and state.attempt is not None:
            calls = tuple(sorted((*_without(state, call).calls, call._replace(heard=False))))
            yield state._replace(calls=calls, attempt=state.attempt._replace(step="unknown"))


def deadline_passes(rules: Rules, state: State) -> Iterator[State]:
    """Of a call that nobody waits for any more: it never takes effect."""
    for call in state.calls:
        if not call.heard:
            yield _without(state, call)


def outcome_is_judged(rules: Rules, state: State) -> Iterator[State]:
    """An answer, or none, becomes an outcome, or a further try."""
    attempt, known = state.attempt, state.known
    if attempt is None or known is None:
        return
    if attempt.step == "answered":
        if state.segment == "carry":
            yield from _verifying(rules, state, attempt)
        else:
            yield from _ending(rules, state, "dropped")
    elif attempt.step == "refused" and state.segment == "carry":
        yield from _settling(rules, state, known)
    elif attempt.step in ("refused", "unknown"):
        yield from _ending(rules, state, "listed")


def _verifying(rules: Rules, state: State, attempt: Attempt) -> Iterator[State]:
    """What the target holds is read, and compared with what the source held."""
    another = state.target != attempt.content
    damaged = attempt.content > DAMAGED and CopyRule.COPY_COMPARED in rules
    yield from _ending(rules, state, "listed" if another or damaged else "verified", attempt.content)


def _settling(rules: Rules, state: State, known: Known) -> Iterator[State]:
    """A refused write: the target may hold our own, whose answer was lost."""
    if state.source is None or state.source.content != known.source.content:
        yield from _ending(rules, state, "stale")
    elif state.target == known.source.content:
        yield from _ending(rules, state, "verified", state.target)
    elif state.target in (NOTHING, known.copy) or _is_planned(state.target, known):
        yield from _reading(rules, state, state.target)
    else:
        yield from _ending(rules, state, "failed")


def _is_planned(content: int, known: Known) -> bool:
    return any(version.content == size_of(content) for version in known.planned)


def _is_ours(rules: Rules, content: int, known: Known) -> bool:
    if known.copy is not None and CopyRule.OVERWRITTEN_IS_OURS not in rules:
        return content == known.copy
    return content == known.copy or size_of(content) == known.source.content or _is_planned(content, known)


def _ending(rules: Rules, state: State, outcome: Outcome, copy: int | None = None) -> Iterator[State]:
    """The outcome is committed."""
    known, stage = state.known, state.segment
    assert known is not None
    assert stage is not None
    if outcome == "verified" and CopyRule.SETTLED_BEFORE_VERIFIED in rules and _has_own_calls(state):
        return
    after = after_outcome(stage, known, outcome, copy)
    if CopyRule.PLANNED_IS_OURS not in rules:
        after = after._replace(planned=())
    false_alarm = after.state == "failed" and state.target in (1, 2)
    broken = "a conflict is reported over a copy of ours" if false_alarm else None
    yield state._replace(known=after, attempt=None, broken=broken)


def violation(rules: Rules, state: State) -> str | None:
    if state.broken is not None:
        return state.broken
    known = state.known
    if known is None or known.state != "verified" or state.phase == "dedicated":
        return None
    untrue = state.target != known.source.content
    return "the ledger says verified, and the target holds something else" if untrue else None


ACTIONS = (
    writer_puts,
    writer_deletes,
    pause_is_waited_out,
    pause_ends,
    somebody_else_writes,
    answered_put_is_repeated,
    tenant_puts,
    tenant_deletes,
    source_is_listed,
    listing_omits_the_key,
    segment_is_claimed,
    segment_is_finished,
    segment_is_given_back,
    holder_dies,
    lease_runs_out,
    switch_is_committed,
    attempt_begins,
    read_ends,
    call_is_sent,
    call_takes_effect,
    call_is_given_up,
    deadline_passes,
    outcome_is_judged,
)


def model(dropped: CopyRule | None = None) -> Model[State, CopyRule]:
    """With all rules in force but one."""
    return Model(State(), ACTIONS, violation, frozenset(CopyRule) - {dropped})
