"""Retiring: one verified source version, deleted while keys are revoked, jobs cancelled, daemons dying, data replaced.

Each attempt reads the canary, finds the verified copy standing, commits its intent, and deletes by version. Cancel and
revoke are one here: a commit that stops the job, and a later moment in which it calls itself done.

A copy that vanishes between its check and the request, or a key that is revoked then, isn't noticed in that attempt:
nothing could. What is demanded is that no attempt deletes anything for which that was so before it began.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from tests.model.explorer import Model
from tests.model.rules import RetireRule

LEASE = 3
CALL = 2
"""In ticks: how long a claim lasts from its grant or renewal, and how long a call may take."""
OLD_RECORDS = 1
"""How long, from `dedicated` on, somebody may hold a record that says `source`."""

NOT_THERE = "the ledger says that the source remains, which we have deleted"

Rules = frozenset[RetireRule]


class Before(NamedTuple):
    """How things were as an attempt began, which nobody in it is told."""

    copy_stood: bool
    key_usable: bool
    """Or it has become so since."""


class Claim(NamedTuple):
    left: int
    before: Before
    step: Literal["granted", "key checked", "checked", "intended", "waiting", "deleted", "changed"] = (
        "granted"
    )


class Call(NamedTuple):
    """A delete, from the moment on in which its deadline is set."""

    left: int
    before: Before
    sent: bool
    heard: bool
    """Whether anybody waits for its answer."""


class State(NamedTuple):
    source: Literal["verified", "other", "gone"] = "verified"
    target: Literal["copy", "successor", "deleted", "lost"] = "copy"
    """The copy that was verified; what a writer made of it since; or lost, by nobody's will."""
    key_usable: bool = True
    row: Literal["verified", "retiring", "deleted", "remaining"] = "verified"
    placement: Literal["paused", "dedicated"] = "paused"
    old_records: int = OLD_RECORDS
    """How long they last."""
    reading: bool = False
    """A reader's request is on its way to the source, begun under a valid record."""
    job: Literal["running", "stopped", "done"] = "running"
    stopped_for: int = 0
    """How long ago that was, up to a lease."""
    claim: Claim | None = None
    held_by_nobody: bool = False
    """The claim's holder is dead."""
    call: Call | None = None
    intended_late: bool = False
    """The intent was committed after the job was stopped."""
    broken: str | None = None


def time_passes(rules: Rules, state: State) -> Iterator[State]:
    claim, call = state.claim, state.call
    if claim is not None:
        claim = claim._replace(left=claim.left - 1) if claim.left > 1 else None
    if call is not None:
        left = max(call.left - 1, 0)
        over = left == 0 and (call.sent or RetireRule.DEADLINE_TESTED in rules)
        call = None if over else call._replace(left=left, heard=call.heard and claim is not None)
    stopped_for = state.stopped_for
    if state.job == "stopped":
        stopped_for = min(stopped_for + 1, LEASE)
    yield state._replace(
        claim=claim,
        held_by_nobody=state.held_by_nobody and claim is not None,
        call=call,
        old_records=max(state.old_records - 1, 0) if state.placement == "dedicated" else state.old_records,
        stopped_for=stopped_for,
        broken="a claim outlasts the stop by more than a lease" if stopped_for == LEASE and claim else None,
    )


# --- the world around ---


def tenant_is_switched(rules: Rules, state: State) -> Iterator[State]:
    if state.placement == "paused":
        yield state._replace(placement="dedicated")


def reader_begins(rules: Rules, state: State) -> Iterator[State]:
    if state.old_records:
        yield state._replace(reading=True)


def reader_finds_or_not(rules: Rules, state: State) -> Iterator[State]:
    """What isn't there is looked for again, under a fresh record: in the target by now, or still here."""
    if state.reading:
        missed = state.source == "gone" and RetireRule.READER_LOOKS_AGAIN not in rules
        yield state._replace(
            reading=False, broken="a reader takes for absent what has only moved" if missed else None
        )


def source_is_replaced(rules: Rules, state: State) -> Iterator[State]:
    if state.source != "other":
        yield state._replace(source="other")


def tenant_overwrites(rules: Rules, state: State) -> Iterator[State]:
    if state.placement == "dedicated" and state.target == "copy":
        yield state._replace(target="successor")


def tenant_deletes(rules: Rules, state: State) -> Iterator[State]:
    if state.placement == "dedicated" and state.target == "copy":
        yield state._replace(target="deleted")


