"""Placements, step by step and in any order; patterns; which locations a job may name."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rekeyd.domain.errors import ConflictError, DistrustedError, RefusedError
from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import (
    LocationPattern,
    Placement,
    PlacementRecord,
    admitted_locations,
    dedicate,
    end_pause,
    in_effect,
    next_pause_epoch,
    open_writes,
    pause,
    serve,
    unplaced,
)

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # busy machines

SOURCE = Location("s3", "shared", "tenants/acme/")
TARGET = Location("s3", "byok-acme", "")
SHARED = PlacementRecord("acme", SOURCE, TARGET, "shared", 4, "pending")
TTL_SECONDS = 10.0


# --- the steps ---


def test_a_tenant_nobody_knows_is_where_the_pattern_says() -> None:
    placement = serve(unplaced("acme", SOURCE), now=100, ttl_seconds=10)

    assert (placement.phase, placement.epoch) == ("shared", 0)
    assert (placement.reads, placement.writes) == ((SOURCE,), (SOURCE,))
    assert (placement.deletes, placement.expires_at, placement.key_state) == ("allow", 110, None)


def test_a_pause_stops_writers_until_its_end() -> None:
    paused = pause(SHARED, now=100, seconds=60)

    during = serve(paused, now=159.9, ttl_seconds=10)
    assert (during.phase, during.epoch) == ("paused", 5)
    assert (during.reads, during.writes) == ((SOURCE,), ())
    after = serve(paused, now=160, ttl_seconds=10)
    assert (after.phase, after.epoch) == ("shared", 6)
    assert after.writes == (SOURCE,)


def test_ending_a_pause_early_is_the_same_return() -> None:
    paused = pause(SHARED, now=100, seconds=60)

    assert end_pause(paused, now=120) == in_effect(paused, now=160)
    assert end_pause(paused, now=200) == in_effect(paused, now=200)
    assert end_pause(SHARED, now=100) == SHARED


def test_only_shared_can_be_paused() -> None:
    paused = pause(SHARED, now=100, seconds=60)

    with pytest.raises(ConflictError, match="is paused"):
        pause(paused, now=159, seconds=60)
    assert pause(paused, now=160, seconds=60).epoch == 7


def test_dedicated_has_writers_wait_until_no_reader_looks_at_the_source() -> None:
    dedicated = dedicate(pause(SHARED, now=100, seconds=60), now=150, pause_epoch=5)

    closed = serve(dedicated, now=151, ttl_seconds=10)
    assert (closed.phase, closed.epoch, closed.writes_from) == ("dedicated", 7, None)
    assert (closed.reads, closed.writes) == ((TARGET,), ())
    opened = open_writes(dedicated, now=152, ttl_seconds=10)
    placement = serve(opened, now=153, ttl_seconds=10)
    assert (placement.phase, placement.epoch, placement.writes_from) == ("dedicated", 7, 162)
    assert (placement.reads, placement.writes) == ((TARGET,), (TARGET,))
    assert open_writes(opened, now=200, ttl_seconds=10) == opened


@pytest.mark.parametrize(
    ("record", "now", "pause_epoch"),
    [
        (SHARED, 100, 4),
        (pause(SHARED, now=100, seconds=60), 160, 5),
        (pause(SHARED, now=100, seconds=60), 150, 4),
        (pause(end_pause(pause(SHARED, 100, 60), 110), 120, 60), 130, 5),
    ],
    ids=["not-paused", "too-late", "another-pause", "the-pause-before"],
)
def test_dedicated_only_out_of_the_pause_of_the_last_pass(
    record: PlacementRecord, now: float, pause_epoch: int
) -> None:
    with pytest.raises(ConflictError, match="is over"):
        dedicate(record, now, pause_epoch)


def test_dedicated_is_final() -> None:
    dedicated = dedicate(pause(SHARED, now=100, seconds=60), now=150, pause_epoch=5)

    assert in_effect(dedicated, now=10**9) == dedicated
    assert end_pause(dedicated, now=151) == dedicated
    with pytest.raises(ConflictError):
        pause(dedicated, now=151, seconds=60)
    with pytest.raises(ConflictError):
        dedicate(dedicated, now=151, pause_epoch=7)


def test_only_dedicated_opens_the_target() -> None:
    with pytest.raises(ConflictError, match="is paused"):
        open_writes(pause(SHARED, now=100, seconds=60), now=110, ttl_seconds=10)


def test_the_switch_and_the_return_never_have_the_same_epoch() -> None:
    paused = pause(SHARED, now=100, seconds=60)

    epochs = [paused.epoch, in_effect(paused, 160).epoch, dedicate(paused, 110, paused.epoch).epoch]

    assert epochs == [5, 6, 7]


@pytest.mark.parametrize(
    ("record", "epoch"),
    [
        (SHARED, 5),
        (replace(SHARED, proposed_epoch=3), 5),
        (replace(SHARED, proposed_epoch=5), 7),
        (pause(SHARED, 0, 60), 7),
        (replace(pause(SHARED, 0, 60), proposed_epoch=5), 7),
        (replace(pause(SHARED, 0, 60), proposed_epoch=9), 11),
    ],
)
def test_a_proposed_epoch_is_above_all_before_it_and_their_returns(
    record: PlacementRecord, epoch: int
) -> None:
    assert next_pause_epoch(record, now=10) == epoch
    begun = pause(end_pause(replace(record, proposed_epoch=epoch), now=10), now=10, seconds=60)
    assert begun.epoch == epoch


def test_a_ledger_that_is_behind_serves_nothing() -> None:
    with pytest.raises(DistrustedError, match="older"):
        serve(replace(SHARED, distrusted="it is older"), now=100, ttl_seconds=10)


def test_nowhere_is_no_place_to_dedicate() -> None:
    paused = pause(unplaced("acme", SOURCE), now=100, seconds=60)

    with pytest.raises(AssertionError, match="without a target"):
        dedicate(paused, now=110, pause_epoch=1)


class PlacementSteps(RuleBasedStateMachine):
    """Any steps at any time, by daemons that may hold an old pause's epoch, watched by readers and writers."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.record = SHARED
        self.pause_epochs = [0]
        self.served: list[Placement] = []

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 9.999, 10.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def ask(self) -> None:
        self.served.append(serve(self.record, self.now, TTL_SECONDS))

    @rule(seconds=st.sampled_from([5.0, 10.0, 60.0]))
    def begin_pause(self, seconds: float) -> None:
        before = in_effect(self.record, self.now)
        try:
            self.commit(pause(self.record, self.now, seconds))
        except ConflictError:
            assert before.phase != "shared"
            return
        assert before.phase == "shared"
        self.pause_epochs.append(self.record.epoch)

    @rule()
    def give_up(self) -> None:
        self.commit(end_pause(self.record, self.now))
        assert self.record.phase != "paused"

    @rule(data=st.data())
    def switch(self, data: st.DataObject) -> None:
        pause_epoch = data.draw(st.sampled_from(self.pause_epochs))
        before = in_effect(self.record, self.now)
        try:
            self.commit(dedicate(self.record, self.now, pause_epoch))
        except ConflictError:
            assert (before.phase, before.epoch) != ("paused", pause_epoch)
            return
        assert (before.phase, before.epoch) == ("paused", pause_epoch)

    @precondition(lambda self: self.record.phase == "dedicated")
    @rule()
    def open(self) -> None:
        self.record = open_writes(self.record, self.now, TTL_SECONDS)

    @precondition(lambda self: self.record.phase == "dedicated")
    @rule()
    def stay(self) -> None:
        for step in (lambda: pause(self.record, self.now, 60), lambda: end_pause(self.record, self.now)):
            try:
                assert step() == self.record  # type: ignore[no-untyped-call]
            except ConflictError:
                assert self.record.phase == "dedicated"

    def commit(self, record: PlacementRecord) -> None:
        """As the ledger does: a step either changes nothing or begins a later epoch."""
        assert record == self.record or record.epoch > self.record.epoch
        self.record = record

    @invariant()
    def epochs_only_grow(self) -> None:
        epochs = [placement.epoch for placement in self.served]
        assert epochs == sorted(epochs)
        assert in_effect(self.record, self.now).epoch >= (epochs[-1] if epochs else 0)

    @invariant()
    def an_epoch_says_one_thing(self) -> None:
        said = {(each.epoch, each.phase, each.reads) for each in self.served}
        assert len(said) == len({epoch for epoch, *_ in said})
        written = {(each.epoch, each.writes, each.writes_from) for each in self.served if each.writes}
        assert len(written) == len({epoch for epoch, *_ in written})

    @invariant()
    def never_two_places_are_writable(self) -> None:
        writable = {
            location
            for each in self.served
            if self.now < each.expires_at and self.now >= (each.writes_from or 0)
            for location in each.writes
        }
        assert len(writable) <= 1

    @invariant()
    def no_reader_looks_at_the_source_once_the_target_is_written(self) -> None:
        current = in_effect(self.record, self.now)
        if current.writes_from is not None and self.now >= current.writes_from:
            fresh = [each for each in self.served if self.now < each.expires_at]
            assert all(each.reads == (TARGET,) for each in fresh)

    @invariant()
    def a_pause_ends_by_itself(self) -> None:
        if self.record.phase == "paused":
            assert self.record.pause_ends_at is not None
            ended = in_effect(self.record, self.record.pause_ends_at)
            assert (ended.phase, ended.pause_ends_at) == ("shared", None)


