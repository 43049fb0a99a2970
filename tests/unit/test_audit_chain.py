"""domain.audit: whatever is done to a chain afterwards is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekeyd.domain.audit import GENESIS, AuditRecord, canonical_json, first_broken, seal

BODIES = st.dictionaries(
    st.text(max_size=5), st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)), max_size=3
)


def chain_of(bodies: Sequence[Mapping[str, object]]) -> list[AuditRecord]:
    records: list[AuditRecord] = []
    for number, body in enumerate(bodies, start=1):
        records.append(seal("main", number, body, records[-1].hash if records else GENESIS))
    return records


CHAINS = st.lists(BODIES, min_size=1, max_size=6).map(chain_of)


@given(CHAINS)
def test_an_untouched_chain_holds(records: list[AuditRecord]) -> None:
    assert first_broken("main", records) is None


@given(CHAINS, st.data())
def test_any_change_of_a_record_is_found(records: list[AuditRecord], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(records) - 1))
    field = data.draw(st.sampled_from(["sequence", "body", "previous_hash", "hash"]))
    was = getattr(records[at], field)
    changed = data.draw((st.integers() if field == "sequence" else st.text()).filter(lambda new: new != was))
    change: dict[str, Any] = {field: changed}
    records[at] = replace(records[at], **change)

    broken = first_broken("main", records)

    assert broken is not None
    assert broken.sequence in (at + 1, at + 2)


@given(CHAINS, st.data())
def test_any_removal_but_of_the_end_is_found(records: list[AuditRecord], data: st.DataObject) -> None:
    """Of the end no chain can tell by itself: checkpoints signed elsewhere do."""
    at = data.draw(st.integers(0, len(records) - 1))
    del records[at]

    broken = first_broken("main", records)

    assert (broken is None) == (at == len(records))
    assert broken is None or broken.sequence == at + 1


@given(CHAINS, st.data())
def test_any_swap_is_found(records: list[AuditRecord], data: st.DataObject) -> None:
    one = data.draw(st.integers(0, len(records) - 1))
    two = data.draw(st.integers(0, len(records) - 1))
    records[one], records[two] = records[two], records[one]

    broken = first_broken("main", records)

    assert (broken is None) == (one == two)
    assert broken is None or broken.sequence == min(one, two) + 1


@given(CHAINS, st.data())
def test_a_record_put_in_is_found(records: list[AuditRecord], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(records) - 1))
    before = records[at - 1].hash if at else GENESIS
    records.insert(at, seal("main", at + 1, {"forged": True}, before))

    broken = first_broken("main", records)

    assert broken is not None
    assert broken.sequence == at + 2


@given(CHAINS)
def test_a_record_of_another_chain_is_found(records: list[AuditRecord]) -> None:
    assert first_broken("other", records) is not None


@given(BODIES)
def test_there_is_one_way_to_write_a_value(body: dict[str, object]) -> None:
    assert canonical_json(body) == canonical_json(dict(reversed(body.items())))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x"])
def test_what_json_lacks_is_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        canonical_json(value)