def copy_is_lost(rules: Rules, state: State) -> Iterator[State]:
    if state.target == "copy":
        yield state._replace(target="lost")


def key_is_disabled(rules: Rules, state: State) -> Iterator[State]:
    if state.key_usable:
        yield state._replace(key_usable=False)


def key_is_enabled(rules: Rules, state: State) -> Iterator[State]:
    if not state.key_usable:
        claim, call = state.claim, state.call
        if claim is not None:
            claim = claim._replace(before=claim.before._replace(key_usable=True))
        if call is not None:
            call = call._replace(before=call.before._replace(key_usable=True))
        yield state._replace(key_usable=True, claim=claim, call=call)


# --- claims, and their end ---


def claim_is_granted(rules: Rules, state: State) -> Iterator[State]:
    if state.claim is not None or state.row not in ("verified", "retiring"):
        return
    if state.job != "running" and RetireRule.STOP_FORBIDS_CLAIMS in rules:
        return
    if state.placement != "dedicated":
        if RetireRule.DEDICATED_ONLY in rules:
            return
    elif state.old_records and RetireRule.AFTER_OLD_RECORDS in rules:
        return
    yield state._replace(claim=_attempt(state, LEASE))


def _attempt(state: State, left: int) -> Claim:
    """The claim as an attempt begins."""
    return Claim(left, Before(state.target != "lost", state.key_usable))


def claim_is_renewed(rules: Rules, state: State) -> Iterator[State]:
    may = state.job == "running" or RetireRule.STOP_FORBIDS_RENEWALS not in rules
    if may and state.claim is not None and not state.held_by_nobody:
        yield state._replace(claim=state.claim._replace(left=LEASE))


def holder_dies(rules: Rules, state: State) -> Iterator[State]:
    if state.claim is not None and not state.held_by_nobody:
        call = state.call
        if call is not None:
            call = call._replace(heard=False) if call.sent else None
        yield state._replace(held_by_nobody=True, call=call, claim=state.claim._replace(step="granted"))


def job_is_stopped(rules: Rules, state: State) -> Iterator[State]:
    if state.job == "running":
        yield state._replace(job="stopped")


def stop_is_done(rules: Rules, state: State) -> Iterator[State]:
    if state.job == "stopped" and (state.claim is None or RetireRule.DONE_AFTER_CLAIMS not in rules):
        yield state._replace(job="done")


# --- an attempt ---


def _at(state: State, step: str) -> Claim | None:
    claim = state.claim
    return claim if claim is not None and not state.held_by_nobody and claim.step == step else None


def canary_is_read(rules: Rules, state: State) -> Iterator[State]:
    """Where it can't be, the job is held, and the claim ends."""
    claim = _at(state, "granted")
    if claim is not None:
        if state.row == "retiring" and RetireRule.RESUMED_CHECKED not in rules:
            yield state._replace(claim=claim._replace(step="intended"))
        elif state.key_usable or RetireRule.KEY_CHECKED not in rules:
            yield state._replace(claim=claim._replace(step="key checked"))
        elif _may_end(rules, state):
            yield state._replace(claim=None)


def _may_end(rules: Rules, state: State) -> bool:
    """Whether the claim may be given up."""
    return state.call is None or RetireRule.CALLS_OUTLASTED not in rules


def copy_is_looked_for(rules: Rules, state: State) -> Iterator[State]:
    """Where it doesn't stand, its source remains; unless an intent was carried out, and its answer lost."""
    claim = _at(state, "key checked")
    if claim is not None:
        if state.target == "copy" or RetireRule.COPY_CHECKED not in rules:
            yield state._replace(claim=claim._replace(step="checked"))
        elif _may_end(rules, state):
            gone = state.source == "gone"
            remaining = state._replace(row="remaining", broken=NOT_THERE if gone else None)
            settled = (
                state._replace(row="deleted")
                if gone and RetireRule.REMAINING_IS_THERE in rules
                else remaining
            )
            yield (settled if _obeyed(state) else state)._replace(claim=None)


def _obeyed(state: State) -> bool:
    """Whether the ledger still takes anything under the claim."""
    return state.job == "running"


def intent_is_committed(rules: Rules, state: State) -> Iterator[State]:
    claim = _at(state, "checked")
    if claim is None:
        return
    if RetireRule.INTENT_FIRST not in rules:
        yield state._replace(claim=claim._replace(step="intended"))
    elif _obeyed(state) or RetireRule.STOP_FORBIDS_INTENTS not in rules:
        row: Literal["deleted", "retiring"] = "retiring" if RetireRule.OUTCOME_AFTER in rules else "deleted"
        late = not _obeyed(state)
        yield state._replace(row=row, claim=claim._replace(step="intended"), intended_late=late)