TestPlacementSteps = PlacementSteps.TestCase
TestPlacementSteps.settings = settings(patient, max_examples=200, stateful_step_count=30)


# --- patterns ---


def pattern(text: str) -> LocationPattern:
    return LocationPattern.parse(text, "pattern")


def test_a_pattern_gives_a_tenants_location() -> None:
    acme = hashlib.sha256(b"acme").hexdigest()[:16]

    assert pattern("s3://shared/tenants/{tenant}/").locate("acme", "source") == SOURCE
    assert pattern("s3://byok-{tenant_hash}/").locate("acme", "target").bucket == f"byok-{acme}"
    both = pattern("s3://byok-{tenant_hash}/{tenant}/").locate("{tenant_hash}", "target")
    assert both.prefix == "{tenant_hash}/"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s3://shared/tenants/",
        "s3://shared/{name}/",
        "s3://shared/{tenant}/{name}/",
        "s3://shared/{tenant}/{/",
        "s3://shared/{tenant",
        "s3://shared/{tenant}",
        "s3://shared/{ tenant }/",
        "shared/{tenant}/",
        "s3://Shared/{tenant}/",
    ],
)
def test_what_is_no_pattern_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(RefusedError) as refused:
        LocationPattern.parse(text, "migrate.source_pattern")
    assert refused.value.field == "migrate.source_pattern"


