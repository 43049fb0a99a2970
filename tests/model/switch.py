"""The switch: one key, a writer, a reader, and a daemon that pauses, makes its last pass and publishes `dedicated`.

Carrying is one step here; copies.py takes it apart. What a placement record says, and how it changes, is the domain's
own doing (rekeyd.domain.tenant). A change of it is a transaction of the ledger: begun, with what it has read and the
time, and committed some time later, or never. The daemon may die at any point, also with a change under way, which is
committed all the same or not; another one takes over.

What stands for less than it seems:

- Lost answers of a writer need no action: whatever takes effect is held to what only the acknowledged is promised.
- A request is a Put or a Delete only once it takes effect, and an upload is its Complete.
- A record lives for one tick, so one that is received late in its life is no record at all.
- The reader asks only from a pause on: a record from before says the same as one of the pause, and ends sooner.
- A daemon that does nothing stands for one that is dead, and for nobody alive.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from rekeyd.domain.errors import ConflictError
from rekeyd.domain.tenant import end_pause, pause
from tests.model.explorer import Model
from tests.model.placement import Place, Stored, Told, opened, record_of, stored_of, switched, told
from tests.model.rules import SwitchRule
from tests.model.switch_state import (
    FRESH,
    PAUSE,
    PAUSE_EPOCH_MAX,
    TTL,
    WRITE,
    Change,
    Daemon,
    Delayed,
    Permit,
    Reader,
    Request,
    Row,
    State,
    View,
    Writer,
    with_contents,
)

Rules = frozenset[SwitchRule]


def time_passes(rules: Rules, state: State) -> Iterator[State]:
    change, daemon = state.change, state.daemon
    if change is not None:
        change = Change(change.read_epoch, _aged(change.becomes), max(change.wait - 1, 0))
    if daemon is not None and daemon.wait:
        daemon = daemon._replace(wait=daemon.wait - 1)
    yield state._replace(
        stored=_aged(state.stored),
        change=change,
        daemon=daemon,
        writer=_aged_writer(rules, state.writer),
        reader=_aged_reader(rules, state.reader),
    )


@cache
def _aged(stored: Stored) -> Stored:
    pause_left, writes_in = stored.pause_left, stored.writes_in
    return stored._replace(pause_left=pause_left and pause_left - 1, writes_in=writes_in and writes_in - 1)


@cache
def _aged_writer(rules: Rules, writer: Writer) -> Writer:
    permit, request = writer.permit, writer.request
    if permit is not None:
        permit = Permit(permit.place, max(permit.writes_in - 1, 0), max(permit.left - 1, 0))
        if not permit.left and SwitchRule.EXPIRY_TESTED in rules:
            permit = None
    if request is not None:
        if request.left:
            request = request._replace(left=request.left - 1)
        elif SwitchRule.WRITES_BOUNDED in rules:
            request = None
    return Writer(permit, request, writer.upload)


@cache
def _aged_reader(rules: Rules, reader: Reader) -> Reader:
    delayed = reader.delayed
    if delayed is not None and SwitchRule.TIME_READ_FIRST in rules:
        view = _aged_view(delayed.view)
        delayed = None if view is None else delayed._replace(view=view)
    return Reader(_aged_view(reader.view), delayed)


def _aged_view(view: View | None) -> View | None:
    return None if view is None or view.left == 1 else view._replace(left=view.left - 1)


# --- what is served, and what clients make of it ---


@cache
def answer(rules: Rules, stored: Stored) -> Told | None:
    """What whoever asks now is told; None where a return has to be committed first."""
    if stored.lapsed and SwitchRule.RETURN_IN_TIME not in rules:
        stored = stored._replace(pause_left=None)
    elif stored.lapsed and SwitchRule.RETURN_COMMITTED in rules:
        return None
    return told(stored, TTL)


def writer_asks(rules: Rules, state: State) -> Iterator[State]:
    served = answer(rules, state.stored)
    if served is not None:
        permit = None if served.writes is None else Permit(served.writes, served.writes_in, TTL)
        late = permit is None and state.stored.lapsed
        broken = "a pause keeps a writer from writing after its deadline" if late else None
        yield state._replace(writer=state.writer._replace(permit=permit), broken=broken)


def reader_asks(rules: Rules, state: State) -> Iterator[State]:
    served = answer(rules, state.stored)
    if served is not None and state.stored.phase != "shared":
        delayed = state.reader.delayed
        if delayed is not None:
            delayed = delayed._replace(overtaken_by=served.epoch)
        yield state._replace(reader=Reader(View(served.reads, TTL), delayed))


def answer_is_delayed(rules: Rules, state: State) -> Iterator[State]:
    served = answer(rules, state.stored)
    if served is not None and state.stored.phase != "shared" and state.reader.delayed is None:
        delayed = Delayed(served.epoch, View(served.reads, TTL))
        yield state._replace(reader=state.reader._replace(delayed=delayed))


def delayed_answer_arrives(rules: Rules, state: State) -> Iterator[State]:
    delayed = state.reader.delayed
    if delayed is None:
        return
    older = delayed.epoch < delayed.overtaken_by
    if older and SwitchRule.EPOCHS_NEVER_FALL in rules:
        yield state._replace(reader=Reader(state.reader.view))
    else:
        yield state._replace(reader=Reader(delayed.view), broken="somebody's epoch falls" if older else None)


def request_starts(rules: Rules, state: State) -> Iterator[State]:
    place = _may_write(rules, state.writer)
    if place is not None:
        yield state._replace(writer=state.writer._replace(request=Request(place, WRITE)))


def upload_begins(rules: Rules, state: State) -> Iterator[State]:
    place = _may_write(rules, state.writer)
    if place is not None and state.writer.upload is None:
        yield state._replace(writer=state.writer._replace(upload=place))


def upload_is_completed(rules: Rules, state: State) -> Iterator[State]:
    place, upload = _may_write(rules, state.writer), state.writer.upload
    if place is None or upload is None:
        return
    if place == upload or SwitchRule.UPLOADS_ABORTED not in rules:
        yield state._replace(writer=state.writer._replace(upload=None, request=Request(upload, WRITE)))


def upload_is_aborted(rules: Rules, state: State) -> Iterator[State]:
    if state.writer.upload is not None and _may_write(rules, state.writer) is not None:
        yield state._replace(writer=state.writer._replace(upload=None))


def _may_write(rules: Rules, writer: Writer) -> Place | None:
    """Where a request may start now."""
    permit = writer.permit
    if permit is None or writer.request is not None:
        return None
    early = permit.writes_in > 0 and SwitchRule.WRITES_FROM in rules
    return None if early else permit.place


def put_takes_effect(rules: Rules, state: State) -> Iterator[State]:
    yield from _takes_effect(state, FRESH)


def delete_takes_effect(rules: Rules, state: State) -> Iterator[State]:
    yield from _takes_effect(state, 0)


def _takes_effect(state: State, content: int) -> Iterator[State]:
    request = state.writer.request
    if request is None:
        return
    done = state._replace(writer=state.writer._replace(request=None))
    if request.place == "target":
        yield with_contents(done, source=state.source, target=content, row=state.row)
    else:
        late = state.stored.phase == "dedicated"
        broken = "a write takes effect in the source after `dedicated` did" if late else None
        yield with_contents(done, source=content, target=state.target, row=state.row)._replace(broken=broken)


# --- the daemon ---


def daemon_dies_and_another_takes_over(rules: Rules, state: State) -> Iterator[State]:
    if state.daemon is not None:
        yield state._replace(daemon=Daemon())
        if state.stored.phase == "paused" and SwitchRule.PAUSE_NOT_INHERITED not in rules:
            yield state._replace(daemon=Daemon("passing", state.stored.epoch))


def pause_begins(rules: Rules, state: State) -> Iterator[State]:
    """One that is found is ended first, in the same transaction."""
    if state.daemon != Daemon() or state.change is not None or state.stored.phase == "dedicated":
        return
    paused = _paused(rules, state.stored)
    if paused.epoch <= PAUSE_EPOCH_MAX:
        wait = 0 if SwitchRule.WAIT_AFTER_COMMIT in rules else _whole_wait(rules)
        change = Change(state.stored.epoch, paused, wait)
        yield state._replace(change=change, daemon=Daemon("pausing", paused.epoch))


@cache
def _paused(rules: Rules, stored: Stored) -> Stored:
    return stored_of(pause(record_of(_returned(rules, stored)), 0, PAUSE))


@cache
def _returned(rules: Rules, stored: Stored) -> Stored:
    after = stored_of(end_pause(record_of(stored), 0))
    if stored.phase == "paused" and SwitchRule.RETURN_RAISES_EPOCH not in rules:
        return after._replace(epoch=stored.epoch - 1)
    return after


def _whole_wait(rules: Rules) -> int:
    for_records = TTL if SwitchRule.WAIT_FOR_RECORDS in rules else 0
    return for_records + (WRITE if SwitchRule.WAIT_FOR_WRITES in rules else 0)


def change_is_committed(rules: Rules, state: State) -> Iterator[State]:
    change, daemon = state.change, state.daemon
    if change is None:
        return
    if change.read_epoch != state.stored.epoch and SwitchRule.COMPARE_AND_SET in rules:
        return
    if daemon is not None and daemon.step == "pausing":
        wait = _whole_wait(rules) if SwitchRule.WAIT_AFTER_COMMIT in rules else change.wait
        daemon = Daemon("passing", daemon.pause_epoch, wait)
    done = state._replace(stored=change.becomes, change=None, daemon=daemon)
    if change.becomes.phase == "dedicated":
        lost = state.source != state.target
        broken = "`dedicated` takes effect, and the target isn't what the source is" if lost else None
        done = with_contents(done, source=state.source, target=state.target, row=None)
        done = done._replace(daemon=None, broken=broken)
    yield done


def change_is_undone(rules: Rules, state: State) -> Iterator[State]:
    if state.change is not None:
        waiting = state.daemon is not None and state.daemon.step in ("pausing", "switching")
        yield state._replace(change=None, daemon=Daemon() if waiting else state.daemon)


def source_is_listed(rules: Rules, state: State) -> Iterator[State]:
    daemon, row = state.daemon, state.row
    if daemon is None or daemon.step not in ("copying", "passing"):
        return
    if daemon.wait and SwitchRule.LISTED_AFTER_WAIT in rules:
        return
    as_before = row is not None and row.verified and row.listed == state.source
    listed = Row(daemon.pause_epoch, state.source, as_before)
    yield with_contents(state, source=state.source, target=state.target, row=listed)


def key_is_carried(rules: Rules, state: State) -> Iterator[State]:
    """What was listed is copied, or its copy swept. What has changed since is left to a later pass."""
    row = state.row
    if state.daemon is None or row is None or row.verified or row.listed != state.source:
        return
    swept = row.listed or (0 if SwitchRule.VANISHED_SWEPT in rules else state.target)
    done = with_contents(state, source=state.source, target=swept, row=row._replace(verified=True))
    if state.stored.phase == "dedicated" and swept != state.target:
        done = done._replace(broken="a copy changes the target after `dedicated` took effect")
    yield done


def switch_begins(rules: Rules, state: State) -> Iterator[State]:
    daemon, row, stored = state.daemon, state.row, state.stored
    if daemon is None or daemon.step != "passing" or daemon.wait or row is None or state.change is not None:
        return
    if row.pause_epoch != daemon.pause_epoch and SwitchRule.PASS_OF_ITS_PAUSE in rules:
        return
    if not row.verified and SwitchRule.ALL_VERIFIED in rules:
        return
    becomes = _dedicated(rules, stored, daemon.pause_epoch)
    if becomes is not None:
        yield state._replace(change=Change(stored.epoch, becomes), daemon=daemon._replace(step="switching"))


@cache
def _dedicated(rules: Rules, stored: Stored, pause_epoch: int) -> Stored | None:
    if SwitchRule.SWITCH_IN_ITS_PAUSE not in rules:
        stored, pause_epoch = Stored("paused", stored.epoch, PAUSE), stored.epoch
    try:
        becomes = switched(stored, pause_epoch)
    except ConflictError:
        return None
    # Otherwise `writes_from` counts from the time that the transaction has read: before its commit.
    return becomes if SwitchRule.WRITES_FROM_AFTER_COMMIT in rules else opened(becomes, TTL)


def pause_is_given_up(rules: Rules, state: State) -> Iterator[State]:
    if state.daemon is not None and state.daemon.step == "passing" and state.change is None:
        yield state._replace(stored=_returned(rules, state.stored), daemon=Daemon())


def return_is_committed(rules: Rules, state: State) -> Iterator[State]:
    """By whoever is asked for the placement, after the deadline."""
    if state.stored.lapsed and SwitchRule.RETURN_IN_TIME in rules:
        yield state._replace(stored=_returned(rules, state.stored))


def writes_are_opened(rules: Rules, state: State) -> Iterator[State]:
    if state.stored.phase == "dedicated" and state.stored.writes_in is None:
        yield state._replace(stored=opened(state.stored, TTL))


def another_job_comes(rules: Rules, state: State) -> Iterator[State]:
    """The tenant is dedicated, and a job is submitted again."""
    if state.daemon is None and SwitchRule.DEDICATED_COPIES_NOTHING not in rules:
        yield state._replace(daemon=Daemon())


def violation(rules: Rules, state: State) -> str | None:
    if state.broken is not None:
        return state.broken
    view = state.reader.view
    newest = state.target if state.stored.phase == "dedicated" else state.source
    if view is not None and newest != (state.source if view.reads == "source" else state.target):
        return f"a reader whose record is valid looks at the {view.reads}, and misses what was written"
    return None


ACTIONS = (
    time_passes,
    writer_asks,
    reader_asks,
    answer_is_delayed,
    delayed_answer_arrives,
    request_starts,
    upload_begins,
    upload_is_completed,
    upload_is_aborted,
    put_takes_effect,
    delete_takes_effect,
    daemon_dies_and_another_takes_over,
    pause_begins,
    change_is_committed,
    change_is_undone,
    source_is_listed,
    key_is_carried,
    switch_begins,
    pause_is_given_up,
    return_is_committed,
    writes_are_opened,
)


def model(dropped: SwitchRule | None = None) -> Model[State, SwitchRule]:
    """With all rules in force but one."""
    actions = ACTIONS if dropped is not SwitchRule.DEDICATED_COPIES_NOTHING else (*ACTIONS, another_job_comes)
    return Model(State(), actions, violation, frozenset(SwitchRule) - {dropped})
