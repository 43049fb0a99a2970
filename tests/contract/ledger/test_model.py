"""The object ledger against a model of a few lines: any course of passes, segments, outcomes and retirement."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rekeyd.domain.audit import first_broken
from rekeyd.domain.job import Counts
from rekeyd.domain.objects import ObjectVersion
from rekeyd.ledger.port import JobClaim, Ledger, ObjectOutcome, SegmentClaim, SegmentStage
from rekeyd.ledger.sql import SqlLedger, passes
from tests.contract.ledger.stories import (
    LONG,
    begin_pause,
    copy_of,
    dedicating,
    running,
    settled,
    verified,
    version,
)

T = TypeVar("T")
NAMES = "abcdef"
AT_ONCE = 3
"""So many rows are settled in one transaction."""
SOURCES = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["v1", "v2", "v3"]))
State = Literal["listed", "stale", "verified", "excluded", "failed", "dropped", "deleted", "remaining"]
ENDS: dict[SegmentStage, list[State | None]] = {
    "carry": ["verified", "listed", "stale", "failed", "excluded", "dropped", None],
    "sweep": ["dropped", "dropped", "listed", "failed", None],
    "retire": ["deleted", "remaining", "listed", None],
}
LISTED = {"listed", "stale", "verified", "excluded", "failed", "retiring", "deleted", "remaining"}
VERIFIED = {"verified", "retiring", "deleted", "remaining"}


@dataclass
class Expected:
    """What the model knows of one key."""

    source: ObjectVersion
    state: str
    waits: str | None
    """The stage that has it to do."""
    target: ObjectVersion | None = None
    planned: tuple[ObjectVersion, ...] = ()
    seen: int = 0
    """The latest pass that listed it, or settled that it is missing."""


class ObjectLedgerMachine(RuleBasedStateMachine):
    migrated: Path

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name, "ledger.db")
        shutil.copy(self.migrated, path)
        self.ledger: Ledger = self.run(SqlLedger.open(f"sqlite://{path}"))
        self.claim: JobClaim
        self.rows: dict[str, Expected] = {}
        self.number = 0
        self.held: list[SegmentClaim] = []
        self.dedicated = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.claim = self.run(running(self.ledger))

    @precondition(lambda self: not self.dedicated)
    @rule(source=SOURCES, first_page=st.sets(st.sampled_from(NAMES)), settlings=st.integers(-1, 5))
    def list_source(self, source: dict[str, str], first_page: set[str], settlings: int) -> None:
        """A pass of two pages, of which the second may never come (-1), and not all that is missing be settled."""
        found = {name: version(name, etag, 10 + len(etag)) for name, etag in source.items()}
        self.number = self.run(self.ledger.begin_pass(self.claim, None)).number
        first = {name: each for name, each in found.items() if name in first_page}
        rest = {name: each for name, each in found.items() if name not in first_page}
        self.run(self.ledger.record_page(self.claim, self.number, list(first.values()), None, "page 2"))
        self._enter(first)
        if settlings < 0:
            return
        state = self.run(
            self.ledger.record_page(self.claim, self.number, list(rest.values()), "page 2", None)
        )
        self._enter(rest)
        self._settle(AT_ONCE - len(rest), listed=state.listed)
        for _ in range(settlings):
            if not state.listed:
                state = self.run(self.ledger.settle_missing(self.claim, self.number))
                self._settle(AT_ONCE, listed=state.listed)

    def _settle(self, rows_max: int, *, listed: bool) -> None:
        """Those seen longest ago go first."""
        missing = sorted(
            (row.seen, name)
            for name, row in self.rows.items()
            if row.seen < self.number and row.state != "dropped"
        )
        for _, name in missing[: max(rows_max, 0)]:
            row = self.rows[name]
            row.state, row.waits, row.seen = "vanished", "sweep", self.number
        assert listed == (len(missing) < rows_max)

    def _enter(self, found: dict[str, ObjectVersion]) -> None:
        for name, seen in found.items():
            row = self.rows.get(name)
            if row is None:
                row = self.rows[name] = Expected(seen, "listed", "carry")
            elif seen != row.source:
                if row.state != "verified" and row.source not in row.planned:
                    row.planned = (*row.planned, row.source)
                row.source, row.state, row.waits = seen, "listed", "carry"
            elif row.state not in ("listed", "verified"):
                row.state, row.waits = "listed", "carry"
            row.seen = self.number

    @rule()
    def claim_segment(self) -> None:
        claim = self.run(self.ledger.claim_segment("worker-1", LONG))
        if claim is not None:
            self.held.append(claim)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), finish=st.booleans())
    def work(self, data: st.DataObject, finish: bool) -> None:
        claim = self.held.pop(data.draw(st.integers(0, len(self.held) - 1), "which"))
        rows = self.run(self.ledger.segment_rows(claim))
        for row in rows:
            name = row.source.key[-1]
            expected = self.rows[name]
            assert (row.source, row.state) == (expected.source, expected.state)
            assert (row.target, row.planned_before) == (expected.target, expected.planned)
            assert expected.waits == claim.stage
        outcomes = []
        for row in rows:
            state = data.draw(st.sampled_from(ENDS[claim.stage]), "outcome")
            if state is not None:
                outcomes.append(
                    verified(row.source) if state == "verified" else ObjectOutcome(row.source, state, "why")
                )
        if claim.stage == "retire":
            self.run(self.ledger.record_intents(claim, [outcome.source for outcome in outcomes]))
        self.run(self.ledger.record_outcomes(claim, outcomes))
        for outcome in outcomes:
            self._record(self.rows[outcome.source.key[-1]], outcome, claim.stage)
        if finish:
            self.run(self.ledger.finish_segment(claim))
        else:
            self.run(self.ledger.release_segment(claim))

    def _record(self, row: Expected, outcome: ObjectOutcome, stage: str) -> None:
        if stage == "retire" and row.state == "verified":
            row.state = "retiring"
        if outcome.state == "listed":
            return
        row.state, row.waits = outcome.state, None
        if outcome.state == "verified":
            row.target, row.planned = copy_of(row.source), ()
        if outcome.state == "dropped":
            others = [each for each in row.planned if each != row.source]
            row.target, row.planned = None, (*others, row.source)

    @precondition(lambda self: not self.dedicated)
    @rule()
    def switch(self) -> None:
        """Where everything is settled: a last pass of what is there, and the switch."""
        if any(row.state not in ("verified", "excluded", "dropped") for row in self.rows.values()):
            return
        for held in self.held:
            self.run(self.ledger.finish_segment(held))
        self.held = []
        self._finish_empty_segments()
        if any(row.state == "excluded" for row in self.rows.values()):
            return
        epoch = self.run(begin_pause(self.ledger, self.claim)).epoch
        number = self.run(self.ledger.begin_pass(self.claim, epoch)).number
        there = [row.source for _, row in sorted(self.rows.items()) if row.state == "verified"]
        state = self.run(self.ledger.record_page(self.claim, number, there, None, None))
        self.run(settled(self.ledger, self.claim, state))
        assert state.changed_objects == 0
        self.run(self.ledger.switch(self.claim, dedicating(epoch)))
        self.dedicated = True

    def _finish_empty_segments(self) -> None:
        while (claim := self.run(self.ledger.claim_segment("worker-1", LONG))) is not None:
            assert self.run(self.ledger.segment_rows(claim)) == []
            self.run(self.ledger.finish_segment(claim))

    @precondition(lambda self: self.dedicated)
    @rule()
    def plan_retirement(self) -> None:
        planned = self.run(self.ledger.plan_retirement(self.claim))
        for row in self.rows.values():
            if row.state == "verified":
                row.waits = "retire"
        assert (planned > 0) >= any(row.waits == "retire" for row in self.rows.values())

    @invariant()
    def counts_are_those_of_the_rows(self) -> None:
        if not hasattr(self, "claim"):
            return
        rows = self.rows.values()
        of = {
            "listed": [row for row in rows if row.state in LISTED],
            "verified": [row for row in rows if row.state in VERIFIED],
        }
        assert self.run(self.ledger.counts(self.claim)) == Counts(
            objects_listed=len(of["listed"]),
            objects_verified=len(of["verified"]),
            objects_excluded=sum(row.state == "excluded" for row in rows),
            objects_deleted=sum(row.state == "deleted" for row in rows),
            bytes_listed=sum(row.source.size_bytes for row in of["listed"]),
            bytes_verified=sum(row.source.size_bytes for row in of["verified"]),
        )

    def teardown(self) -> None:
        async def chain_holds() -> bool:
            records = [record async for record in self.ledger.audit_records("main")]
            return first_broken("main", records) is None

        try:
            assert self.run(chain_holds())
        finally:
            self.run(self.ledger.close())
            self.runner.close()
            self.folder.cleanup()


def test_any_course_of_events_is_as_the_model_says(migrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "ROWS_READ_MAX", AT_ONCE)
    ObjectLedgerMachine.migrated = migrated
    run_state_machine_as_test(
        ObjectLedgerMachine,
        settings=settings(
            max_examples=30,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