def test_a_name_that_makes_no_bucket_is_refused() -> None:
    with pytest.raises(RefusedError) as refused:
        pattern("s3://byok-{tenant}/").locate("Acme", "target")
    assert refused.value.field == "target"


names = st.text("abAB01._-", min_size=1, max_size=8)
texts = st.sampled_from(
    ["s3://shared/{tenant}/", "s3://shared/x-{tenant}/", "s3://b-{tenant_hash}/", "s3://b-{tenant}/"]
)


@patient
@given(names, names, texts)
def test_no_two_tenants_overlap(one: str, other: str, text: str) -> None:
    assume(one != other)
    try:
        located = pattern(text).locate(one, "f"), pattern(text).locate(other, "f")
    except RefusedError:
        return
    assert not located[0].overlaps(located[1])


# --- what a job may name ---


def admitted(source: str, target: str | None) -> tuple[Location, Location]:
    return admitted_locations(
        "acme", source, target, pattern("s3://shared/tenants/{tenant}/"), pattern("s3://byok-{tenant}/")
    )


@pytest.mark.parametrize("target", [None, "s3://byok-acme/"])
def test_what_the_patterns_give_is_admitted(target: str | None) -> None:
    assert admitted("s3://shared/tenants/acme/", target) == (SOURCE, TARGET)


@pytest.mark.parametrize(
    ("source", "target", "field"),
    [
        ("s3://shared/tenants/other/", None, "source"),
        ("s3://shared/tenants/", None, "source"),
        ("s3://shared/tenants/acme/x/", None, "source"),
        ("s3://shared/tenants/acme", None, "source"),
        ("other://shared/tenants/acme/", None, "source"),
        ("", None, "source"),
        ("s3://shared/tenants/acme/", "s3://byok-other/", "target"),
        ("s3://shared/tenants/acme/", "s3://byok-acme/x/", "target"),
        ("s3://shared/tenants/acme/", "s3://shared/tenants/acme/", "target"),
        ("s3://shared/tenants/acme/", "s3://shared/tenants/", "target"),
        ("s3://shared/tenants/acme/", "s3://shared/tenants/acme/x/", "target"),
        ("s3://shared/tenants/acme/", "", "target"),
    ],
)
def test_any_other_location_is_refused(source: str, target: str | None, field: str) -> None:
    with pytest.raises(RefusedError) as refused:
        admitted(source, target)
    assert refused.value.field == field


def test_patterns_that_overlap_for_a_tenant_are_refused() -> None:
    with pytest.raises(RefusedError, match="overlap"):
        admitted_locations(
            "acme", str(TARGET), None, pattern("s3://byok-{tenant}/"), pattern("s3://byok-{tenant}/x/")
        )