def deadline_is_set(rules: Rules, state: State) -> Iterator[State]:
    claim = _at(state, "intended")
    if claim is None or state.call is not None:
        return
    if claim.left >= CALL or RetireRule.CLAIM_OUTLIVES_CALL not in rules:
        call = Call(CALL, claim.before, sent=False, heard=True)
        yield state._replace(claim=claim._replace(step="waiting"), call=call)


def request_is_sent(rules: Rules, state: State) -> Iterator[State]:
    """Perhaps long after its deadline was set: it had to wait for its turn."""
    call = state.call
    if call is not None and not call.sent:
        # Without the test, a request has as long as any, whenever it is sent.
        left = call.left if RetireRule.DEADLINE_TESTED in rules else CALL
        broken = None
        if not call.before.copy_stood:
            broken = "the source is to be deleted, whose copy had gone before"
        elif not call.before.key_usable:
            broken = "the source is to be deleted, though the key had been disabled before"
        yield state._replace(call=call._replace(sent=True, left=left), broken=broken)


def request_takes_effect(rules: Rules, state: State) -> Iterator[State]:
    call = state.call
    if call is None or not call.sent:
        return
    matches = state.source == "verified" or RetireRule.DELETED_BY_VERSION not in rules
    after = state._replace(call=None)
    if matches and state.source != "gone":
        after = after._replace(source="gone", broken=_wrong_with_deleting(state))
    claim = state.claim
    if call.heard and claim is not None:
        heard = claim._replace(step="changed" if state.source == "other" and not matches else "deleted")
        yield after._replace(claim=heard)
        yield after._replace(claim=_attempt(after, claim.left))
    else:
        yield after


def _wrong_with_deleting(state: State) -> str | None:
    if state.source == "other":
        return "a source version is deleted that was never verified"
    if state.job == "done":
        return "the source is deleted after cancel or revoke called itself done"
    if state.intended_late:
        return "the source is deleted by an intent from after cancel or revoke"
    if state.row == "verified":
        return "the source is deleted, and the ledger doesn't know"
    if state.placement != "dedicated":
        return "the source is deleted while the tenant's data are read there"
    if state.old_records:
        return "the source is deleted while somebody may hold a record that says so"
    return None


def answer_is_not_awaited(rules: Rules, state: State) -> Iterator[State]:
    """The connection breaks, say: the attempt is over, and its request may still take effect."""
    claim, call = state.claim, state.call
    if claim is not None and call is not None and call.sent and call.heard:
        yield state._replace(claim=_attempt(state, claim.left), call=call._replace(heard=False))


def claim_is_given_up(rules: Rules, state: State) -> Iterator[State]:
    """By a holder that is told to stop, say."""
    if state.claim is not None and not state.held_by_nobody and _may_end(rules, state):
        yield state._replace(claim=None, call=state.call and state.call._replace(heard=False))


def outcome_is_committed(rules: Rules, state: State) -> Iterator[State]:
    if _at(state, "deleted") is not None:
        yield state._replace(claim=None, row="deleted" if _obeyed(state) else state.row)
    elif _at(state, "changed") is not None:
        yield state._replace(claim=None, row="remaining" if _obeyed(state) else state.row)


def violation(rules: Rules, state: State) -> str | None:
    if state.broken is not None:
        return state.broken
    if state.row == "deleted" and state.source == "verified":
        return "the ledger says deleted, and the source stands"
    return None


ACTIONS = (
    time_passes,
    tenant_is_switched,
    reader_begins,
    reader_finds_or_not,
    source_is_replaced,
    tenant_overwrites,
    tenant_deletes,
    copy_is_lost,
    key_is_disabled,
    key_is_enabled,
    claim_is_granted,
    claim_is_renewed,
    holder_dies,
    job_is_stopped,
    stop_is_done,
    canary_is_read,
    copy_is_looked_for,
    intent_is_committed,
    deadline_is_set,
    request_is_sent,
    request_takes_effect,
    answer_is_not_awaited,
    claim_is_given_up,
    outcome_is_committed,
)


def model(dropped: RetireRule | None = None) -> Model[State, RetireRule]:
    """With all rules in force but one."""
    return Model(State(), ACTIONS, violation, frozenset(RetireRule) - {dropped})
